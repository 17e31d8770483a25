"""Cells turned into times and days: text in common forms, numbers, typed columns; what cannot be turned is null."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final

import polars as pl

from ..errors import ConfigError
from .parsing import is_missing
from .time_numbers import read_numbers, seconds_to_times
from .time_texts import offset_minutes, read_texts

_UTC: Final = pl.Datetime("us", "UTC")
_ZONED_PARTS: Final = ("%z", "%:z", "%#z")
_CLOCK_PARTS: Final = ("%H", "%I", "%T", "%R", "%X", "%s", "%c", "%k", "%l")
_NUMBER: Final = r"^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$"
_OFFSET: Final = r"([+-]\d{2}:?\d{2})(?:\s+\d{4})?\D*$"
_ABBREVIATED: Final = r"\s*[A-Za-z]+$"
_FEW: Final = 10  # so many midnights happen by chance
_SENTINEL_DAYS: Final = (date(1969, 12, 31), date(1970, 1, 1), date(2038, 1, 19))


@dataclass(frozen=True)
class Times:
    """What the cells of a column say of times; all series are as long as the column.

    Attributes:
        time: Datetime[us, UTC]; where nothing says how it stands to UTC, what the clock said, as if it were UTC.
        has_offset: whether the cell itself says how its time stands to UTC.
        offset_minutes: float64, the cell's offset from UTC, by which its clock went; null where the column only ever
            says UTC, for that is how programs write a time whose zone they do not know.
        zone: name of a time zone in the cell, else null.
        hour_known: false for a date without a clock.
        remarks: how cells were understood where there was a choice, each a sentence.
        problem: why the column cannot be read, as a half-sentence; "" where it can.
    """

    time: pl.Series
    has_offset: pl.Series
    offset_minutes: pl.Series
    zone: pl.Series
    hour_known: pl.Series
    remarks: list[str] = field(default_factory=list)
    problem: str = ""


def to_times(cells: pl.Series, time_format: str | None = None) -> pl.Series:
    """Times as Datetime[us, UTC]; what says nothing of its offset is UTC, and what cannot be read is null.

    See `read_times`. Raises ConfigError: `time_format` is no strftime format.
    """
    return read_times(cells, time_format).time.alias(cells.name)


def read_times(cells: pl.Series, time_format: str | None = None) -> Times:
    """Times with all that their cells say of clock and zone.

    Text is read by `time_format`; else as ISO 8601, a number, or in the forms of `read_texts`. Numbers are read as
    `read_numbers` does. Raises ConfigError: `time_format` is no strftime format.
    """
    if cells.dtype.is_numeric() and time_format:
        cells = (cells.cast(pl.Int64, strict=False) if cells.dtype.is_float() else cells).cast(pl.String)
    if cells.dtype == pl.String:
        text = cells.str.strip_chars()
        found = _by_format(text, time_format) if time_format else _by_forms(text)
    elif isinstance(cells.dtype, pl.Datetime):
        found = _typed(cells)
    elif cells.dtype == pl.Date:
        frame = _frame(cells.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), has_offset=False, hour_known=False)
        found = _times(frame)
    elif cells.dtype.is_numeric():
        found = _by_number(cells.cast(pl.Float64))
    else:
        found = _times(_frame(pl.Series([None], dtype=_UTC).new_from_index(0, len(cells))))
    return _whole_days(_within_years(found))


def to_days(cells: pl.Series, time_format: str | None = None) -> pl.Series:
    """Calendar days as Date; text by `time_format`, else in any form of `to_times` (a clock after it is ignored).

    Raises ConfigError: `time_format` is no strftime format.
    """
    if cells.dtype == pl.Date or isinstance(cells.dtype, pl.Datetime):
        return cells.cast(pl.Date)
    if cells.dtype == pl.String and not time_format:
        # The day of a time with an offset is the one in the cell, not that of UTC.
        day = cells.str.strip_chars().str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
        return day.zip_with(day.is_not_null(), to_times(cells).dt.date()) if day.null_count() else day
    return to_times(cells, time_format).dt.date()


def suspicious(time: pl.Expr) -> pl.Expr:
    """Whether a time looks like a program's mark for "none": 0001, 1900, 1970-01-01, 2099, 9999 and their like."""
    year = time.dt.year()
    return (year <= 1900) | (year >= 2099) | time.dt.date().is_in(list(_SENTINEL_DAYS))


def _by_forms(text: pl.Series) -> Times:
    frame = _iso(text)
    missing = pl.select(is_missing(pl.lit(text))).to_series()
    left = frame["time"].is_null() & ~missing
    if not left.any():
        return _times(frame)
    number = text.str.contains(_NUMBER).fill_null(False)
    remarks: list[str] = []
    problem = ""
    if (at := left & number).any():
        numbers = text.set(~at, None).cast(pl.Float64, strict=False)
        found = read_numbers(numbers)
        # A few odd numbers among other times are rows to reject, and no reason to refuse the column.
        problem = found.problem if 2 * int(at.sum()) > int((~missing).sum()) else ""
        remarks += _unit_remark(found.unit)
        zero = seconds_to_times(numbers.set(numbers != 0, None)) if found.problem else found.time
        frame = _filled(frame, at, _frame(zero, has_offset=found.is_moment, hour_known=found.hour_known))
    if (at := left & ~number).any():
        read, text_problem = read_texts(text.filter(at))
        problem = problem or text_problem
        time = (
            read["wall"].dt.replace_time_zone("UTC")
            - pl.select(
                pl.duration(microseconds=(pl.lit(read["offset_minutes"].fill_null(0)) * 60e6).cast(pl.Int64))
            ).to_series()
        )
        part = _frame(
            time, has_offset=read["offset_minutes"].is_not_null(), offset=read["offset_minutes"], zone=read["zone"],
            hour_known=read["hour_known"],
        )  # fmt: skip
        frame = _scattered(frame, at, part)
    return _times(frame, remarks, problem)


def _iso(text: pl.Series) -> pl.DataFrame:
    """One spelling for ISO 8601, then two formats: with and without seconds; a day alone."""
    spelt = (
        text.str.replace(r"^(\d{4}-\d{2}-\d{2})[ t]", "${1}T")
        .str.replace(r"\s*[Zz]$", "+00:00")
        .str.replace(r"(T.*[+-]\d{2}):?(\d{2})$", "${1}:${2}")
        .str.replace(r"(T[^+-]*[+-]\d{2})$", "${1}:00")
    )
    frame = pl.DataFrame({"text": text, "spelt": spelt})
    offset = pl.col("spelt").str.extract(r"T.*([+-]\d{2}:\d{2})$")
    frame = frame.with_columns(offset.alias("offset"))
    full = pl.when(pl.col("offset").is_not_null()).then("spelt").otherwise(pl.col("spelt") + "+00:00")
    clocks = [
        full.str.to_datetime(f"%Y-%m-%dT{clock}%:z", strict=False, time_unit="us") for clock in ("%H:%M:%S%.f", "%H:%M")
    ]
    found = frame.select(pl.coalesce(*(clock.cast(_UTC) for clock in clocks)).alias("time"), "offset")
    time = found["time"]
    hour_known: pl.Series | bool = True
    if time.null_count() > text.null_count():
        days = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        hour_known = time.is_not_null() | days.is_null()
        time = time.zip_with(time.is_not_null(), days)
    minutes = pl.select(offset_minutes(pl.lit(found["offset"]))).to_series()
    return _frame(time, has_offset=minutes.is_not_null(), offset=minutes, hour_known=hour_known)


def _by_format(text: pl.Series, time_format: str) -> Times:
    # Python writes %f for the digits of a fraction, where chrono, which reads here, means nanoseconds.
    fitted = time_format.replace(".%f", "%.f").replace(",%f", "%.f").replace("%f", "%6f")
    if ",%f" in time_format:
        text = text.str.replace(r",(\d{1,9})", ".$1")
    if fitted.endswith("%Z"):
        return _named_zone(text, time_format, fitted.removesuffix("%Z").rstrip())
    is_zoned = any(part in time_format for part in _ZONED_PARTS)
    has_clock = any(part in time_format for part in _CLOCK_PARTS)
    if not has_clock:
        days = _checked(text, time_format, lambda: text.str.to_date(fitted, strict=False))
        frame = _frame(days.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), has_offset=False, hour_known=False)
        return _times(frame)
    times = _checked(text, time_format, lambda: text.str.to_datetime(fitted, strict=False, time_unit="us"))
    if not is_zoned:
        return _times(_frame(times.dt.replace_time_zone("UTC"), has_offset="%s" in time_format))
    minutes = pl.select(offset_minutes(pl.lit(text.str.extract(_OFFSET)))).to_series()
    return _times(_frame(times.dt.convert_time_zone("UTC"), has_offset=True, offset=minutes))


def _named_zone(text: pl.Series, time_format: str, fitted: str) -> Times:
    """A format that ends in %Z: the zone's name, which chrono would pass over, is read as `read_texts` does."""
    bare = text.str.replace(r"\s*[A-Za-z_]+(/[A-Za-z_/+-]+)?$", "")
    read = _by_format(bare, fitted)
    name = text.str.extract(r"([A-Za-z_]+(?:/[A-Za-z_/+-]+)?)$")
    zones, _ = read_texts(pl.select(pl.lit("2000-01-01 00:00 ") + pl.lit(name)).to_series())
    offset = zones["offset_minutes"]
    shift = pl.select(pl.duration(microseconds=(pl.lit(offset.fill_null(0)) * 60e6).cast(pl.Int64))).to_series()
    # An abbreviation that is not known leaves the clock and says nothing.
    return _times(
        _frame(
            (read.time - shift).cast(_UTC),
            has_offset=offset.is_not_null(),
            offset=offset,
            zone=zones["zone"],
            hour_known=read.hour_known,
        )
    )


def _checked(text: pl.Series, time_format: str, parse: Callable[[], pl.Series]) -> pl.Series:
    try:
        return parse()
    except pl.exceptions.PolarsError:
        hint = "; %p needs the hour as %I, not %H" if "%p" in time_format and "%H" in time_format else ""
        raise ConfigError(
            f"time_format should be a strftime format that fits times like {text.drop_nulls().first()!r}, "
            f"not {time_format!r}{hint}."
        ) from None


def _typed(cells: pl.Series) -> Times:
    zone = cells.dtype.time_zone if isinstance(cells.dtype, pl.Datetime) else None
    aware = cells if zone else cells.dt.replace_time_zone("UTC")
    named = None if zone is None or zone in ("UTC", "Etc/UTC", "GMT") else zone
    zones = pl.Series([named], dtype=pl.String).new_from_index(0, len(cells))
    return _times(_frame(aware.dt.convert_time_zone("UTC").cast(_UTC), has_offset=zone is not None, zone=zones))


def _by_number(numbers: pl.Series) -> Times:
    found = read_numbers(pl.select(pl.when(pl.lit(numbers).is_finite()).then(pl.lit(numbers))).to_series())
    frame = _frame(found.time, has_offset=found.is_moment, hour_known=found.hour_known)
    return _times(frame, _unit_remark(found.unit), found.problem)


def _unit_remark(unit: str) -> list[str]:
    return [f"times that are numbers are read as {unit}"] if unit else []


def _frame(
    time: pl.Series, *, has_offset: pl.Series | bool = True, offset: pl.Series | None = None,
    zone: pl.Series | None = None, hour_known: pl.Series | bool = True,
) -> pl.DataFrame:  # fmt: skip
    def whole(value: pl.Series | bool | None, dtype: pl.DataType | type[pl.DataType]) -> pl.Series:
        if isinstance(value, pl.Series):
            return value.cast(dtype)
        return pl.Series([value], dtype=dtype).new_from_index(0, len(time))

    return pl.DataFrame({
        "time": time.cast(_UTC), "has_offset": whole(has_offset, pl.Boolean),
        "offset_minutes": whole(offset, pl.Float64), "zone": whole(zone, pl.String),
        "hour_known": whole(hour_known, pl.Boolean),
    })  # fmt: skip


def _filled(frame: pl.DataFrame, at: pl.Series, part: pl.DataFrame) -> pl.DataFrame:
    """`frame` with the rows of `part`, which is as long, where `at` holds."""
    return pl.DataFrame([part[name].zip_with(at, frame[name]).alias(name) for name in frame.columns])


def _scattered(frame: pl.DataFrame, at: pl.Series, part: pl.DataFrame) -> pl.DataFrame:
    """`frame` with the rows of `part`, one for each row where `at` holds, there."""
    rows = pl.select(pl.when(pl.lit(at)).then(pl.lit(at).cast(pl.UInt32).cum_sum() - 1)).to_series()
    return _filled(frame, at, part[rows.fill_null(0)])


def _times(frame: pl.DataFrame, remarks: list[str] | None = None, problem: str = "") -> Times:
    offset = frame["offset_minutes"]
    if not (offset.fill_null(0) != 0).any():
        offset = offset.set(offset.is_not_null(), None)
    return Times(
        frame["time"], frame["has_offset"], offset, frame["zone"], frame["hour_known"], remarks or [], problem
    )  # fmt: skip


def _within_years(found: Times) -> Times:
    """Times outside of the years 1 to 9999 are none."""
    year = found.time.dt.year()
    if not ((year < 1) | (year > 9999)).any():
        return found
    time = found.time.set(~year.is_between(1, 9999).fill_null(False), None)
    return replace(found, time=time)


def _whole_days(found: Times) -> Times:
    """A column in which every clock says midnight holds days: the hour is not known."""
    time = found.time.drop_nulls()
    if len(time) < _FEW or found.has_offset.any() or not found.hour_known.any():
        return found
    if (time.dt.epoch("us") % 86_400_000_000 != 0).any():
        return found
    no = pl.Series([False], dtype=pl.Boolean).new_from_index(0, len(found.time))
    remark = "every time is at midnight, so these are days, and the hour is taken as unknown"
    return replace(found, hour_known=no, remarks=[*found.remarks, remark])
