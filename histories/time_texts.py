"""Times as people and programs write them, beside ISO 8601: days with names of months, slashes, AM and PM, zone names.

A text is taken apart into date, clock, offset and zone by a few patterns, and put together by arithmetic, so that each
part is checked alone.
"""

from typing import Final

import polars as pl

_MONTHS: Final = {
    name: number + 1
    for number, name in enumerate(("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"))
}
# Names that RFC 2822 fixes, and two of Europe; other abbreviations mean different zones in different countries.
_OFFSETS: Final = {
    "UTC": 0, "GMT": 0, "UT": 0, "Z": 0, "EST": -300, "EDT": -240, "CST": -360, "CDT": -300, "MST": -420, "MDT": -360,
    "PST": -480, "PDT": -420, "CET": 60, "CEST": 120,
}  # fmt: skip
_WEEKDAY: Final = r"^(?i:mon|tue|wed|thu|fri|sat|sun)[a-zA-Z]*\.?,?\s+"
_ZONE: Final = r"(?:\s+|\[)([A-Z][A-Za-z]+(?:/[A-Za-z0-9_+-]+)+)\]?$"
_ABBREVIATION: Final = r"\s*\b([A-Z]{1,4})$"
_NAME: Final = r"[A-Za-z]{3,9}"
_DATES: Final = (
    rf"^(?P<d>\d{{1,2}})[ /.-](?P<m>{_NAME})[ /.,-]+(?P<y>\d{{4}}|\d{{2}})(?:[\sT,:]+(?P<rest>\S.*))?$",
    rf"^(?P<m>{_NAME})\.? (?P<d>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<y>\d{{4}})(?:[\sT,:]+(?P<rest>\S.*))?$",
    rf"^(?P<m>{_NAME}) +(?P<d>\d{{1,2}}) (?P<rest>\d{{1,2}}:\d{{2}}.*) (?P<y>\d{{4}})$",
    r"^(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})(?:[\sTt,_]+(?P<rest>\S.*))?$",
    r"^(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})[T _-](?P<rest>\d{4,6}.*)$",
    r"^(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4}|\d{2})(?:[\sT,]+(?P<rest>\S.*))?$",
)
_EITHER: Final = r"^(\d{1,2})[-/](\d{1,2})[-/](\d{4}|\d{2})(?:[\sT,]+(\S.*))?$"
_CLOCK: Final = (
    r"^(?P<hour>\d{1,2})(?::(?P<minute>\d{1,2})(?::(?P<second>\d{1,2})(?:[.,](?P<fraction>\d{1,9}))?)?)?"
    r"\s*(?P<half>[AaPp])?\.?(?:[Mm]\.?)?\s*(?P<offset>[Zz]|[+-]\d{1,2}(?::?\d{2})?)?$"
)
_MOST_HOURS: Final = 48  # 25:03 is three past one of the next day, as timetables write it


def read_texts(text: pl.Series) -> tuple[pl.DataFrame, str]:
    """Times out of texts that are not ISO 8601 as `to_times` reads it.

    Returns:
        A table in the order of `text` with `wall` (naive Datetime[us], what the clock said; null where unread),
        `offset_minutes` (float64, null where not said), `zone` (IANA name or what looks like one, else null) and
        `hour_known`. And a problem as a half-sentence: month and day could each be the other; "" where there is none.
    """
    plain = text.str.replace_all(r"[\x{00A0}\x{202F}\s]+", " ").str.strip_chars().str.replace(_WEEKDAY, "")
    frame = plain.to_frame("text").with_columns(pl.col("text").str.extract(_ZONE).alias("zone"))
    frame = frame.with_columns(pl.col("text").str.replace(_ZONE, ""))
    frame = frame.with_columns(pl.col("text").str.extract(_ABBREVIATION).alias("abbreviation"))
    named = pl.col("abbreviation").replace_strict(_OFFSETS, default=None, return_dtype=pl.Float64)
    frame = frame.with_columns(named.alias("named"))
    cut = pl.col("text").str.replace(_ABBREVIATION, "")
    frame = frame.with_columns(pl.when(pl.col("named").is_not_null()).then(cut).otherwise("text").alias("text"))
    month_first, problem = _order(frame["text"])
    dated = frame.with_columns(_parts(month_first))
    return dated.select(*_joined()), problem


def _order(text: pl.Series) -> tuple[bool | None, str]:
    """Whether 3/4/2023 has the month first, by the dates that can be read in one way only; None where nothing says."""
    groups = text.str.extract_groups(_EITHER).struct.unnest()
    first, second = (groups.to_series(at).cast(pl.Int64, strict=False) for at in (0, 1))
    if first.null_count() == len(first):
        return None, ""
    day_first, month_first = bool((first > 12).any()), bool((second > 12).any())
    example = text.filter(first.is_not_null())[0]
    if day_first != month_first:
        return month_first, ""
    which = "either the month or the day first, and other rows do not say which" if not day_first else (
        "the month first in some rows and the day first in others"
    )  # fmt: skip
    remedy = "set time_format, such as '%m/%d/%Y %H:%M' or '%d/%m/%Y %H:%M'"
    return None, f"times like {example!r} have {which}; {remedy}"


def _parts(month_first: bool | None) -> list[pl.Expr]:
    """`y`, `m`, `d`, `rest` as text, by the first pattern that fits."""
    found: dict[str, list[pl.Expr]] = {name: [] for name in ("y", "m", "d", "rest")}
    for pattern in _DATES:
        groups = pl.col("text").str.extract_groups(pattern)
        for name, exprs in found.items():
            exprs.append(groups.struct.field(name))
    if month_first is not None:
        names = ("m", "d", "y", "rest") if month_first else ("d", "m", "y", "rest")
        for at, name in enumerate(names, 1):
            found[name].append(pl.col("text").str.extract(_EITHER, at))
    # A field of one pattern must not meet one of another: "rest" alone may be null where its pattern fits.
    fits = [groups.is_not_null() for groups in found["y"]]
    return [_first(fits, exprs).alias(name) for name, exprs in found.items()]


def _first(fits: list[pl.Expr], exprs: list[pl.Expr]) -> pl.Expr:
    chosen: pl.Expr = pl.lit(None, pl.String)
    for fit, expr in reversed(list(zip(fits, exprs, strict=True))):
        chosen = pl.when(fit).then(expr).otherwise(chosen)
    return chosen


def _joined() -> list[pl.Expr]:
    month = pl.coalesce(
        pl.col("m").cast(pl.Int64, strict=False),
        pl.col("m").str.slice(0, 3).str.to_lowercase().replace_strict(_MONTHS, default=None, return_dtype=pl.Int64),
    )
    year = pl.col("y").cast(pl.Int64, strict=False)
    # Two digits as POSIX reads them: 69 to 99 are of the last century.
    century = pl.when(year >= 69).then(1900).otherwise(2000)
    year = pl.when(pl.col("y").str.len_chars() == 2).then(year + century).otherwise(year)
    padded = [part.cast(pl.String).str.zfill(width) for part, width in ((year, 4), (month, 2), (pl.col("d"), 2))]
    day = pl.concat_str(padded, separator="-").str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    compact = r"^(\d{2})(\d{2})(\d{2})?([^:\d].*)?$"  # of ISO 8601's basic format
    spelt = pl.col("rest").str.replace(r"^(\d{2})(\d{2})(\d{2})", "$1:$2:$3")
    spelt = spelt.str.replace(r"^(\d{2})(\d{2})([^:\d]|$)", "$1:$2$3")
    rest = pl.when(pl.col("rest").str.contains(compact)).then(spelt).otherwise("rest")
    clock = rest.str.extract_groups(_CLOCK)
    read = {name: clock.struct.field(name) for name in ("hour", "minute", "second", "fraction", "half", "offset")}
    hour, minute, second = (read[name].cast(pl.Int64, strict=False) for name in ("hour", "minute", "second"))
    micros = read["fraction"].str.pad_end(9, "0").str.slice(0, 6).cast(pl.Int64, strict=False).fill_null(0)
    afternoon = read["half"].str.to_lowercase()
    of_12 = hour % 12 + pl.when(afternoon == "p").then(12).otherwise(0)
    valid_hour = pl.when(afternoon.is_not_null()).then(hour.is_between(1, 12)).otherwise(hour < _MOST_HOURS)
    # An hour alone is a clock only with AM or PM behind it; second 60 is a leap second.
    valid = valid_hour & (minute.is_not_null() | afternoon.is_not_null())
    valid &= (minute.fill_null(0) < 60) & (second.fill_null(0) <= 60)
    hour = pl.when(afternoon.is_not_null()).then(of_12).otherwise(hour)
    since = ((hour * 60 + minute.fill_null(0)) * 60 + second.fill_null(0)) * 1_000_000 + micros
    has_clock = pl.col("rest").is_not_null()
    wall = pl.when(~has_clock).then(day).when(valid).then(day + pl.duration(microseconds=since))
    return [
        wall.alias("wall"),
        pl.coalesce(offset_minutes(read["offset"]), "named").alias("offset_minutes"),
        pl.col("zone"),
        has_clock.alias("hour_known"),
    ]  # fmt: skip


def offset_minutes(offset: pl.Expr) -> pl.Expr:
    """Minutes of `Z`, `+01`, `+0130`, `-01:30`; null for what is none."""
    parts = offset.str.extract_groups(r"^([+-])(\d{1,2}):?(\d{2})?$")
    hours, minutes = (parts.struct.field(name).cast(pl.Float64, strict=False) for name in ("2", "3"))
    sign = pl.when(parts.struct.field("1") == "-").then(-1.0).otherwise(1.0)
    return pl.when(offset.str.to_lowercase() == "z").then(0.0).otherwise(sign * (hours * 60 + minutes.fill_null(0)))
