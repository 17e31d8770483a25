"""Where the user is known to be before an event: the place itself, the way there, and how far home is.

What counts as "here" is known before the event, whatever `location` says. Where an event's coordinates are context,
here is that place. Where they are those of the chosen item, here is the user's last known place, and the event's own
coordinates are never read. Home is the most frequent place of the nights before, which is the usual rule of home
detection (Vanhoof et al., "Assessing the quality of home detection from mobile phone data", Journal of Official
Statistics 34(4), 2018).

Shapes: N = events, X = rows asked about. A row of -1 stands for no event.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..arrays import Bool, Float64, Int64
from ..histories.distance import PlacesOnSphere, has_coordinates

PLACE_VARIABLES: Final = (
    "here", "cell", "moved", "moved_km", "direction", "speed", "from_home", "home_km", "home_direction",
)  # fmt: skip
SAME_PLACE_KM: Final = 0.05  # what satellite positioning errs by in a street
NIGHT_BEGINS, NIGHT_ENDS = 21, 6  # hours of the local day
MIN_NIGHTS: Final = 2  # events at night that make a place a home
_HOME_CELL_DEGREES: Final = 0.002  # about 200 m: events at one home are rarely at one point
_CELL_LETTERS: Final = 6  # of a geohash: about 1.2 km by 0.6 km
_GEOHASH: Final = np.array(list("0123456789bcdefghjkmnpqrstuvwxyz"))
_DIRECTIONS: Final = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")
# Upper bounds in km/h of the words for speed; above the last one somebody flies.
_SPEEDS: Final = ((7.0, "walking"), (25.0, "cycling"), (200.0, "driving"))
# Between two events of a longer time apart nobody travelled all the time; of a shorter one, clocks say too little.
_SPEED_HOURS: Final = (1 / 30, 3.0)


def place_columns(events: pl.DataFrame, location: str, names_I: pl.Series | None) -> pl.DataFrame:
    """The columns PLACE_VARIABLES, a row an event; `events` sorted by user and time.

    `here` is the name of the place (`names_I`, text by item index, of the item chosen last where coordinates are those
    of items), else its cell; `cell` a geohash of 6 letters; `moved` and `from_home` are distances in words, with
    `moved_km` and `home_km` in kilometres; directions are those of a compass, from the place before and from home.
    What is not known is "" in words and null in numbers.
    """
    if not has_coordinates(events):
        return _nothing(events.height)
    rows = _Rows.of(events, location)
    places = PlacesOnSphere.of(events)
    moved_N, home_N = places.km(rows.before_N, rows.here_N), places.km(rows.home_N, rows.here_N)
    degrees_N2 = _degrees(events)
    cell = cells(degrees_N2[rows.here_N])
    here = cell
    if names_I is not None and location == "outcome":
        here = _names(events["item_idx"].to_numpy(), rows.here_N, names_I)
    return pl.DataFrame({
        "here": here.zip_with(here != "", cell), "cell": cell,
        "moved": distance_words(moved_N, SAME_PLACE_KM, "same place"), "moved_km": _numbers(moved_N),
        "direction": directions(degrees_N2[rows.before_N], degrees_N2[rows.here_N], moved_N),
        "speed": _speeds(events, rows, moved_N),
        "from_home": distance_words(home_N, 2 * SAME_PLACE_KM, "at home"), "home_km": _numbers(home_N),
        "home_direction": directions(degrees_N2[rows.home_N], degrees_N2[rows.here_N], home_N),
    })  # fmt: skip


def known_degrees(events: pl.DataFrame, location: str) -> Float64:
    """Latitude and longitude of where the user is known to be before each event: float64 [N, 2], NaN where unknown."""
    if not has_coordinates(events):
        return np.full((events.height, 2), np.nan)
    return _degrees(events)[_Rows.of(events, location).here_N]


def _degrees(events: pl.DataFrame) -> Float64:
    """Coordinates, float64 [N + 1, 2]; unknown in the last row, which is that of -1."""
    degrees_N2 = events.select(pl.col("latitude", "longitude").cast(pl.Float64).fill_null(np.nan)).to_numpy()
    return np.append(degrees_N2, [[np.nan] * 2], axis=0)


def cells(degrees_X2: Float64) -> pl.Series:
    """Geohash of 6 letters for latitudes and longitudes in degrees; "" where unknown.

    Geohash (Niemeyer, 2008) halves longitude and latitude in turn, a bit each, and writes five bits a letter.
    """
    known_X: Bool = np.isfinite(degrees_X2[:, 0]) & np.isfinite(degrees_X2[:, 1])
    if not known_X.any():
        return pl.Series([""], dtype=pl.String).new_from_index(0, len(known_X))
    half = 1 << (5 * _CELL_LETTERS // 2)
    fraction_X2 = (np.where(known_X[:, None], degrees_X2, 0.0) + np.array([90, 180])) / np.array([180, 360])
    number_X2 = np.clip((fraction_X2 * half).astype(np.int64), 0, half - 1)
    pair, index_X = np.unique(number_X2[:, 0] * half + number_X2[:, 1], return_inverse=True)
    code = np.zeros_like(pair)
    for bit in range(half.bit_length() - 2, -1, -1):
        code = code << 2 | (pair % half >> bit & 1) << 1 | pair // half >> bit & 1
    shifts = 5 * np.arange(_CELL_LETTERS - 1, -1, -1)
    letters = _GEOHASH[code[:, None] >> shifts & 31]
    words = pl.Series(["".join(row) for row in letters.tolist()], dtype=pl.String)
    return words.gather(index_X).set(pl.Series(~known_X), "")


def distance_words(km_X: Float64, same_km: float, same: str) -> pl.Series:
    """Distances as '300 m', '2 km', '40 km', '1200 km', in steps that grow with them; `same` below `same_km`.

    "" where NaN.
    """
    km = pl.col("km")
    metres = (km * 10).round().clip(1) * 100
    step = pl.when(km < 9.5).then(1.0).when(km < 95).then(10.0).otherwise(100.0)
    kilometres = (km / step).round() * step
    words = (
        pl.when(km.is_nan()).then(pl.lit(""))
        .when(km < same_km).then(pl.lit(same))
        .when(km < 0.95).then(metres.cast(pl.Int64).cast(pl.String) + " m")
        .otherwise(kilometres.cast(pl.Int64, strict=False).cast(pl.String) + " km")
    )  # fmt: skip
    return pl.DataFrame({"km": km_X}).select(words).to_series()


def directions(from_X2: Float64, to_X2: Float64, km_X: Float64) -> pl.Series:
    """The compass direction in which each place lies from another, by the initial bearing of the great circle.

    "" where either place is unknown or both are the same.
    """
    latitude_X, longitude_X = np.radians(from_X2).T
    other_X, east_X = np.radians(to_X2[:, 0]), np.radians(to_X2[:, 1]) - longitude_X
    north_X = np.cos(latitude_X) * np.sin(other_X) - np.sin(latitude_X) * np.cos(other_X) * np.cos(east_X)
    bearing_X = np.arctan2(np.sin(east_X) * np.cos(other_X), north_X)
    known_X = np.isfinite(bearing_X) & (km_X >= SAME_PLACE_KM)
    eighth_X = np.where(known_X, np.round(np.where(known_X, bearing_X, 0.0) / (np.pi / 4)) % 8, 8).astype(np.int64)
    return pl.Series([*_DIRECTIONS, ""], dtype=pl.String).gather(eighth_X)


class _Rows:
    """Rows of events, int64 [N] each: where the user is, was before, and is at home, known before the event."""

    def __init__(self, here_N: Int64, before_N: Int64, home_N: Int64) -> None:
        self.here_N, self.before_N, self.home_N = here_N, before_N, home_N

    @classmethod
    def of(cls, events: pl.DataFrame, location: str) -> _Rows:
        known_N = events.select(pl.all_horizontal(pl.col("latitude", "longitude").is_not_null())).to_series().to_numpy()
        user_N = events["user_idx"].to_numpy()
        start_N = _starts(user_N)
        last_N = _last(known_N, start_N)
        earlier_N = _before(last_N, start_N)
        home_N = _before(_last(_becomes_home(events, known_N), start_N), start_N)
        if location == "context":
            return cls(np.where(known_N, np.arange(len(known_N)), -1), earlier_N, home_N)
        before_N = np.where(earlier_N >= 0, _before(last_N, start_N)[earlier_N], -1)
        return cls(earlier_N, before_N, home_N)


def _starts(user_N: NDArray[np.integer]) -> Int64:
    """The first row of each event's user."""
    first_N = np.concatenate([[True], user_N[1:] != user_N[:-1]])
    start_N: Int64 = np.maximum.accumulate(np.where(first_N, np.arange(len(user_N)), 0))
    return start_N


def _last(which_N: Bool, start_N: Int64) -> Int64:
    """The last row up to each event, itself included, of the same user for which `which_N` holds; -1: none."""
    row_N = np.maximum.accumulate(np.where(which_N, np.arange(len(which_N)), -1))
    return np.where(row_N >= start_N, row_N, -1)


def _before(row_N: Int64, start_N: Int64) -> Int64:
    """What `row_N` says of the event before, of the same user; -1: none."""
    return np.where(np.arange(len(row_N)) > start_N, np.concatenate([[-1], row_N[:-1]]), -1)


def _becomes_home(events: pl.DataFrame, known_N: Bool) -> Bool:
    """Which events at night make their place the most frequent one of their user's nights so far."""
    hour = pl.col("local_time").dt.hour()
    night = pl.lit(pl.Series(known_N)) & ((hour >= NIGHT_BEGINS) | (hour < NIGHT_ENDS))
    if "hour_known" in events.columns:
        night &= pl.col("hour_known").fill_null(True)
    nights = events.with_row_index("_row").filter(night).select(
        "_row", "user_idx", ((pl.col("latitude", "longitude") / _HOME_CELL_DEGREES).round().cast(pl.Int64))
    )  # fmt: skip
    nights = nights.with_columns(count=pl.int_range(1, pl.len() + 1).over("user_idx", "latitude", "longitude"))
    most = pl.col("count").cum_max().shift(1, fill_value=0).over("user_idx")
    rows = nights.filter((pl.col("count") > most) & (pl.col("count") >= MIN_NIGHTS))["_row"].to_numpy()
    becomes_N = np.zeros(events.height, bool)
    becomes_N[rows] = True
    return becomes_N


def _names(item_N: NDArray[np.integer], row_X: Int64, names_I: pl.Series) -> pl.Series:
    """The names of the items chosen in some rows; "" for none and for items without a name."""
    item_X = np.where(row_X >= 0, item_N[row_X], len(names_I)).astype(np.int64)
    known = pl.concat([names_I.cast(pl.String).fill_null(""), pl.Series([""], dtype=pl.String)])
    return known.gather(np.where((item_X < 0) | (item_X > len(names_I)), len(names_I), item_X))


def _speeds(events: pl.DataFrame, rows: _Rows, km_N: Float64) -> pl.Series:
    """Words for how fast the way to here was; "" where that is not known."""
    time_s_N = events["time"].dt.epoch("ms").to_numpy() / 1000.0
    hours_N = (time_s_N[rows.here_N] - time_s_N[rows.before_N]) / 3600
    known_N = (rows.here_N >= 0) & (rows.before_N >= 0) & (km_N >= SAME_PLACE_KM)
    if "hour_known" in events.columns:
        clock_N = events["hour_known"].fill_null(True).to_numpy()
        known_N &= clock_N[rows.here_N] & clock_N[rows.before_N]
    known_N &= (hours_N >= _SPEED_HOURS[0]) & (hours_N <= _SPEED_HOURS[1])
    kmh_N = np.where(known_N, km_N, 0.0) / np.where(known_N, hours_N, 1.0)
    class_N = np.where(known_N, np.searchsorted([bound for bound, _ in _SPEEDS], kmh_N, side="right"), -1)
    words = pl.Series([*(word for _, word in _SPEEDS), "flying", ""], dtype=pl.String)
    return words.gather(np.where(class_N < 0, len(words) - 1, class_N))


def _numbers(km_N: Float64) -> pl.Series:
    return pl.Series(km_N.round(1)).fill_nan(None)


def _nothing(height: int) -> pl.DataFrame:
    """The same columns for events of which no place is known."""
    types = {name: pl.Float64() if name.endswith("_km") else pl.String() for name in PLACE_VARIABLES}
    empty = {name: pl.Series([None if dtype == pl.Float64 else ""], dtype=dtype) for name, dtype in types.items()}
    return pl.DataFrame({name: series.new_from_index(0, height) for name, series in empty.items()})
