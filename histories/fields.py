"""Columns of numbers and labels: outliers are rejected or emptied, missing values filled, by events before only."""

from datetime import timedelta
from typing import Final

import polars as pl

from ..errors import ConfigError
from .coordinates import known_place
from .distance import KM_PER_DEGREE
from .parsing import counted_floats
from .reading import ROW
from .rejects import Notes, Rejects
from .settings import FieldSettings, Location

_FEWEST: Final = 30  # values, before mean and quartiles say what an outlier is
_GROWTH: Final = 1.05  # statistics are computed anew whenever this many times as many values are known
_STATISTICS: Final = dict.fromkeys(("mean", "std", "low", "median", "high"), pl.Float64)
_DIGITS: Final = 6  # of a mean that is filled in: more would be read as exact
_SQUARES: Final = (1 / 16, 1 / 4, 1.0)


def clean_fields(
    events: pl.DataFrame, fields: dict[str, FieldSettings], *, context_columns: list[str], location: Location,
    source: str, rejects: Rejects, notes: Notes,
) -> pl.DataFrame:  # fmt: skip
    """Events with the columns of `fields` cleaned, in the order in which they came; see `FieldSettings`.

    `events` have `_row`, `user_id`, `time`, `latitude` and `longitude`. `notes` counts what stays missing. Raises
    ConfigError: a column that the events do not have.
    """
    known = [name for name in ("value", *context_columns) if name in events.columns]
    for name, field in fields.items():
        if name not in known:
            has = f"have only {', '.join(known)}" if known else "have no such column"
            raise ConfigError(
                f"histories.clean.fields names {name!r} but the events {has}; correct it, or add it to "
                "histories.context_columns."
            )
        if field.is_of_numbers:
            events = events.with_columns(counted_floats(events[name], notes, f"{source}, {name}"))
        events = _without_outliers(events, name, field, source, rejects)
        events = _filled(events, name, field, location, source, rejects)
        if field.missing not in ("keep", "drop") and (left := events[name].null_count()):
            notes[f"{source}, {name}: no event before to fill the value from, left empty"] += left
    return events


def _without_outliers(
    events: pl.DataFrame, name: str, field: FieldSettings, source: str, rejects: Rejects
) -> pl.DataFrame:  # fmt: skip
    kinds = _outliers(events, name, field)
    marks = [f"_outlier{number}" for number in range(len(kinds))]
    events = events.hstack([marked.alias(mark) for mark, marked in zip(marks, kinds.values(), strict=True)])
    for mark, reason in zip(marks, kinds, strict=True):
        if field.outliers == "empty":
            emptied = events.select(pl.when(~pl.col(mark)).then(name)).to_series()
            events = rejects.change(events, name, emptied, source=source, reason=reason)
        else:
            detail = pl.format(f"{name} is {{}}", name)
            events = rejects.take(events, pl.col(mark), source=source, reason=reason, detail=detail)
    return events.drop(marks)


def _outliers(events: pl.DataFrame, name: str, field: FieldSettings) -> dict[str, pl.Series]:
    """Marks (bool [N]) of each kind of outlier, by its reason; a value counts for the first kind that it is of.

    What is impossible is no part of the statistics. A possible value is part of them, whether it is an outlier or not:
    else a lasting change of the values would be rejected for ever.
    """
    x, found = pl.col(name), dict[str, pl.Expr]()
    if field.min is not None:
        found[f"{name} below {field.min:g}"] = x < field.min
    if field.max is not None:
        found[f"{name} above {field.max:g}"] = x > field.max
    table = events
    if field.max_z is not None or field.max_iqr is not None:
        impossible = pl.any_horizontal(pl.lit(False), *found.values()).fill_null(False)
        possible = events.select("time", pl.when(~impossible).then(x).alias(name))
        table = events.select(name).hstack(statistics_before(possible, name))
        enough = pl.col("count") >= _FEWEST
    if field.max_z is not None:
        far = (x - pl.col("mean")).abs() > field.max_z * pl.col("std")
        reason = f"{name} more than {field.max_z:g} standard deviations from the mean"
        found[reason] = far & (pl.col("std") > 0) & enough
    if field.max_iqr is not None:
        spread = pl.col("high") - pl.col("low")
        far = (x < pl.col("low") - field.max_iqr * spread) | (x > pl.col("high") + field.max_iqr * spread)
        reason = f"{name} more than {field.max_iqr:g} interquartile ranges off the quartiles"
        found[reason] = far & (spread > 0) & enough
    return {reason: table.select(bad.fill_null(False)).to_series() for reason, bad in found.items()}


def statistics_before(events: pl.DataFrame, name: str) -> pl.DataFrame:
    """Statistics of the values of column `name` at strictly earlier times than each event's, in the order of `events`.

    Of all earlier values they leave out the latest ones, at most about a twentieth: so that a value enters few of them,
    and the whole costs some twenty passes over the column.

    `count`, `mean`, `std`, `low`, `median` and `high` (the quartiles); null where there is no earlier value.
    """
    given = events.select("time", pl.col(name).alias("x")).drop_nulls("x").sort("time")
    nums, num = [], 1
    while num <= given.height:
        nums.append(num)
        num = max(num + 1, int(num * _GROWTH))
    none = pl.DataFrame(schema={"_after": events.schema["time"], "count": pl.Int64, **_STATISTICS})
    known = pl.concat([none, *(_of_first(given, num) for num in nums)])
    query = events.select("time").with_row_index("_at").sort("time")
    found = query.join_asof(
        known, left_on="time", right_on="_after", strategy="backward", allow_exact_matches=False, coalesce=False
    )
    return found.sort("_at").select("count", *_STATISTICS)


def _of_first(given: pl.DataFrame, num: int) -> pl.DataFrame:
    """Statistics of the first values, which are all known after the last of their times."""
    x = pl.col("x")
    return given.head(num).select(
        pl.col("time").last().alias("_after"), pl.len().cast(pl.Int64).alias("count"), x.mean().alias("mean"),
        x.std().alias("std"), x.quantile(0.25, "linear").alias("low"), x.median().alias("median"),
        x.quantile(0.75, "linear").alias("high"),
    )  # fmt: skip


def _filled(
    events: pl.DataFrame, name: str, field: FieldSettings, location: Location, source: str, rejects: Rejects
) -> pl.DataFrame:  # fmt: skip
    if field.missing == "keep":
        return events
    if field.missing == "drop":
        absent = pl.col(name).is_null()
        detail = pl.format("user {} at {}", "user_id", "time")
        return rejects.take(events, absent, source=source, reason=f"missing {name}", detail=detail)
    if field.missing == "nearest":
        value, reason = _nearest(events, name, field, location), "missing, filled from the nearest event before"
    else:
        value = statistics_before(events, name)[field.missing].round_sig_figs(_DIGITS)
        reason = f"missing, filled by the {field.missing} of events before"
    return rejects.change(events, name, events[name].fill_null(value), source=source, reason=reason)


def _nearest(events: pl.DataFrame, name: str, field: FieldSettings, location: Location) -> pl.Series:
    """The latest earlier value in the smallest square around each event's place that has one, null where none has.

    Where no event has a place, it is the latest earlier value.
    """
    ours = events.select("user_id", "time", ROW, name, "latitude", "longitude").with_row_index("_at")
    ours = ours.sort("user_id", "time", ROW)
    ours = ours.with_columns(known_place(axis, location).alias(axis) for axis in ("latitude", "longitude"))
    ours = ours.sort("time")
    columns = []
    for share in _SQUARES if ours["latitude"].count() else ():
        square = _square(field.within_km * share)
        columns.append(_latest_before(ours.with_columns(square.alias("_square")), name, field.within_hours, "_square"))
    if not columns:
        columns.append(_latest_before(ours, name, field.within_hours, None))
    return ours.select("_at", pl.coalesce(columns).alias("_value")).sort("_at")["_value"]


def _latest_before(ours: pl.DataFrame, name: str, within_hours: float, by: str | None) -> pl.Series:
    """The latest value before each event, of those equal in `by`; `ours` are sorted by time."""
    given = ours.drop_nulls([name, by] if by else name)
    given = given.select(pl.col("time").alias("_when"), pl.col(name).alias("_value"), *([by] if by else []))
    found = ours.join_asof(
        given, left_on="time", right_on="_when", by=by, strategy="backward", allow_exact_matches=False,
        tolerance=timedelta(hours=within_hours), check_sortedness=False,
    )  # fmt: skip
    return found["_value"]


def _square(km: float) -> pl.Expr:
    """Number of the square of about this size that a place is in; null for an unknown place."""
    row = (pl.col("latitude") * (KM_PER_DEGREE / km)).floor()
    # As wide as at the row's middle, so that all places of a row are divided alike.
    across = ((row + 0.5) * (km / KM_PER_DEGREE)).radians().cos()
    column = (pl.col("longitude") * across * (KM_PER_DEGREE / km)).floor()
    return row.cast(pl.Int64) * (1 << 32) + column.cast(pl.Int64)
