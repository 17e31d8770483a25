"""What is known of items that a user has not chosen: distance, others' visits and moves, categories by hour.

Everything is as of the query's time: counts are of strictly earlier events. For the features see `NAMES`.

Shapes: see `arrays`; K = features, C = categories, M = events in the order of time, P = the rows of a part.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..arrays import Bool, Float32, Float64, Int64, ragged
from ..histories import Histories
from ..histories.distance import distance_km, has_coordinates, points_of
from .cached import cached
from .clock import DAY_S, Stream, is_weekend, local_seconds, stream_of
from .counting import Moves, moves_of
from .returns import EventData, Returns, event_data, sums

T = TypeVar("T")

_CACHED = 5_000  # items whose nearness to each other is kept
_KEPT_CELLS = 200_000  # questions times items whose features are kept, about 20 MB
_LONG_AGO = 300.0  # days
_LATELY_S = 30 * DAY_S  # half-life
_SOON_S = 2 * 3600  # after this time "soon" is a half
_SCALES = (0.05, 0.3, 2.0)  # km

OF_PLACES: Final = (
    "last 0.05", "last 1", "last linear", "soon 0.05", "soon 1", "soon linear", "own 0.05", "own 0.3", "own 2",
)  # fmt: skip
OF_COUNTS: Final = ("events", "users", "users lately", "recent", "moves", "moves soon")
OF_CATEGORIES: Final = ("hour", "category attended", "category chosen", "category items", "category last")
OF_NETWORK: Final = (*OF_PLACES, *OF_CATEGORIES)
"""What the network reads. No counts: see the module's text."""
NAMES: Final = (*OF_PLACES, *OF_COUNTS, *OF_CATEGORIES)
"""Features. Of the distance to the last item there are three shapes; what is "soon" counts the more, the less time has
passed since the last event."""


@dataclass(frozen=True, eq=False)
class Facts:
    """What all users did, and what items are.

    `first_stream` holds the first visits of a user to an item. `tag_stream` holds these visits for each
    of the item's categories, which are its "items"; for each of its entries, `share_T` float64 is the share of the
    category in the item, `hour_T` int64 and `weekend_T` bool are those of the local clock. `tag_IC` float32 are the
    shares of categories of each item, adding up to 1. Without categories these are None. `place_I3` are points; None
    without coordinates. `near_SII` is how near all items are to each other on each scale, None where they are too many.
    """

    stream: Stream
    moves: Moves
    first_stream: Stream
    tag_IC: Float32 | None
    tag_stream: Stream | None
    share_T: Float64
    hour_T: Int64
    weekend_T: Bool
    place_I3: Float64 | None
    near_SII: list[Float32] | None
    _around: dict[int, tuple[Stream, Float64]] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, known: Histories) -> "Facts":
        stream, tag_IC = stream_of(known), tags(known.items)
        first_M = first_visits(known)
        place_I3 = points_of(known.items) if has_coordinates(known.items) else None
        near = None if place_I3 is None or known.items.height > _CACHED else _near(place_I3, place_I3)
        at_T, tag_T, share_T = _first_tags(tag_IC, np.flatnonzero(first_M), stream.item_N)
        row_T = stream.row_N[at_T]
        local_T = local_seconds(known.events)[row_T]
        tag_stream = None if tag_IC is None else Stream(row_T, stream.time_N[at_T], tag_T, tag_IC.shape[1])
        return cls(
            stream, moves_of(known), stream.take(first_M), tag_IC, tag_stream, share_T,
            local_T % DAY_S // 3600, is_weekend(local_T), place_I3, near,
        )  # fmt: skip

    @property
    def names(self) -> list[str]:
        """The features that the data allows."""
        without = (*(OF_PLACES if self.place_I3 is None else ()), *(OF_CATEGORIES if self.tag_IC is None else ()))
        return [name for name in NAMES if name not in without]

    def lately(self, time_Q: Int64) -> Float64:
        """Days since each item's last event that is strictly earlier, `_LONG_AGO` at most: float64 [Q, I]."""
        order_Q = np.argsort(time_Q, kind="stable")
        end = np.searchsorted(self.stream.time_N, time_Q.max())
        time_M, item_M = self.stream.time_N[:end], self.stream.item_N[:end]
        at_M = np.searchsorted(time_Q[order_Q], time_M, side="right")  # the first query that is later
        last_QI = np.full((len(time_Q), self.stream.num_items), np.iinfo(np.int64).min // 2)
        last_QI[at_M, item_M] = time_M  # of equal cells the last one stays, which is the latest
        np.maximum.accumulate(last_QI, axis=0, out=last_QI)
        days_QI = np.empty(last_QI.shape)
        days_QI[order_Q] = (time_Q[order_Q][:, None] - last_QI) / DAY_S
        return np.minimum(days_QI, _LONG_AGO)

    def by_hour(self, time_Q: Int64, local_Q: Int64) -> Float64:
        """How much likelier each category is around this hour: the logarithm of a ratio, float64 [Q, C]."""
        assert self.tag_stream is not None
        group_Q = local_Q % DAY_S // 3600 * 2 + is_weekend(local_Q)
        all_QC = self.tag_stream.sums_before(time_Q, self.share_T)
        ratio_QC = np.empty_like(all_QC)
        for group in np.unique(group_Q):
            at_P = np.flatnonzero(group_Q == group)
            stream, weight_T = self._near_hour(int(group))
            sum_PC, all_PC = stream.sums_before(time_Q[at_P], weight_T), all_QC[at_P]
            share_P1 = (sum_PC.sum(axis=1, keepdims=True) + 1) / (all_PC.sum(axis=1, keepdims=True) + 1)
            ratio_QC[at_P] = np.log((sum_PC + 5 * share_P1) / (all_PC + 5) / share_P1)
        return ratio_QC

    def _near_hour(self, group: int) -> tuple[Stream, Float64]:
        """Of the visits of `tag_stream` those around an hour, and their weights; `group` is twice the hour, and one
        more at weekends."""
        found = self._around.get(group)
        if found is None:
            assert self.tag_stream is not None
            apart_T = np.abs(self.hour_T - group // 2)
            weight_T = np.array([1.0, 0.7, 0.3, 0.0])[np.minimum(np.minimum(apart_T, 24 - apart_T), 3)]
            weight_T *= np.where(self.weekend_T == (group % 2 == 1), 1.0, 0.3) * self.share_T
            some_T = weight_T != 0
            found = self._around[group] = (self.tag_stream.take(some_T), weight_T[some_T])
        return found

    def own_places(self, attention_QI: Float64) -> list[Float32]:
        """log of the attention's nearness to each item, one for each scale: float32 [Q, I]."""
        used_H = np.flatnonzero(attention_QI.any(axis=0))
        attention_QH = attention_QI[:, used_H].astype(np.float32)
        assert self.place_I3 is not None
        if self.near_SII is None:
            near_SHI = _near(self.place_I3[used_H], self.place_I3)
        else:
            near_SHI = [near_II[used_H] for near_II in self.near_SII]
        return [np.log(attention_QH @ near_HI + 1e-5) for near_HI in near_SHI]


def first_visits(known: Histories) -> Bool:
    """Which shared events are the first ones of their user and item among them, in the order of time: bool [M]."""
    stream = stream_of(known)
    key_M = known.user_idx_N[stream.row_N].astype(np.int64) * stream.num_items + stream.item_N
    first_M = np.zeros(len(key_M), bool)
    first_M[np.unique(key_M, return_index=True)[1]] = True
    return first_M


def _near(place_H3: Float64, place_I3: Float64) -> list[Float32]:
    """(1 + d / scale)^-1.5 for each scale, float32 [H, I]; as if 10 km apart where a place is unknown."""
    km_HI = np.empty((len(place_H3), len(place_I3)), np.float32)
    for start in range(0, len(place_H3), 256):
        part = slice(start, start + 256)
        km_HI[part] = np.nan_to_num(distance_km(place_H3[part, None], place_I3), nan=10.0)
    factors = ((1 + km_HI / np.float32(scale)) for scale in _SCALES)
    return [1 / (factor_HI * np.sqrt(factor_HI)) for factor_HI in factors]


def tags(items: pl.DataFrame) -> Float32 | None:
    """Shares of each item's categories, which stand in one text with ", " between them, or in a list: [I, C]."""
    if "category" not in items.columns or items["category"].is_null().all():
        return None
    column = items["category"]
    lists = column if isinstance(column.dtype, pl.List) else column.cast(pl.String).str.split(", ")
    tags = pl.DataFrame({"item": np.arange(items.height), "tag": lists}).explode("tag").drop_nulls().unique()
    item_T, tag_T = tags["item"].to_numpy(), tags["tag"].rank("dense").to_numpy().astype(np.int64) - 1
    tag_IC = np.zeros((items.height, int(tag_T.max()) + 1), np.float32)
    tag_IC[item_T, tag_T] = 1
    tag_IC /= np.maximum(tag_IC.sum(axis=1, keepdims=True), 1)
    return tag_IC


def _first_tags(tag_IC: Float32 | None, at_F: Int64, item_M: Int64) -> tuple[Int64, Int64, Float64]:
    """For each category of the items of some events: the event, the category and its share; in the events' order."""
    if tag_IC is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    item_T, tag_T = np.nonzero(tag_IC)
    start_I1 = np.searchsorted(item_T, np.arange(len(tag_IC) + 1))
    item_F = item_M[at_F]
    from_X, entry_X = ragged(start_I1[item_F], start_I1[item_F + 1] - start_I1[item_F])
    return at_F[from_X], tag_T[entry_X], tag_IC[item_T, tag_T][entry_X].astype(np.float64)


facts_of: Final = cached(Facts.of)
"""Cached `Facts.of`."""


@dataclass(frozen=True)
class QueryFeatures:
    """Features of rows of some histories; `facts` are of all that is known.

    Those of the rows of the last call are kept where they are few, as several rankers of a stack ask for the same.
    """

    data: EventData
    facts: Facts
    returns: Returns
    _kept: dict[bytes, list[Float32]] = field(default_factory=dict, init=False, compare=False, repr=False)
    _kept_shares: dict[bytes, Float64] = field(default_factory=dict, init=False, compare=False, repr=False)

    @classmethod
    def of(cls, histories: Histories, known: Histories, returns: Returns) -> "QueryFeatures":
        """The same object for the same histories, known events and returns."""
        return _query_features(histories, event_data(histories, known), facts_of(known), returns)

    def shares(self, row_Q: Int64) -> Float64:
        """The attention of the past events of each row, in the order of `EventData.pairs`: float64 [X]."""
        return self._last(self._kept_shares, row_Q, lambda row_Q: self.returns.shares(self.data, row_Q)[2])

    def features(self, row_Q: Int64) -> list[Float32]:
        """Those of `facts.names` for each row and item: K times float32 [Q, I], read-only."""
        return self._last(self._kept, row_Q, self._features)

    def _last(self, kept: dict[bytes, T], row_Q: Int64, make: Callable[[Int64], T]) -> T:
        """What was made of the same rows right before, or is made now. Threads at once may both make it."""
        if len(row_Q) * self.facts.stream.num_items > _KEPT_CELLS:
            return make(row_Q)
        key = row_Q.tobytes()
        found = kept.get(key)
        if found is None:
            found = make(row_Q)
            kept.clear()
            kept[key] = found
        return found

    def _features(self, row_Q: Int64) -> list[Float32]:
        (query_X, past_X), share_X = self.data.pairs(row_Q), self.shares(row_Q)
        num_items = self.facts.stream.num_items
        cell_X = query_X * num_items + self.data.item_N[past_X]
        attention_QI = sums(cell_X, share_X, len(row_Q) * num_items).reshape(-1, num_items)
        found = [*self._places(row_Q, attention_QI), *self._counts(row_Q), *self._categories(row_Q, attention_QI)]
        features = [np.asarray(one_QI, np.float32) for one_QI in found]
        for one_QI in features:
            one_QI.flags.writeable = False
        return features

    def _places(self, row_Q: Int64, attention_QI: Float64) -> Iterator[NDArray[Any]]:
        if self.facts.place_I3 is None or self.data.here_N3 is None:
            return
        km_QI = distance_km(self.data.here_N3[row_Q][:, None], self.facts.place_I3)
        known_QI = ~np.isnan(km_QI)
        last = []
        for shape in (lambda km: np.log1p(km / 0.05), np.log1p, lambda km: np.minimum(km, 10_000) / 10):
            far_QI = np.where(known_QI, shape(km_QI), 0.0)
            mean_Q1 = far_QI.sum(axis=1, keepdims=True) / np.maximum(known_QI.sum(axis=1, keepdims=True), 1)
            last.append(-np.where(known_QI, far_QI, mean_Q1))
        yield from last
        yield from (self._soon(row_Q) * far_QI for far_QI in last)
        yield from self.facts.own_places(attention_QI)

    def _counts(self, row_Q: Int64) -> Iterator[NDArray[Any]]:
        stream, time_Q = self.facts.stream, self.data.time_N[row_Q]
        yield np.log1p(stream.sums_before(time_Q))
        yield np.log1p(self.facts.first_stream.sums_before(time_Q))
        yield np.log1p(self.facts.first_stream.sums_before(time_Q, None, _LATELY_S))
        yield -np.log1p(self.facts.lately(time_Q))
        moved_QI = np.zeros((len(row_Q), stream.num_items))
        last_Q = self.data.from_N[row_Q]
        some_Q = np.flatnonzero(last_Q >= 0)
        query_X, to_X, count_X = self.facts.moves.before_time(time_Q[some_Q], last_Q[some_Q])
        moved_QI[some_Q[query_X], to_X] = np.log1p(count_X)
        yield moved_QI
        yield self._soon(row_Q) * moved_QI

    def _soon(self, row_Q: Int64) -> Float64:
        """1 right after the last event, falling to 0: float64 [Q, 1]."""
        time_N = self.data.time_N
        gap_s_Q1 = (time_N[row_Q] - time_N[row_Q - 1])[:, None]
        soon_Q1: Float64 = 1 / (1 + np.maximum(gap_s_Q1, 0) / _SOON_S)
        return soon_Q1

    def _categories(self, row_Q: Int64, attention_QI: Float64) -> Iterator[NDArray[Any]]:
        tag_IC = self.facts.tag_IC
        if tag_IC is None:
            return
        query_X, past_X = self.data.pairs(row_Q)
        num_items = len(tag_IC)
        item_X = self.data.item_N[past_X]
        chosen_QI = np.bincount(query_X * num_items + item_X, minlength=attention_QI.size).reshape(-1, num_items)
        last_Q = self.data.from_N[row_Q]
        time_Q, local_Q = self.data.time_N[row_Q], self.data.local_N[row_Q]
        shares_QC = chosen_QI.astype(np.float32) @ tag_IC / np.maximum(chosen_QI.sum(axis=1, keepdims=True), 1)
        of_categories = (
            self.facts.by_hour(time_Q, local_Q),
            np.log(attention_QI.astype(np.float32) @ tag_IC + 0.02),
            np.log(shares_QC + 0.02),
            np.log1p((chosen_QI > 0).astype(np.float32) @ tag_IC),
            np.where((last_Q >= 0)[:, None], tag_IC[last_Q], 0),
        )
        for one_QC in of_categories:
            yield one_QC.astype(np.float32) @ tag_IC.T


@cached
def _query_features(histories: Histories, data: EventData, facts: Facts, returns: Returns) -> QueryFeatures:
    return QueryFeatures(data, facts, returns)
