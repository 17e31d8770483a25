"""Numbers that stand for times: seconds and finer since 1970, dates without separators, days of Excel.

Which of them a number is follows from its size: the ranges in which they give a year from 1975 to 2099 overlap in one
place only, see `_as_dates`.
"""

from dataclasses import dataclass
from datetime import date
from typing import Final

import polars as pl

_UTC: Final = pl.Datetime("us", "UTC")
_UNITS: Final = (("seconds", 1.0), ("milliseconds", 1e3), ("microseconds", 1e6), ("nanoseconds", 1e9))
_FIRST_S, _LAST_S = 1.577e8, 4.102e9  # 1975 and 2100 in seconds since 1970: no two units overlap between them
_FIRST_YEAR_S, _LAST_YEAR_S = -62_135_596_800, 253_402_300_799  # of the years 1 and 9999
# digits -> format, and the numbers from 1900 to 2100 in it
_DATES: Final = (
    (8, "%Y%m%d", 19_000_101, 21_001_231),
    (12, "%Y%m%d%H%M", 190_001_010_000, 210_012_312_359),
    (14, "%Y%m%d%H%M%S", 19_000_101_000_000, 21_001_231_235_959),
)
_EXCEL_EPOCH: Final = date(1899, 12, 30)
_EXCEL_DAYS: Final = (20_000, 80_000)  # 1954 to 2119
_MOST: Final = 0.5


@dataclass(frozen=True)
class NumberTimes:
    """What numbers say of times, each series as long as the numbers.

    Attributes:
        time: Datetime[us, UTC]; null where there is no number or its meaning is not clear.
        is_moment: whether it is counted from 1970 and so says where it stands to UTC.
        hour_known: false for dates.
        unit: how most were read, in words; "" where there are none.
        problem: why most of them can be no times, as a half-sentence; "" where they can.
    """

    time: pl.Series
    is_moment: pl.Series
    hour_known: pl.Series
    unit: str
    problem: str


def read_numbers(numbers: pl.Series) -> NumberTimes:
    """`numbers` are float64, null where a cell is no number."""
    given = len(numbers) - numbers.null_count()
    frame = numbers.to_frame("n").with_columns(*_as_dates(numbers, given), _unit(pl.col("n")))
    kinds = frame.select(pl.when(pl.col("date").is_not_null()).then(pl.col("digits")).otherwise("unit").alias("kind"))
    counted = kinds.to_series().drop_nulls().value_counts(sort=True)
    clear = int(counted["count"].sum())
    if clear < _MOST * given:
        if numbers.is_between(*_EXCEL_DAYS).sum() > 0.9 * given:
            return _excel(numbers)
        return _null(numbers, _problem(numbers))
    commonest = str(counted["kind"][0]) if clear else ""
    names = [name for name, _ in _UNITS]
    # A number too small or too large for its unit (0, before 1975) counts in that of the others.
    unit = pl.coalesce("unit", pl.lit(commonest if commonest in names else None, pl.String))
    size = unit.replace_strict({name: factor for name, factor in _UNITS}, default=None, return_dtype=pl.Float64)
    seconds = pl.when(pl.col("n") == 0).then(0.0).otherwise(pl.col("n") / size)
    found = frame.select(
        pl.coalesce("date", _moment(seconds)).alias("time"),
        pl.col("date").is_null().alias("is_moment"),
        pl.col("digits").ne_missing("YYYYMMDD").alias("hour_known"),
    )
    since = f"{commonest} since 1970" if commonest in names else commonest
    return NumberTimes(found["time"], found["is_moment"], found["hour_known"], since, "")


def seconds_to_times(seconds: pl.Series) -> pl.Series:
    """Datetime[us, UTC] of float64 seconds since 1970; null outside of the years 1 to 9999."""
    return pl.select(_moment(pl.lit(seconds)).alias(seconds.name)).to_series()


def _moment(seconds: pl.Expr) -> pl.Expr:
    valid = seconds.is_between(_FIRST_YEAR_S, _LAST_YEAR_S)
    micros = pl.when(valid).then((seconds * 1e6).round(0)).cast(pl.Int64)
    return micros.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _unit(number: pl.Expr) -> pl.Expr:
    """`unit`: the one in which a number is a time between 1975 and 2100; null where none is."""
    found: pl.Expr = pl.lit(None, pl.String)
    for name, factor in _UNITS:
        found = pl.when(number.is_between(_FIRST_S * factor, _LAST_S * factor)).then(pl.lit(name)).otherwise(found)
    return found.alias("unit")


def _as_dates(numbers: pl.Series, given: int) -> list[pl.Series]:
    """`date` (Datetime[us, UTC]) and `digits` (YYYYMMDD and so on) of numbers that write a date, null elsewhere.

    Twelve digits could also be milliseconds of 1976: they are dates only if nearly every number of the column is one.
    """
    whole = pl.select(pl.when(pl.lit(numbers) == pl.lit(numbers).floor()).then(pl.lit(numbers))).to_series()
    dates, digits = [], []
    for count, time_format, first, last in _DATES:
        inside = pl.select(pl.when(pl.lit(whole).is_between(first, last)).then(pl.lit(whole))).to_series()
        if inside.null_count() == len(inside):
            continue
        text = inside.cast(pl.Int64).cast(pl.String)
        if count == 8:
            read = text.str.to_date(time_format, strict=False).cast(pl.Datetime("us"))
        else:
            read = text.str.to_datetime(time_format, strict=False, time_unit="us")
        if count == 12 and read.count() < 0.99 * given:
            continue
        dates.append(read.dt.replace_time_zone("UTC"))
        named = "YYYYMMDDHHMMSS"[:count]
        digits.append(pl.select(pl.when(pl.lit(read).is_not_null()).then(pl.lit(named))).to_series())
    if not dates:
        none = pl.Series([None])
        kinds = {"date": _UTC, "digits": pl.String()}
        return [none.cast(kind).new_from_index(0, len(numbers)).alias(name) for name, kind in kinds.items()]
    joined = pl.select(pl.coalesce(*dates).alias("date"), pl.coalesce(*digits).alias("digits"))
    return [joined["date"], joined["digits"]]


def _excel(numbers: pl.Series) -> NumberTimes:
    days = pl.select(pl.when(pl.lit(numbers).is_between(*_EXCEL_DAYS)).then(pl.lit(numbers))).to_series()
    # To the second: a spreadsheet's fraction of a day is no finer.
    micros = (days * 86_400).round(0).cast(pl.Int64) * 1_000_000
    epoch = pl.Series([_EXCEL_EPOCH]).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")[0]
    time = pl.select((pl.lit(epoch) + pl.lit(micros).cast(pl.Duration("us"))).alias("time").cast(_UTC)).to_series()
    no = pl.Series([False], dtype=pl.Boolean).new_from_index(0, len(numbers))
    has_clock = bool((days.drop_nulls() % 1 != 0).any())
    known = pl.Series([has_clock], dtype=pl.Boolean).new_from_index(0, len(numbers))
    return NumberTimes(time, no, known, "days as Excel counts them, from 1900", "")


def _null(numbers: pl.Series, problem: str) -> NumberTimes:
    time = pl.Series("time", [None], dtype=_UTC).new_from_index(0, len(numbers))
    yes = pl.Series([True], dtype=pl.Boolean).new_from_index(0, len(numbers))
    return NumberTimes(time, yes, yes, "", problem)


def _problem(numbers: pl.Series) -> str:
    given = numbers.drop_nulls()
    example = f"{given[0]:.15g}"
    if given.is_between(1800, 2200).all() and (given % 1 == 0).all():
        what = f"numbers like {example} are bare years, which say neither day nor hour"
    else:
        what = f"numbers like {example} are no date (a day index, or a count from an unknown start?)"
    return f"{what}; map a column of dates or times, or set time_format to '%s' if they are seconds since 1970"
