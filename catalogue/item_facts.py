"""What filters know of the items: places, categories and opening hours as columns, laid out once for a catalogue.

Each question gives a mask bool [I] by item index and never counts an item in of which it does not know.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..arrays import Bool, Float32, Float64, Int32, Int64
from ..errors import CatalogueError
from ..histories.distance import EARTH_RADIUS_KM, distance_km, points, points_of
from .opening_hours import UNKNOWN, Timetable

Int8 = NDArray[np.int8]

# Chords are compared in float32, in units of the earth's radius; nearer to the border than this, float64 decides.
# Rounding errs by 2^-25 in a coordinate of either end and by 2^-24 in their difference: 2.1e-7 over the three axes, and
# about as much again in squares and sums.
_CHORD_ERROR = 1e-6
_NOWHERE = 9.0  # a coordinate of a missing place: farther from the unit sphere than any radius reaches
_MANY = 20_000  # of more names than these, only the neighbours in the alphabet are searched for a resemblance


@dataclass(frozen=True)
class Places:
    """I items on the unit sphere: float64 [I, 3], NaN where missing, and to be searched as float32 [3, I]."""

    point_N3: Float64
    unit_3I: Float32

    @classmethod
    def of(cls, items: pl.DataFrame) -> Places:
        point_N3 = points_of(items)
        return cls(point_N3, np.nan_to_num(point_N3.T, nan=_NOWHERE).astype(np.float32, order="C"))

    @property
    def known_I(self) -> Bool:
        known_I: Bool = self.unit_3I[0] != np.float32(_NOWHERE)
        return known_I

    def near(self, *, latitude: float, longitude: float, km: float) -> Bool:
        """bool [I]: items at most `km` of great circle from the place; on the border, float64 decides."""
        centre_3 = points(latitude=latitude, longitude=longitude)
        chord2_I = np.zeros(len(self.point_N3), np.float32)
        for axis_I, centre in zip(self.unit_3I, centre_3.astype(np.float32), strict=True):
            difference_I = axis_I - centre
            chord2_I += np.multiply(difference_I, difference_I, out=difference_I)
        reach = 2 * np.sin(min(km / EARTH_RADIUS_KM, np.pi) / 2)
        surely = (reach - _CHORD_ERROR) ** 2 if reach > _CHORD_ERROR else -1.0
        near_I = chord2_I <= np.float32(surely)
        border = np.flatnonzero((chord2_I <= np.float32((reach + _CHORD_ERROR) ** 2)) & ~near_I)
        near_I[border] = distance_km(self.point_N3[border], centre_3) <= km
        return near_I

    def km_from(self, item_idx_K: Int64, *, latitude: float, longitude: float) -> Float64:
        """float64 [K]: great circle from a place in degrees to items, NaN where an item has no coordinates."""
        return distance_km(self.point_N3[item_idx_K], points(latitude=latitude, longitude=longitude))


@dataclass(frozen=True)
class Names:
    """A column of text in distinct values: `names` as they stand first, `code_I` int32 [I] into them, -1 for none."""

    names: list[str]
    code_I: Int32

    @classmethod
    def of(cls, column: pl.Series) -> Names:
        if column.dtype.is_nested():
            raise CatalogueError(
                f"The items' {column.name} should be text but is {column.dtype}; make it one value each."
            )
        text = column.cast(pl.String).str.strip_chars()
        names = text.unique(maintain_order=True).drop_nulls()
        names = names.filter(names != "")
        code = text.replace_strict(names, np.arange(len(names), dtype=np.int32), default=-1, return_dtype=pl.Int32)
        return cls(names.to_list(), code.to_numpy())


@dataclass(frozen=True)
class ItemFacts:
    """The items of a catalogue (`items`: one row per item index) in the form that filters need.

    `item_id` is needed; `latitude` and `longitude`, `category` and `opening_hours` (OpenStreetMap's syntax) only by
    the filters that need them. A column is prepared at its first use, and cached.
    """

    items: pl.DataFrame

    @property
    def num_items(self) -> int:
        return self.items.height

    @cached_property
    def places(self) -> Places:
        return Places.of(self.items.select(self._column("latitude"), self._column("longitude")))

    @cached_property
    def categories(self) -> Names:
        return Names.of(self._column("category"))

    @cached_property
    def hours(self) -> Names:
        return Names.of(self._column("opening_hours"))

    @cached_property
    def timetable(self) -> Timetable:
        return Timetable(self.hours.names)

    def near(self, *, latitude: float, longitude: float, km: float) -> Bool:
        """bool [I]: items within `km` of a place in degrees; see `Places.near`."""
        return self.places.near(latitude=latitude, longitude=longitude, km=km)

    def in_category(self, categories: Sequence[str]) -> Bool:
        """bool [I]: items of one of the categories, distinguished by neither case nor Unicode form.

        Raises CatalogueError for a category that no item has; names the nearest.
        """
        wanted = {_fold(name): name for name in categories}
        if unknown := [name for key, name in wanted.items() if key not in self._codes]:
            raise CatalogueError(_unknown("category", unknown, self.categories.names))
        wanted_D = np.zeros(len(self.categories.names) + 1, bool)  # the last one is that of the items without any
        wanted_D[[code for key in wanted for code in self._codes[key]]] = True
        return wanted_D[self.categories.code_I]

    @cached_property
    def _codes(self) -> dict[str, list[int]]:
        """The spellings of each category, as places in `categories.names`."""
        codes: dict[str, list[int]] = {}
        for code, name in enumerate(self.categories.names):
            codes.setdefault(_fold(name), []).append(code)
        return codes

    def states(self, local: datetime) -> Int8:
        """int8 [I]: `opening_hours.OPEN`, `CLOSED` or `UNKNOWN` then; without readable hours `UNKNOWN`."""
        return np.append(self.timetable.states(local), np.int8(UNKNOWN))[self.hours.code_I]

    @cached_property
    def unreadable_I(self) -> Bool:
        """bool [I]: items whose opening hours cannot be read."""
        return np.append(self.timetable.unreadable_D, False)[self.hours.code_I]

    def listed(self, item_ids: Sequence[str]) -> Bool:
        """bool [I]: the items with these ids. Raises CatalogueError for an unknown id; names the nearest."""
        hash_I, item_of_hash_I = self._by_hash
        wanted = pl.Series(item_ids, dtype=pl.String)
        hash_M = _hash(wanted)
        order_M = np.argsort(hash_M)  # in order, the search walks through memory instead of leaping
        item_M = item_of_hash_I[np.minimum(np.searchsorted(hash_I, hash_M[order_M]), self.num_items - 1)]
        found_M = (self._ids.gather(item_M) == wanted.gather(order_M)).to_numpy()
        listed_I = np.zeros(self.num_items, bool)
        listed_I[item_M[found_M]] = True
        if not found_M.all():  # ids that no item has, or that share their hash with another one
            rest = wanted.gather(order_M).filter(~found_M)
            among_I = self._ids.is_in(rest.implode()).to_numpy()
            if unknown := set(rest) - set(self._ids.filter(among_I)):
                raise CatalogueError(_unknown("item", [name for name in item_ids if name in unknown], self._ids))
            listed_I |= among_I
        return listed_I

    @cached_property
    def _ids(self) -> pl.Series:
        return self._column("item_id").cast(pl.String)

    @cached_property
    def _by_hash(self) -> tuple[NDArray[np.uint64], Int32]:
        """The hashes of all ids in ascending order, and whose each is: 12 bytes an item, a tenth of a dictionary."""
        hash_I = _hash(self._ids)
        order_I = np.argsort(hash_I, kind="stable")
        return hash_I[order_I], order_I.astype(np.int32)

    def _column(self, name: str) -> pl.Series:
        if name not in self.items.columns:
            raise CatalogueError(
                f"This filter needs a column {name!r} of the items, which have only {', '.join(self.items.columns)}; "
                "add it to the items table and run `whereupon prepare` again, or leave the filter out."
            )
        return self.items[name]


def _hash(ids: pl.Series) -> NDArray[np.uint64]:
    return ids.hash().to_numpy()


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.strip()).casefold())


def _unknown(kind: str, unknown: Sequence[str], known: Sequence[str] | pl.Series) -> str:
    """The sentence for names that no column has."""
    name, more = unknown[0], f" (nor {len(unknown) - 1} more)" if len(unknown) > 1 else ""
    names = pl.Series(known, dtype=pl.String)
    if len(names) > _MANY:
        names = names.sort()
        at = int(names.search_sorted(name))
        names = names[max(0, at - 50) : at + 50]
    by_key = {_fold(other): other for other in names}
    near = difflib.get_close_matches(_fold(name), by_key, n=3, cutoff=0.3) or list(by_key)[:3]
    said = f"; did you mean {', '.join(by_key[key] for key in near)}?" if near else "."
    return f"There is no {kind} {name!r} among {len(known):,}{more}{said}"
