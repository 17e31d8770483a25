"""Columns of text or typed cells turned into times, days, numbers and labels; what cannot be turned is null."""

from collections.abc import Callable

import polars as pl

from ..errors import ConfigError

_UTC = pl.Datetime("us", "UTC")
_ZONED_PARTS = ("%z", "%:z", "%#z")
_CLOCK_PARTS = ("%H", "%I", "%T", "%R", "%X", "%s", "%c")
_UNIX = r"^-?\d{1,12}(\.\d+)?$"  # 13 digits would be milliseconds: rejected rather than read as the year 50,000
_LAST_SECOND = 253_402_300_799  # of the year 9999


def to_times(cells: pl.Series, time_format: str | None = None) -> pl.Series:
    """Times as Datetime[us, UTC].

    Text is read by `time_format`, else as ISO 8601 (with or without clock, seconds, fraction and offset) or unix
    seconds; numbers are unix seconds. What says nothing of its offset is UTC. Raises ConfigError: `time_format` is no
    strftime format.
    """
    if cells.dtype == pl.String:
        text = cells.str.strip_chars()
        return (_by_format(text, time_format) if time_format else _iso(text)).cast(_UTC)
    if isinstance(cells.dtype, pl.Datetime):
        aware = cells if cells.dtype.time_zone else cells.dt.replace_time_zone("UTC")
        return aware.dt.convert_time_zone("UTC").cast(_UTC)
    if cells.dtype == pl.Date:
        return _midnight(cells)
    if cells.dtype.is_numeric():
        return _unix(cells.cast(pl.Float64))
    return pl.Series(cells.name, [None], dtype=_UTC).new_from_index(0, len(cells))


def has_offset(cells: pl.Series, time_format: str | None = None) -> pl.Series:
    """Which times (bool) say by themselves where they stand to UTC; `to_times` takes the others for UTC."""
    if cells.dtype == pl.String and time_format is None:
        text = cells.str.strip_chars()
        return text.str.contains(r"\d{2}:\d{2}.*([Zz]|[+-]\d{2}(:?\d{2})?)$") | text.str.contains(_UNIX)
    if cells.dtype == pl.String:
        aware = any(part in str(time_format) for part in (*_ZONED_PARTS, "%s"))
    elif isinstance(cells.dtype, pl.Datetime):
        aware = cells.dtype.time_zone is not None
    else:
        aware = cells.dtype != pl.Date
    return pl.Series(cells.name, [aware], dtype=pl.Boolean).new_from_index(0, len(cells))


def to_days(cells: pl.Series, time_format: str | None = None) -> pl.Series:
    """Calendar days as Date; text by `time_format`, else ISO 8601 (a clock after it is ignored) or YYYYMMDD.

    Raises ConfigError: `time_format` is no strftime format.
    """
    if cells.dtype == pl.String:
        text = cells.str.strip_chars()
        if time_format:
            return _checked(text, time_format, lambda: text.str.to_date(time_format, strict=False))
        day = text.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
        return day.zip_with(day.is_not_null(), text.str.to_date("%Y%m%d", strict=False))
    if cells.dtype == pl.Date or isinstance(cells.dtype, pl.Datetime):
        return cells.cast(pl.Date)
    return pl.Series(cells.name, [None], dtype=pl.Date).new_from_index(0, len(cells))


def to_floats(cells: pl.Series) -> pl.Series:
    """Numbers as float64; what is no finite number is null."""
    text = cells.str.strip_chars() if cells.dtype == pl.String else cells
    numbers = text.cast(pl.Float64, strict=False)
    return pl.select(pl.when(numbers.is_finite()).then(numbers).alias(cells.name)).to_series()


def to_text(cells: pl.Series) -> pl.Series:
    """Identifiers and labels as stripped strings; empty ones are null."""
    text = cells.cast(pl.String, strict=False).str.strip_chars()
    return pl.select(pl.when(text != "").then(text).alias(cells.name)).to_series()


def _iso(text: pl.Series) -> pl.Series:
    """One spelling for all of ISO 8601, then two formats: with and without seconds."""
    name = text.name
    spelt = (
        text.str.replace(r"^(\d{4}-\d{2}-\d{2})[ t]", "${1}T")
        .str.replace(r"\s*[Zz]$", "+00:00")
        .str.replace(r"(T.*[+-]\d{2}):?(\d{2})$", "${1}:${2}")
        .str.replace(r"(T[^+-]*[+-]\d{2})$", "${1}:00")
    )
    frame = pl.DataFrame({"text": text, "spelt": spelt})
    zoned = pl.col("spelt").str.contains(r"T.*[+-]\d{2}:\d{2}$")
    full = pl.when(zoned).then("spelt").otherwise(pl.col("spelt") + "+00:00")
    clocks = [
        full.str.to_datetime(f"%Y-%m-%dT{clock}%:z", strict=False, time_unit="us") for clock in ("%H:%M:%S%.f", "%H:%M")
    ]
    times = frame.select(pl.coalesce(*(clock.cast(_UTC) for clock in clocks)).alias(name)).to_series()
    if times.null_count() == text.null_count():
        return times
    days = _midnight(text.str.to_date("%Y-%m-%d", strict=False))
    seconds = text.str.extract(f"({_UNIX})").cast(pl.Float64, strict=False)
    return pl.select(pl.coalesce(times, days, _unix(seconds)).alias(name)).to_series()


def _by_format(text: pl.Series, time_format: str) -> pl.Series:
    is_zoned = any(part in time_format for part in _ZONED_PARTS)
    if is_zoned or any(part in time_format for part in _CLOCK_PARTS):
        times = _checked(text, time_format, lambda: text.str.to_datetime(time_format, strict=False, time_unit="us"))
        return times if is_zoned else times.dt.replace_time_zone("UTC")
    return _midnight(_checked(text, time_format, lambda: text.str.to_date(time_format, strict=False)))


def _checked(text: pl.Series, time_format: str, parse: Callable[[], pl.Series]) -> pl.Series:
    try:
        return parse()
    except pl.exceptions.PolarsError:
        raise ConfigError(
            f"time_format should be a strftime format that fits times like {text.drop_nulls().first()!r}, "
            f"not {time_format!r}."
        ) from None


def _midnight(days: pl.Series) -> pl.Series:
    return days.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _unix(seconds: pl.Series) -> pl.Series:
    valid = seconds.abs() <= _LAST_SECOND
    micros = pl.when(valid).then((seconds * 1e6).round(0)).cast(pl.Int64)
    return pl.select(micros.cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias(seconds.name)).to_series()
