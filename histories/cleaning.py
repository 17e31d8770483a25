"""Declared cleaning of events: repeats, impossible speeds, robots and rare users, each rejected with its reason."""

from typing import Final

import numpy as np
import polars as pl

from ..errors import DataError
from .distance import distance_km, points_of
from .fields import clean_fields
from .reading import ROW
from .rejects import Notes, Rejects
from .settings import CleanSettings, Location

_LEAST_S: Final = 1.0  # between events of the same second


def clean_declared(
    events: pl.DataFrame, settings: CleanSettings, *, source: str, context_columns: list[str], location: Location,
    rejects: Rejects, notes: Notes,
) -> pl.DataFrame:  # fmt: skip
    """Events without those that the settings reject, in the order in which they came; see `CleanSettings`.

    `events` have `_row`, `user_id`, `item_id`, `time`, `local_time`, `latitude` and `longitude`. Raises DataError: no
    event is left. ConfigError: see `clean_fields`.
    """
    kept = events
    if settings.same_within_s is not None:
        kept = _without_repeats(kept, settings.same_within_s, source, rejects)
    if settings.max_speed_kmh is not None:
        kept = _without_leaps(kept, settings.max_speed_kmh, source, rejects)
    if settings.max_events_per_day is not None:
        busiest = pl.len().over("user_id", pl.col("local_time").dt.date()).max().over("user_id")
        reason = f"robot: a day of more than {settings.max_events_per_day} events"
        kept = rejects.take(
            kept, busiest > settings.max_events_per_day, source=source, reason=reason, detail=pl.col("user_id")
        )
    kept = clean_fields(
        kept, settings.fields, context_columns=context_columns, location=location, source=source, rejects=rejects,
        notes=notes,
    )  # fmt: skip
    if settings.min_user_events is not None:
        reason = f"user of fewer than {settings.min_user_events} events"
        few = pl.len().over("user_id") < settings.min_user_events
        kept = rejects.take(kept, few, source=source, reason=reason, detail=pl.col("user_id"))
    if events.height and not kept.height:
        raise DataError(
            f"histories.clean rejects each of the {events.height:,} events of {source}; make it less strict."
        )
    return kept


def demand_few_rejects(rejects: Rejects, settings: CleanSettings, *, source: str, num_rows: int) -> None:
    """Raise DataError where more than the allowed share of the rows of the events table is rejected."""
    counts = {reason: num for reason, num in rejects.counts().items() if reason.startswith(f"{source}: ")}
    num = sum(counts.values())
    if settings.max_reject_share is not None and num > settings.max_reject_share * num_rows:
        most = ", ".join(f"{reason.removeprefix(f'{source}: ')} {some:,}" for reason, some in list(counts.items())[:4])
        raise DataError(
            f"{source} should have at most {settings.max_reject_share:.1%} of its rows rejected but {num:,} of "
            f"{num_rows:,} are ({most}); correct the data or the mapping, or raise histories.clean.max_reject_share."
        )


def _without_repeats(events: pl.DataFrame, within_s: float, source: str, rejects: Rejects) -> pl.DataFrame:
    gap = pl.col("time").diff().over("user_id", "item_id", order_by=["time", ROW])
    repeated = gap.dt.total_microseconds() <= within_s * 1e6
    reason = f"same item within {within_s:g} s"
    detail = pl.concat_str("user_id", "item_id", pl.col("time").cast(pl.String), separator=", ")
    return rejects.take(events, repeated, source=source, reason=reason, detail=detail)


def _without_leaps(events: pl.DataFrame, max_kmh: float, source: str, rejects: Rejects) -> pl.DataFrame:
    """Each pass rejects the first event of each user that is too far from the one before: the way back is then none."""
    while True:
        placed = events.filter(pl.col("latitude").is_not_null(), pl.col("longitude").is_not_null())
        placed = placed.sort("user_id", "time", ROW).select(ROW, "user_id", "time", "latitude", "longitude")
        if placed.height < 2:
            return events
        point_N3, time_s_N = points_of(placed), placed["time"].dt.epoch("us").to_numpy() / 1e6
        hours_N = np.maximum(np.diff(time_s_N, prepend=time_s_N[0]), _LEAST_S) / 3600
        speed_N = distance_km(point_N3, np.roll(point_N3, 1, axis=0)) / hours_N
        fast = placed.select(
            ROW, "user_id", pl.Series("_kmh", speed_N), (pl.col("user_id") == pl.col("user_id").shift(1)).alias("_next")
        ).filter("_next", pl.col("_kmh") > max_kmh).unique("user_id", keep="first", maintain_order=True)  # fmt: skip
        if not fast.height:
            return events
        events = events.join(fast.select(ROW, "_kmh"), on=ROW, how="left", maintain_order="left")
        detail = pl.format("{} km/h from the place before", pl.col("_kmh").round(0))
        reason = f"faster than {max_kmh:g} km/h"
        events = rejects.take(events, pl.col("_kmh").is_not_null(), source=source, reason=reason, detail=detail)
        events = events.drop("_kmh")
