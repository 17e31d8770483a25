"""Privacy: pseudonyms, coarse places and times, no rare items; a report of what was done."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..arrays import Float64
from ..errors import ConfigError, DataError
from .distance import KM_PER_DEGREE
from .pseudonyms import Pseudonyms
from .reading import ROW
from .rejects import Rejects
from .settings import PrivacySettings

_DECIMALS: Final = 5


@dataclass(frozen=True)
class Privacy:
    """What is done to events and to later requests."""

    settings: PrivacySettings
    pseudonyms: Pseudonyms

    @classmethod
    def of(cls, settings: PrivacySettings | None) -> "Privacy | None":
        """None where nothing is hidden. Raises ConfigError: see `Pseudonyms.of`."""
        return None if settings is None else cls(settings, Pseudonyms.of(settings))

    def with_pseudonyms(self, events: pl.DataFrame) -> pl.DataFrame:
        """Events with a pseudonym as `user_id`."""
        return events.with_columns(self.pseudonyms.of_ids(events["user_id"]).alias("user_id"))

    def without_rare_items(
        self, events: pl.DataFrame, items: pl.DataFrame | None, source: str, rejects: Rejects
    ) -> tuple[pl.DataFrame, pl.DataFrame | None]:  # fmt: skip
        """Events and items without the items of too few users; items that no user has chosen stay.

        Raises DataError: no event is left.
        """
        fewest = self.settings.min_item_users
        if fewest is None:
            return events, items
        num_users = events.group_by("item_id").agg(pl.col("user_id").n_unique().alias("num"))
        rare = num_users.filter(pl.col("num") < fewest)["item_id"]
        if len(rare) == num_users.height:
            raise DataError(
                f"Each of the {len(rare):,} items of {source} has fewer than {fewest} users, so histories.privacy "
                "leaves no event; lower histories.privacy.min_item_users."
            )
        reason, is_rare = f"item of fewer than {fewest} users", pl.col("item_id").is_in(rare.implode())
        events = rejects.take(events, is_rare, source=source, reason=reason, detail=pl.lit(None, pl.String))
        return events, None if items is None else items.filter(~is_rare)

    def coarse(self, events: pl.DataFrame) -> pl.DataFrame:
        """Events with coarse places and times, in the order of their exact times, by which `_row` counts them anew.

        A day without a known hour stays as it is.
        """
        events = events.sort("time", ROW).with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(ROW))
        km, minutes = self.settings.cell_km, self.settings.round_minutes
        if km is not None and events["latitude"].count():
            place_2N = _coarse_places(events["latitude"].to_numpy(), events["longitude"].to_numpy(), km)
            names = ("latitude", "longitude")
            columns = (
                pl.Series(name, degrees_N, nan_to_null=True) for name, degrees_N in zip(names, place_2N, strict=True)
            )
            events = events.with_columns(columns)
        if minutes is not None:
            less = pl.col("time") - pl.col("time").dt.truncate(f"{minutes}m")
            less = pl.when("hour_known").then(less).otherwise(pl.duration(microseconds=0))
            events = events.with_columns(pl.col("time", "local_time") - less)
        return events

    def user(self, user_id: str) -> str:
        """How the histories call a user."""
        return self.pseudonyms.of_id(user_id)

    def time(self, time: datetime) -> datetime:
        """A time as the histories hold it."""
        minutes = self.settings.round_minutes
        since = timedelta(minutes=minutes) if minutes else time.resolution
        return time - (time - datetime(1970, 1, 1, tzinfo=time.tzinfo)) % since

    def place(self, *, latitude: float, longitude: float) -> tuple[float, float]:
        """A place as the histories hold it, in degrees."""
        if self.settings.cell_km is None:
            return latitude, longitude
        place_21 = _coarse_places(np.array([latitude]), np.array([longitude]), self.settings.cell_km)
        return float(place_21[0][0]), float(place_21[1][0])

    def report(self, events: pl.DataFrame, rejects: Rejects) -> dict[str, Any]:
        """What was done to the events that are left, for the manifest."""
        reason = f"item of fewer than {self.settings.min_item_users} users"
        rare = sum(num for what, num in rejects.counts().items() if what.endswith(reason))
        return {
            "key_check": self.pseudonyms.check,
            "num_pseudonyms": events["user_id"].n_unique(),
            "cell_km": self.settings.cell_km,
            "num_places": events.select("latitude", "longitude").drop_nulls().n_unique(),
            "round_minutes": self.settings.round_minutes,
            "min_item_users": self.settings.min_item_users,
            "num_events_at_rare_items": rare,
        }


def privacy_of_run(settings: PrivacySettings | None, prepared: dict[str, Any] | None) -> Privacy | None:
    """How the ids of requests become those of a prepared run; `prepared` is what its manifest says of privacy.

    Raises ConfigError: the run was prepared with another key, or one of both has privacy and the other has not.
    """
    privacy = Privacy.of(settings)
    if (privacy is None) != (prepared is None):
        was, now = ("without", "sets") if prepared is None else ("with", "does not set")
        raise ConfigError(
            f"The run was prepared {was} histories.privacy but the configuration {now} it; prepare again, or correct "
            "the configuration."
        )
    if privacy and prepared and privacy.pseudonyms.check != prepared["key_check"]:
        raise ConfigError(
            "The run was prepared with another key of histories.privacy, so no user would be found; set that key, or "
            "prepare again."
        )
    return privacy


def _coarse_places(latitude_X: NDArray[Any], longitude_X: NDArray[Any], km: float) -> tuple[Float64, Float64]:
    """The middles of the squares of places, in degrees: float64 [X] each; NaN for an unknown place."""
    step = km / KM_PER_DEGREE
    middle_X = np.clip((np.floor(latitude_X / step) + 0.5) * step, -90.0, 90.0)
    # As wide as at the middle of the row, so that all places of a row are divided alike.
    width_X = np.minimum(step / np.maximum(np.cos(np.radians(middle_X)), 1e-9), 360.0)
    east_X = np.minimum((np.floor((longitude_X + 180) / width_X) + 0.5) * width_X - 180, 180.0)
    return np.round(middle_X, _DECIMALS), np.round(east_X, _DECIMALS)
