"""The time on the clock where an event happened."""

from collections import Counter

import polars as pl

from ..errors import ConfigError

# Zone borders are drawn no finer than this; rounding lets neighbours share a look-up.
_DECIMALS = 3


def local_times(events: pl.DataFrame, *, time_zone: str | None, notes: Counter[str]) -> pl.Series:
    """Naive local time (us) of each event: from its offset, else the given zone, else its coordinates, else UTC.

    `events` have `time` (UTC), `utc_offset_minutes`, `latitude` and `longitude` (float64, nullable); `notes` counts
    those whose local time stayed UTC. Raises ConfigError for a `time_zone` that is no IANA name.
    """
    utc = pl.col("time").dt.replace_time_zone(None)
    offset = pl.duration(microseconds=(pl.col("utc_offset_minutes") * 60_000_000).round().cast(pl.Int64))
    numbered = events.select("time", "latitude", "longitude", (utc + offset).alias("local_time")).with_row_index("_at")
    missing = numbered.filter(pl.col("local_time").is_null())
    if missing.height == 0:
        return numbered["local_time"]
    zoned = missing.with_columns(pl.lit(time_zone).alias("zone")) if time_zone else _zones(missing)
    parts = []
    for (zone,), group in zoned.group_by("zone", maintain_order=True):
        shifted = _shift(group, str(zone)) if zone is not None else None
        if shifted is None and time_zone:
            raise ConfigError(f"histories.time_zone should be an IANA name like Europe/Berlin, not {time_zone!r}.")
        if shifted is None:
            notes["local time unknown, UTC taken"] += group.height
            shifted = group.select("_at", utc.alias("_found"))
        parts.append(shifted)
    joined = numbered.join(pl.concat(parts), on="_at", how="left", maintain_order="left")
    return joined.select(pl.coalesce("local_time", "_found").alias("local_time")).to_series()


def _shift(group: pl.DataFrame, zone: str) -> pl.DataFrame | None:
    """Local times of a group in one zone; None for a zone that the installed rules do not know."""
    try:
        local = pl.col("time").dt.convert_time_zone(zone).dt.replace_time_zone(None)
        return group.select("_at", local.alias("_found"))
    except pl.exceptions.ComputeError:
        return None


def _zones(events: pl.DataFrame) -> pl.DataFrame:
    """Add `zone`, null where there are no coordinates; each distinct rounded place is looked up once."""
    import tzfpy  # loads its map on import, which a data set with offsets never needs

    rounded = events.with_columns(pl.col("latitude", "longitude").round(_DECIMALS).name.prefix("_"))
    places = rounded.select("_latitude", "_longitude").unique().drop_nulls()
    zones = [tzfpy.get_tz(longitude, latitude) or None for latitude, longitude in places.iter_rows()]
    places = places.with_columns(pl.Series("zone", zones, dtype=pl.String))
    return rounded.join(places, on=["_latitude", "_longitude"], how="left", maintain_order="left")
