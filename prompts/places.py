"""Where the user is known to be before an event: the place itself, the way there, and how far home is.

What counts as "here" is known before the event, whatever `location` says. Where an event's coordinates are context,
here is that place. Where they are those of the chosen item, here is the user's last known place, and the event's own
coordinates are never read. Home is the most frequent place of the nights before, which is the usual rule of home
detection (Vanhoof et al., "Assessing the quality of home detection from mobile phone data", Journal of Official
Statistics 34(4), 2018).

Shapes: N = events, X = requested rows. A row of -1 stands for no event.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..arrays import Bool, Float64, Int64
from ..histories.distance import PlacesOnSphere, has_coordinates, points
from .lookup import words_at

PLACE_VARIABLES: Final = (
    "here", "cell", "moved", "moved_km", "direction", "speed", "from_home", "home_km", "home_direction",
)  # fmt: skip
SAME_PLACE_KM: Final = 0.05  # what satellite positioning errs by in a street
NIGHT_BEGINS, NIGHT_ENDS = 21, 6  # hours of the local day
MIN_NIGHTS: Final = 2  # events at night that make a place a home
_HOME_CELL_DEGREES: Final = 0.002  # about 200 m: events at one home are rarely at one point
_CELL_LETTERS: Final = 6  # of a geohash: about 1.2 km by 0.6 km
_GEOHASH: Final = np.array(list("0123456789bcdefghjkmnpqrstuvwxyz"))
_DIRECTIONS: Final = pl.Series(
    ["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west", ""]
)
# Upper bounds in km/h of the words for speed; above the last one somebody flies.
_SPEEDS: Final = ((7.0, "walking"), (25.0, "cycling"), (200.0, "driving"))
_SPEED_WORDS: Final = pl.Series([*(word for _, word in _SPEEDS), "flying", ""])
# If the time between two events is longer, the user did not travel all the time; if shorter, clocks are too coarse.
_SPEED_HOURS: Final = (1 / 30, 3.0)
_LAST_STEP: Final = 201  # half the way around the earth, in steps of 100 km


class Places:
    """The variables PLACE_VARIABLES of events sorted by user and time, each made at its first use.

    `here` is the name of the place (`names_I1`, see `names_of`, of the item chosen last where coordinates are those
    of items), else its cell; `cell` a geohash of 6 letters; `moved` and `from_home` are distances in words, with
    `moved_km` and `home_km` in kilometres; directions are those of a compass, from the place before and from home.
    What is not known is "" in words and null in numbers.
    """

    def __init__(self, events: pl.DataFrame, location: str, names_I1: pl.Series | None) -> None:
        self.events, self.location, self.names_I1 = events, location, names_I1

    def column(self, name: str) -> pl.Series:
        if not self._known:
            empty = pl.Series([None], dtype=pl.Float64) if name.endswith("_km") else pl.Series([""])
            return empty.new_from_index(0, self.events.height).alias(name)
        return _MADE[name](self).alias(name)

    @cached_property
    def degrees_here(self) -> tuple[Float64, Float64]:
        """Latitude and longitude of where the user is known to be before each event: float64 [N], NaN where unknown."""
        if not self._known:
            return np.full(self.events.height, np.nan), np.full(self.events.height, np.nan)
        latitude_N, longitude_N = np.ascontiguousarray(self._degrees_N2[self.rows.here_N].T)
        return latitude_N, longitude_N

    @cached_property
    def rows(self) -> _Rows:
        return _Rows(self.events, self.location, self._degrees_N2)

    @cached_property
    def moved_N(self) -> Float64:
        """Kilometres from the place before, float64 [N]."""
        return self._on_sphere.km(self.rows.before_N, self.rows.here_N)

    @cached_property
    def home_N(self) -> Float64:
        """Kilometres from home, float64 [N]."""
        return self._on_sphere.km(self.rows.home_N, self.rows.here_N)

    def cell(self) -> pl.Series:
        return cells(self._degrees_N2[self.rows.here_N])

    def here(self) -> pl.Series:
        if self.names_I1 is None or self.location != "outcome":
            return self.cell()
        names = _names(self.events["item_idx"].to_numpy(), self.rows.here_N, self.names_I1)
        nameless_X = np.array([row for row, name in enumerate(names.to_list()) if not name], np.int64)
        if len(nameless_X):
            names = names.scatter(nameless_X, cells(self._degrees_N2[self.rows.here_N[nameless_X]]))
        return names

    def way(self, from_N: Int64, km_N: Float64) -> pl.Series:
        """The direction from other rows to here."""
        return directions(self._degrees_N2[from_N], self._degrees_N2[self.rows.here_N], km_N)

    @cached_property
    def _known(self) -> bool:
        return has_coordinates(self.events)

    @cached_property
    def _degrees_N2(self) -> Float64:
        """Coordinates, float64 [N + 1, 2]; unknown in the last row, which is that of -1."""
        axes = [self.events[name].cast(pl.Float64).to_numpy() for name in ("latitude", "longitude")]
        return np.append(np.stack(axes, axis=1), [[np.nan] * 2], axis=0)

    @cached_property
    def _on_sphere(self) -> PlacesOnSphere:
        latitude_N, longitude_N = self._degrees_N2.T
        return PlacesOnSphere(points(latitude=latitude_N, longitude=longitude_N))


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
    words = words_at(words, index_X)
    return words if known_X.all() else words.set(pl.Series(~known_X), "")


def distance_words(km_X: Float64, same_km: float, same: str) -> pl.Series:
    """Distances as '300 m', '2 km', '40 km', '1200 km', in steps that grow with them; `same` below `same_km`.

    "" where NaN.
    """
    words, unknown_X = _distances(same), np.isnan(km_X)
    class_X = np.searchsorted(_CLASSES, km_X, side="right")  # 3 for NaN too
    steps_X = np.where(unknown_X, 0.0, km_X * _TIMES[class_X] / _PARTS[class_X])
    steps_X = np.minimum(np.maximum(np.rint(steps_X), 1), _LAST_STEP).astype(np.int64)
    code_X = np.where(km_X < same_km, len(words) - 2, 9 * class_X + steps_X - 1)
    return words_at(words, np.where(unknown_X, len(words) - 1, code_X))


# Upper bounds in km of the classes of distances, and a step of each: 100 m, 1 km, 10 km and 100 km.
_CLASSES: Final = np.array([0.95, 9.5, 95.0])
_TIMES: Final = np.array([10.0, 1.0, 1.0, 1.0])
_PARTS: Final = np.array([1.0, 1.0, 10.0, 100.0])


@cache
def _distances(same: str) -> pl.Series:
    """The words of all distances, nine of each step but the last, then `same` and ""."""
    near = [f"{n}{unit}" for unit in ("00 m", " km", "0 km") for n in range(1, 10)]
    return pl.Series([*near, *(f"{n}00 km" for n in range(1, _LAST_STEP + 1)), same, ""])


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
    return words_at(_DIRECTIONS, eighth_X)


class _Rows:
    """Rows of events, int64 [N] each: where the user is, was before, and is at home, known before the event.

    `degrees_N2` has a last row for no place.
    """

    def __init__(self, events: pl.DataFrame, location: str, degrees_N2: Float64) -> None:
        self.events, self.location = events, location
        self._degrees_N2 = degrees_N2[:-1]
        self._known_N: Bool = np.isfinite(self._degrees_N2[:, 0]) & np.isfinite(self._degrees_N2[:, 1])
        self._start_N = _starts(events["user_idx"].to_numpy())

    @cached_property
    def here_N(self) -> Int64:
        if self.location == "context":
            return np.where(self._known_N, np.arange(len(self._known_N)), -1)
        return self._earlier_N

    @cached_property
    def before_N(self) -> Int64:
        if self.location == "context":
            return self._earlier_N
        return np.where(self._earlier_N >= 0, _before(self._last_N, self._start_N)[self._earlier_N], -1)

    @cached_property
    def home_N(self) -> Int64:
        """Home as known just before each event."""
        hour_N = self.events["local_time"].to_numpy().astype("datetime64[h]").astype(np.int64) % 24
        night_N = self._known_N & ((hour_N >= NIGHT_BEGINS) | (hour_N < NIGHT_ENDS))
        if "hour_known" in self.events.columns:
            night_N &= self.events["hour_known"].fill_null(True).to_numpy()
        becomes_N = _becomes_home(self._degrees_N2, night_N, self._start_N)
        return _before(_last(becomes_N, self._start_N), self._start_N)

    @cached_property
    def _last_N(self) -> Int64:
        return _last(self._known_N, self._start_N)

    @cached_property
    def _earlier_N(self) -> Int64:
        return _before(self._last_N, self._start_N)


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


def _becomes_home(degrees_N2: Float64, night_N: Bool, start_N: Int64) -> Bool:
    """Which events at night make their place the most frequent one of their user's nights so far.

    P = events at night.
    """
    row_P = np.flatnonzero(night_N)
    becomes_N = np.zeros(len(night_N), bool)
    if not len(row_P):
        return becomes_N
    cell_P2 = np.rint(degrees_N2[row_P] / _HOME_CELL_DEGREES).astype(np.int64)
    order_P = np.lexsort((cell_P2[:, 1], cell_P2[:, 0], start_N[row_P]))  # stable: in time within user and cell
    keys_P3 = np.column_stack([start_N[row_P], cell_P2])[order_P]
    begins_P = np.concatenate([[True], (keys_P3[1:] != keys_P3[:-1]).any(axis=1)])
    place_P = np.arange(len(row_P))
    count_P = np.empty_like(place_P)
    count_P[order_P] = place_P - np.maximum.accumulate(np.where(begins_P, place_P, 0)) + 1
    # The most so far, of each user: a later user's counts stand above all of those before.
    user_P = np.cumsum(np.concatenate([[True], start_N[row_P[1:]] != start_N[row_P[:-1]]])) * (len(row_P) + 1)
    most_P = np.maximum.accumulate(count_P + user_P) - user_P
    before_P = np.where(np.concatenate([[0], user_P[:-1]]) == user_P, np.concatenate([[0], most_P[:-1]]), 0)
    becomes_N[row_P[(count_P > before_P) & (count_P >= MIN_NIGHTS)]] = True
    return becomes_N


def names_of(column: pl.Series) -> pl.Series:
    """Names of places by item index as `Places` wants them: text, "" where there is none, and "" behind the last."""
    return pl.concat([column.cast(pl.String).fill_null(""), pl.Series([""], dtype=pl.String)])


def _names(item_N: NDArray[np.integer], row_X: Int64, names_I1: pl.Series) -> pl.Series:
    """The names of the items chosen in some rows; "" for none and for items without a name."""
    last = len(names_I1) - 1
    item_X = np.where(row_X >= 0, item_N[row_X], last).astype(np.int64)
    return words_at(names_I1, np.where((item_X < 0) | (item_X > last), last, item_X))


def _speeds(events: pl.DataFrame, rows: _Rows, km_N: Float64) -> pl.Series:
    """Words for how fast the way to here was; "" where that is not known."""
    time_s_N = _seconds(events["time"])
    hours_N = (time_s_N[rows.here_N] - time_s_N[rows.before_N]) / 3600
    known_N = (rows.here_N >= 0) & (rows.before_N >= 0) & (km_N >= SAME_PLACE_KM)
    if "hour_known" in events.columns:
        clock_N = events["hour_known"].fill_null(True).to_numpy()
        known_N &= clock_N[rows.here_N] & clock_N[rows.before_N]
    known_N &= (hours_N >= _SPEED_HOURS[0]) & (hours_N <= _SPEED_HOURS[1])
    kmh_N = np.where(known_N, km_N, 0.0) / np.where(known_N, hours_N, 1.0)
    class_N = np.where(known_N, np.searchsorted([bound for bound, _ in _SPEEDS], kmh_N, side="right"), -1)
    return words_at(_SPEED_WORDS, np.where(class_N < 0, len(_SPEED_WORDS) - 1, class_N))


def _seconds(time: pl.Series) -> Float64:
    """Seconds since 1970, to the millisecond."""
    return time.to_numpy().astype("datetime64[ms]").astype(np.int64) / 1000.0


def _numbers(km_N: Float64) -> pl.Series:
    return pl.Series(km_N.round(1)).fill_nan(None)


_MADE: Final[dict[str, Callable[[Places], pl.Series]]] = {
    "here": Places.here,
    "cell": Places.cell,
    "moved": lambda places: distance_words(places.moved_N, SAME_PLACE_KM, "same place"),
    "moved_km": lambda places: _numbers(places.moved_N),
    "direction": lambda places: places.way(places.rows.before_N, places.moved_N),
    "speed": lambda places: _speeds(places.events, places.rows, places.moved_N),
    "from_home": lambda places: distance_words(places.home_N, 2 * SAME_PLACE_KM, "at home"),
    "home_km": lambda places: _numbers(places.home_N),
    "home_direction": lambda places: places.way(places.rows.home_N, places.home_N),
}
