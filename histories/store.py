"""The prepared histories of a run folder."""

import bisect
import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ..errors import DataError, UnknownUserError, first_line
from ..files import read_object
from .settings import Location, Protocol
from .splitting import HISTORY, SPLITS

FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class Histories:
    """All events of all users, sorted by user, time and source row; U users, N events. Equal only to itself.

    Attributes:
        events: one row an event; columns as in events.parquet.
        items: one row an item; the row number is `item_idx`.
        user_ids: id of each `user_idx`.
        offset_U1: int64 [U + 1]; events of user u are the rows offset_U1[u]:offset_U1[u + 1].
        user_idx_N, item_idx_N: int32 [N].
        time_s_N: int64 [N], unix seconds UTC.
        split_N: int8 [N]; 0 train, 1 valid, 2 test, 3 history: neither fitted on nor predicted.
        location: whether the coordinates of an event are known before it ("context") or are those of the chosen
            item ("outcome", never to be shown when that item is predicted).
        manifest: what the data was made from; `data_hash` and `catalogue_hash` are its fingerprints.
    """

    events: pl.DataFrame
    items: pl.DataFrame
    user_ids: list[str]
    offset_U1: npt.NDArray[np.int64]
    user_idx_N: npt.NDArray[np.int32]
    item_idx_N: npt.NDArray[np.int32]
    time_s_N: npt.NDArray[np.int64]
    split_N: npt.NDArray[np.int8]
    location: Location
    manifest: dict[str, Any] = field(repr=False)

    @property
    def data_hash(self) -> str:
        return str(self.manifest["data_hash"])

    @property
    def protocol(self) -> Protocol:
        """How the events were split; see SplitSettings."""
        protocol: Protocol = self.manifest.get("settings", {}).get("split", {}).get("protocol", "global_time")
        return protocol

    @property
    def shared_N(self) -> npt.NDArray[np.bool_]:
        """bool [N]: events that may count when other users are predicted, at later times.

        All but, under user_cold_start, the history of users without a training event: counting is how rankers that
        count are trained, and of held-out users no model has learnt.
        """
        history_N: npt.NDArray[np.bool_] = self.split_N == HISTORY
        if self.protocol != "user_cold_start":
            return np.ones_like(history_N)
        is_trained_U = np.bincount(self.user_idx_N[self.split_N == 0], minlength=len(self.user_ids)) > 0
        return ~history_N | is_trained_U[self.user_idx_N]

    @property
    def catalogue_hash(self) -> str:
        return str(self.manifest["catalogue_hash"])

    @property
    def title_recipe(self) -> dict[str, Any]:
        """How the items got their titles; see `CatalogueSettings.recipe`."""
        return dict(self.manifest.get("title_recipe") or {})

    def user(self, user_id: str) -> int:
        """`user_idx` of a user. Raises UnknownUserError: there is no such user; names the nearest ids."""
        # user_ids is sorted, so that a look-up needs no dictionary of all users.
        at = bisect.bisect_left(self.user_ids, user_id)
        if at < len(self.user_ids) and self.user_ids[at] == user_id:
            return at
        near = difflib.get_close_matches(user_id, self.user_ids, n=3, cutoff=0.3) or self.user_ids[:3]
        raise UnknownUserError(
            f"There is no user {user_id!r} among {len(self.user_ids)}; did you mean {', '.join(near)}?"
        )


def histories_folder(run: Path) -> Path:
    """Where `prepare` writes within a run folder."""
    return run / "histories"


def check_prepared(run: Path) -> None:
    """Raise DataError for a run folder that is not prepared."""
    if not (histories_folder(run) / "manifest.json").is_file():
        raise DataError(f"{run} holds no prepared histories; run `whereupon prepare` first.")


def read_histories(run: Path) -> Histories:
    """Read what `prepare` wrote.

    Raises DataError: the run folder is not prepared, or was prepared by another version.
    """
    folder = histories_folder(run)
    check_prepared(run)
    try:
        manifest = read_object(folder / "manifest.json")
    except DataError as error:
        raise DataError(f"{folder} is damaged ({first_line(error)}); run `whereupon prepare` again.") from None
    if manifest.get("format") != FORMAT_VERSION:
        raise DataError(f"{folder} was written by another version of whereupon; run `whereupon prepare` again.")
    try:
        events, items = pl.read_parquet(folder / "events.parquet"), pl.read_parquet(folder / "items.parquet")
    except (OSError, pl.exceptions.PolarsError):
        raise DataError(f"{folder} lacks readable events or items; run `whereupon prepare` again.") from None
    if (events.height, items.height) != (manifest["num_events"], manifest["num_items"]):
        raise DataError(f"{folder} is incomplete (its manifest has other row counts); run `whereupon prepare` again.")
    return build_histories(events, items, manifest)


def build_histories(events: pl.DataFrame, items: pl.DataFrame, manifest: dict[str, Any]) -> Histories:
    """Arrays beside the tables; `events` must be sorted by `user_idx`."""
    first = events.select("user_idx", "user_id").unique("user_idx", keep="first", maintain_order=True)
    user_idx_N = events["user_idx"].to_numpy(writable=True)
    split = events["split"].replace_strict(list(SPLITS), range(len(SPLITS)), return_dtype=pl.Int8)
    return Histories(
        events=events,
        items=items,
        user_ids=first["user_id"].to_list(),
        offset_U1=np.searchsorted(user_idx_N, np.arange(first.height + 1)).astype(np.int64),
        user_idx_N=user_idx_N,
        item_idx_N=events["item_idx"].to_numpy(writable=True),
        time_s_N=events["time"].dt.epoch("s").to_numpy(writable=True),
        split_N=split.to_numpy(writable=True),
        location=manifest["location"],
        manifest=manifest,
    )
