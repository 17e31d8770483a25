"""The time on the clock where an event happened, and the UTC time of what a local clock shows."""

from collections import Counter
from zoneinfo import ZoneInfo

import polars as pl

from ..errors import ConfigError
from .rejects import Notes
from .settings import TimesMeaning

# Zone borders are drawn no finer than this; rounding lets neighbours share a look-up.
_DECIMALS = 3
_HOUR = pl.duration(hours=1)


def with_clocks(
    events: pl.DataFrame, *, time_zone: str | None, times: TimesMeaning | None, notes: Notes, example: bool = True
) -> pl.DataFrame:  # fmt: skip
    """Events with `time` in UTC and `local_time`, without the columns about offsets and zones.

    `example`: whether a remark shows how the first event was read.

    `events` are as `clean_events` gives them: `time` is the clock's where `_has_offset` is false. `times`: see
    TableSettings. Which offset or zone counts: see HistoriesSettings. Raises ConfigError for a `time_zone` that is no
    IANA name.
    """
    if time_zone:
        _require_zone(time_zone)
    zone = pl.coalesce("_zone", pl.lit(time_zone, pl.String))
    of_cell = pl.when(zone.is_null()).then("_cell_offset")
    events = events.with_columns(zone.alias("_zone"), pl.coalesce("utc_offset_minutes", of_cell).alias("_offset"))
    # A day is a day of the calendar on the wall, whatever is said of times.
    wall = ~pl.col("_has_offset") & (pl.lit(times != "utc") | ~pl.col("hour_known"))
    if times != "local":  # a table with offsets beside its times has them because its times are UTC
        wall &= pl.col("_offset").is_null() | ~pl.col("hour_known")
    events = events.with_columns(wall.alias("_wall"))
    events = _moments(events, notes)
    offset = pl.col("_offset")
    local = events.with_columns(offset.alias("utc_offset_minutes"))
    events = events.with_columns(local_times(local, time_zone=time_zone, notes=notes))
    naive = events.filter(~pl.col("_has_offset")).select(
        (pl.col("_wall") & pl.col("_placed")).sum().alias("local"), pl.len().alias("all")
    )
    for what, num in (("local time", naive["local"][0]), ("UTC", naive["all"][0] - naive["local"][0])):
        if num:
            notes[f"times without an offset read as {what}"] += num
    if example:
        notes.remarks.append(_example(events))
    return events.drop("_has_offset", "_zone", "_cell_offset", "_offset", "_wall", "_placed")


def _moments(events: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """`time` of the rows of `_wall` in UTC, where a zone or an offset is known: those are `_placed`.

    Their `_offset` becomes the difference of UTC and the local clock.
    """
    if not events["_wall"].any():
        return events.with_columns(pl.lit(False).alias("_placed"))
    numbered = events.with_row_index("_at")
    walls = numbered.filter("_wall")
    given = walls.filter(pl.col("_offset").is_not_null())
    moved = pl.col("time") - _minutes(pl.col("_offset"))
    parts = [given.select("_at", moved.alias("_moment"))]
    zoned = walls.filter(pl.col("_offset").is_null())
    zoned = pl.concat([zoned.filter(pl.col("_zone").is_not_null()), _zones(zoned.filter(pl.col("_zone").is_null()))])
    for (zone,), group in zoned.group_by("_zone", maintain_order=True):
        if zone is not None and (moments := utc_of_wall(group["time"], str(zone), notes)) is not None:
            parts.append(group.select("_at", moments.alias("_moment")))
    found = numbered.join(pl.concat(parts), on="_at", how="left", maintain_order="left")
    apart = (pl.col("time") - pl.col("_moment")).dt.total_microseconds() / 60e6
    return found.with_columns(
        pl.coalesce("_moment", "time").alias("time"), pl.coalesce(apart, "_offset").alias("_offset"),
        pl.col("_moment").is_not_null().alias("_placed"),
    ).drop("_at", "_moment")  # fmt: skip


def utc_of_wall(wall: pl.Series, zone: str, notes: Counter[str]) -> pl.Series | None:
    """UTC times of a clock in `zone`, Datetime[us, UTC]; None for a zone that the installed rules do not know.

    `wall` is Datetime[us, UTC] of which the UTC is not meant. Of an hour that the clock shows twice, the first is
    taken, and what falls into an hour that it leaves out is an hour later; both are counted.
    """
    clock = wall.dt.replace_time_zone(None)
    try:
        first, last = (_in_zone(clock, zone, which) for which in ("earliest", "latest"))
    except pl.exceptions.ComputeError:
        return None
    if twice := int((first != last).sum()):
        notes["local times that a clock shows twice in autumn, read as the first"] += twice
    if skipped := first.null_count() - clock.null_count():
        notes["local times that a clock leaves out in spring, read as an hour later"] += skipped
        before = _in_zone(pl.select(pl.lit(clock) - _HOUR).to_series(), zone, "earliest")
        first = first.zip_with(first.is_not_null(), pl.select(pl.lit(before) + _HOUR).to_series())
    # Of times that the rules of no zone reach (the years 1 and 9999), the clock stands for UTC.
    return first.zip_with(first.is_not_null(), wall)


def _in_zone(clock: pl.Series, zone: str, which: str) -> pl.Series:
    ambiguous = pl.lit(which)
    zoned = pl.select(pl.lit(clock).dt.replace_time_zone(zone, ambiguous=ambiguous, non_existent="null")).to_series()
    return zoned.dt.convert_time_zone("UTC")


def local_times(events: pl.DataFrame, *, time_zone: str | None, notes: Counter[str]) -> pl.Series:
    """Naive local time (us) of each event: from its offset, its zone, the given zone, its coordinates, or else UTC.

    `events` have `time` (UTC), `utc_offset_minutes`, `latitude` and `longitude` (float64, nullable), and `_zone` where
    events name their zones; `notes` counts those whose local time stayed UTC. Raises ConfigError for a `time_zone` that
    is no IANA name.
    """
    utc = pl.col("time").dt.replace_time_zone(None)
    zone = pl.col("_zone") if "_zone" in events.columns else pl.lit(None, pl.String)
    numbered = events.select(
        "time", "latitude", "longitude", (utc + _minutes(pl.col("utc_offset_minutes"))).alias("local_time"),
        pl.coalesce(zone, pl.lit(time_zone, pl.String)).alias("_zone"),
    ).with_row_index("_at")  # fmt: skip
    missing = numbered.filter(pl.col("local_time").is_null())
    if missing.height == 0:
        return _within_years(numbered)
    if time_zone:
        _require_zone(time_zone)
    unzoned = pl.col("_zone").is_null()
    parts = []
    for (zone_name,), group in pl.concat([missing.filter(~unzoned), _zones(missing.filter(unzoned))]).group_by(
        "_zone", maintain_order=True
    ):
        shifted = _shift(group, str(zone_name)) if zone_name is not None else None
        if shifted is None:
            notes["local time unknown, UTC taken"] += group.height
            shifted = group.select("_at", utc.alias("_found"))
        parts.append(shifted)
    joined = numbered.join(pl.concat(parts), on="_at", how="left", maintain_order="left")
    return _within_years(joined.with_columns(pl.coalesce("local_time", "_found").alias("local_time")))


def known_zones(names: pl.Series) -> pl.Series:
    """`names` of time zones, null where the installed rules know no such zone."""
    known = [name for name in names.drop_nulls().unique() if _is_zone(name)]
    return names.set(~names.is_in(known).fill_null(False), None) if names.count() else names


def _require_zone(time_zone: str) -> None:
    if not _is_zone(time_zone):
        raise ConfigError(f"histories.time_zone should be an IANA name like Europe/Berlin, not {time_zone!r}.")


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
        pl.Series([0]).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(name)
    except (KeyError, ValueError, OSError, pl.exceptions.ComputeError):
        return False
    return True


def _minutes(offset: pl.Expr) -> pl.Expr:
    return pl.duration(microseconds=(offset * 60_000_000).round().cast(pl.Int64))


def _within_years(events: pl.DataFrame) -> pl.Series:
    """`local_time`; UTC where it would leave the years 1 to 9999, which no calendar of Python knows."""
    utc = pl.col("time").dt.replace_time_zone(None)
    inside = pl.col("local_time").dt.year().is_between(1, 9999)
    return events.select(pl.when(inside).then("local_time").otherwise(utc).alias("local_time")).to_series()


def _shift(group: pl.DataFrame, zone: str) -> pl.DataFrame | None:
    """Local times of a group in one zone; None for a zone that the installed rules do not know."""
    try:
        local = pl.col("time").dt.convert_time_zone(zone).dt.replace_time_zone(None)
        return group.select("_at", local.alias("_found"))
    except pl.exceptions.ComputeError:
        return None


def _zones(events: pl.DataFrame) -> pl.DataFrame:
    """`events` with `_zone` by their coordinates, null where there are none."""
    return events.with_columns(zones_at(events["latitude"], events["longitude"]).alias("_zone"))


def zones_at(latitude: pl.Series, longitude: pl.Series) -> pl.Series:
    """IANA name of the time zone of each place, null where there is none; each distinct place is looked up once."""
    rounded = pl.DataFrame({"latitude": latitude.round(_DECIMALS), "longitude": longitude.round(_DECIMALS)})
    places = rounded.unique(maintain_order=True).drop_nulls()
    if not places.height:
        return pl.Series("_zone", [None], dtype=pl.String).new_from_index(0, len(latitude))
    import tzfpy  # loads its map on import, which a data set with offsets never needs

    zones = [tzfpy.get_tz(east, north) or None for north, east in places.iter_rows()]
    places = places.with_columns(pl.Series("_zone", zones, dtype=pl.String))
    return rounded.join(places, on=["latitude", "longitude"], how="left", maintain_order="left")["_zone"]


def _example(events: pl.DataFrame) -> str:
    """The first event as it was understood."""
    row = events.row(0, named=True)
    if not row["hour_known"]:
        clock = f"{row['local_time']:%a %Y-%m-%d}, its hour unknown"
    elif row["_offset"] is None and row["_zone"] is None and row["local_time"] == row["time"].replace(tzinfo=None):
        clock = f"{row['local_time']:%a %Y-%m-%d %H:%M} UTC"
    else:
        zone = row["_zone"] or (zones_at(events["latitude"][:1], events["longitude"][:1])[0] if row["_offset"] is None
                                or row["_placed"] else None)  # fmt: skip
        zone = f" {zone}" if zone else ""
        clock = f"{row['local_time']:%a %Y-%m-%d %H:%M}{zone} local time, {row['time']:%Y-%m-%d %H:%M} UTC"
    return f"read as: user {row['user_id']}, item {row['item_id']}, {clock}"
