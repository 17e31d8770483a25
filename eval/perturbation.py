"""The same histories with another future: what a prediction must not notice.

Shapes: N = events (rows of the histories), X = perturbed events, U = users, I = items.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np
import polars as pl

from ..arrays import Bool, Int64
from ..histories import Histories, build_histories

Variant = Literal["changed", "deleted"]
VARIANTS: Final[tuple[Variant, ...]] = get_args(Variant)

_MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class Perturbed:
    """Histories with another future, in which `num` events are others now, or gone; all users keep their index.

    `row_N`, int64 [N], is where each event of the original stands now; -1 where it is gone.
    """

    histories: Histories
    row_N: Int64
    num: int


def later_events(histories: Histories, row: int) -> Bool:
    """bool [N]: events that are not known when the event in `row` is predicted, which itself is not among them.

    Of its own user those are the rows after it, whatever their time; of all others those that are not strictly
    earlier, to the microsecond.
    """
    time_N = histories.events["time"].dt.epoch("us").to_numpy()
    begin, end = histories.offset_U1[histories.user_idx_N[row] + np.arange(2)]
    later_N: Bool = time_N >= time_N[row]
    later_N[begin : row + 1] = False
    later_N[row + 1 : end] = True
    return later_N


def perturbed_after(histories: Histories, row: int, item: int, variant: Variant, seed: int) -> Perturbed:
    """Another future from the event in `row` on, which chooses `item` (by index) now, whatever is known of it before.

    "changed": every later event (see `later_events`) is at a random item, with weather and further columns of random
    other events, at a random time that is not earlier than the event's; a third of them at that very time, which may
    not be known either. "deleted": there are no later events.
    """
    later_N, random = later_events(histories, row), np.random.default_rng([seed, row])
    # What follows from the choice is unknown.
    outcome = {"event", "value"} | ({"latitude", "longitude"} if histories.location == "outcome" else set())
    chosen: dict[str, int | str | None] = dict.fromkeys(outcome & set(histories.events.columns))
    chosen |= {"item_idx": item, "item_id": histories.items["item_id"][item]}
    here, schema = pl.int_range(pl.len()) == row, histories.events.schema
    events = histories.events.with_columns(
        pl.when(here).then(pl.lit(value, schema[name])).otherwise(name).alias(name) for name, value in chosen.items()
    )
    if variant == "deleted":
        row_N = np.where(later_N, -1, np.cumsum(~later_N) - 1)
        return Perturbed(_rebuilt(histories, events.filter(~later_N), f"{row} deleted"), row_N, int(later_N.sum()))
    at_X = np.flatnonzero(later_N)
    events = _with_times(_with_others(events, histories, at_X, random), histories, row, at_X, random)
    return Perturbed(_rebuilt(histories, events, f"{row} changed {seed}"), np.arange(len(later_N)), len(at_X))


def perturbed_events(histories: Histories, which_N: Bool, seed: int) -> Perturbed:
    """Random items, weather and further columns for some events, at their times."""
    at_X = np.flatnonzero(which_N)
    events = _with_others(histories.events, histories, at_X, np.random.default_rng(seed))
    perturbed = _rebuilt(histories, events, f"{len(at_X)} events {seed}")
    return Perturbed(perturbed, np.arange(histories.events.height), len(at_X))


def _with_others(
    events: pl.DataFrame, histories: Histories, at_X: Int64, random: np.random.Generator
) -> pl.DataFrame:  # fmt: skip
    """The events with random items in the rows `at_X`, and all else but time and split from random rows."""
    source_N = np.arange(events.height)
    source_N[at_X] = random.integers(0, events.height, len(at_X))
    item_N = events["item_idx"].to_numpy().copy()
    item_N[at_X] = random.integers(0, histories.items.height, len(at_X))
    stay = {"user_id", "user_idx", "split", "item_id", "item_idx", "time", "local_time"}
    further = [name for name in events.columns if name not in stay]
    return events.with_columns(
        pl.Series("item_idx", item_N, events.schema["item_idx"]),
        histories.items["item_id"].gather(item_N).alias("item_id"),
        *(events[name].gather(source_N) for name in further),
    )


def _with_times(
    events: pl.DataFrame, histories: Histories, row: int, at_X: Int64, random: np.random.Generator
) -> pl.DataFrame:  # fmt: skip
    """The events with random times in the rows `at_X`, from that of `row` on; the order within users stays one of time.

    Local times move along with the times.
    """
    time_N = events["time"].dt.epoch("us").to_numpy().copy()
    now, last = int(time_N[row]), int(time_N.max())
    second_X = random.integers(0, (last - now) // _MICROSECONDS + 86_400, len(at_X))
    second_X[random.random(len(at_X)) < 1 / 3] = 0
    order_X = np.lexsort((second_X, histories.user_idx_N[at_X]))  # rows are sorted by user, and so is at_X
    new_N = time_N.copy()
    new_N[at_X] = now + second_X[order_X] * _MICROSECONDS
    moved = pl.Series(new_N - time_N).cast(pl.Duration("us"))
    return events.with_columns(pl.col("time") + moved, pl.col("local_time") + moved)


def _rebuilt(histories: Histories, events: pl.DataFrame, what: str) -> Histories:
    # Another fingerprint, or a ranker that remembers by it would answer without looking.
    manifest = histories.manifest | {"data_hash": f"perturbed: {what}"}
    built = build_histories(events, histories.items, manifest)
    bounds_U1 = np.arange(len(histories.user_ids) + 1)
    offset_U1 = np.searchsorted(built.user_idx_N, bounds_U1).astype(np.int64)
    return replace(built, user_ids=histories.user_ids, offset_U1=offset_U1)
