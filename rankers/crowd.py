"""More of what is known of items that a user has not chosen: how they lie, who is like the user, and who is there now.

These stand beside `item_features` and are as of the query time, too: counts are of strictly earlier events.

- `density`: how many items of the catalogue lie around an item. Among many, each is chosen more rarely.
- `private`: events for each of an item's users. Where few people keep coming, no other follows.
- `nearer of kind`: how many items of the same category are nearer to the user, who would pass all of them (intervening
  opportunities: Stouffer, American Sociological Review 5(6), 1940).
- `category new`: first visits for each item of the category.
- `this week` and `now`: first visits with a half-life of a week, events with one of two hours.
- `alike`: the items of users who chose the user's items, rare ones most.
- `company`: where those are now who were at the user's items at the user's times.

Shapes: see `arrays`; P = distinct pairs of question and own item; S = pairs of question and another user; X, Y = events
of all questions, flattened; C = categories.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float32, Float64, Int64, ragged
from ..histories import Histories
from ..histories.distance import distance_km
from . import item_features
from .cached import cached
from .clock import DAY_S
from .item_features import Facts, QueryFeatures
from .places import density
from .returns import Returns, sums
from .votes import Grouped

OF_CROWD: Final = ("this week", "now", "alike", "company")
OF_SURROUNDINGS: Final = ("density", "nearer of kind")
OF_COUNTS: Final = (*item_features.OF_COUNTS, *OF_CROWD)
NAMES: Final = (*item_features.NAMES, *OF_CROWD, "private", "category new", *OF_SURROUNDINGS)
"""Features, those of `item_features` first. `OF_COUNTS` are those that may only speak for an item."""

_HOUR_S = 3600
_TOGETHER_S = 3 * _HOUR_S  # so far apart at most are events that are company
_LIVE_S, _LIVE_EVENTS = 12 * _HOUR_S, 1_000  # what may be now, and how many events of it are looked at
_FARTHER = 1e5  # km, more than any distance


@dataclass(frozen=True)
class Crowd:
    """Who was where: `user_N`, `item_N` and `time_N` int64 are of all events; `by_item` are the shared ones, and
    `first_by_item` and `first_by_user` those of them that were the first of their user and item. `density_I` and
    `kind_I` are of the items, the latter int64, the first of the categories."""

    num_users: int
    user_N: Int64
    item_N: Int64
    time_N: Int64
    by_item: Grouped
    first_by_item: Grouped
    first_by_user: Grouped
    density_I: Float64 | None
    kind_I: Int64 | None

    @classmethod
    def of(cls, known: Histories, facts: Facts) -> "Crowd":
        row_M = facts.stream.row_N
        item_N, user_N, time_N = known.item_idx_N.astype(np.int64), known.user_idx_N.astype(np.int64), known.time_s_N
        row_F = facts.first_stream.row_N
        return cls(
            len(known.user_ids), user_N, item_N, time_N,
            Grouped.of(item_N[row_M], time_N[row_M], row_M),
            Grouped.of(item_N[row_F], time_N[row_F], row_F),
            Grouped.of(user_N[row_F], time_N[row_F], row_F),
            None if facts.place_I3 is None else density(facts.place_I3, facts.place_I3),
            None if facts.tag_IC is None else facts.tag_IC.argmax(axis=1).astype(np.int64),
        )  # fmt: skip


@cached
def _crowd(known: Histories) -> Crowd:
    return Crowd.of(known, item_features.facts_of(known))


@dataclass(frozen=True)
class NewItemFeatures:
    """Features of rows of some histories: `query` has those of `item_features`."""

    query: QueryFeatures
    crowd: Crowd

    @classmethod
    def of(cls, histories: Histories, known: Histories, returns: Returns) -> "NewItemFeatures":
        return cls(QueryFeatures.of(histories, known, returns), _crowd(known))

    @property
    def names(self) -> list[str]:
        """Those of `NAMES` that the data allows."""
        density_I, kind_I = self.crowd.density_I, self.crowd.kind_I
        without = {"density"} if density_I is None else set()
        without |= {"category new"} if kind_I is None else set()
        without |= {"nearer of kind"} if density_I is None or kind_I is None else set()
        added = (name for name in NAMES[len(item_features.NAMES) :] if name not in without)
        return [*self.query.facts.names, *added]

    def features(self, row_Q: Int64) -> list[Float32]:
        """Those of `names` for each row and item: K times float32 [Q, I]."""
        found = dict(zip(self.query.facts.names, self.query.features(row_Q), strict=True))
        added = [*self._counts(row_Q), found["events"] - found["users"], *self._items(row_Q)]
        return [*found.values(), *(np.asarray(one_QI, np.float32) for one_QI in added)]

    def _counts(self, row_Q: Int64) -> Iterator[NDArray[Any]]:
        """Those of `OF_CROWD`."""
        facts, time_Q = self.query.facts, self.query.data.time_N[row_Q]
        yield np.log1p(facts.first_stream.sums_before(time_Q, None, 7 * DAY_S))
        yield np.log1p(10 * facts.stream.sums_before(time_Q, None, 2 * _HOUR_S))
        shape, num_items = (len(row_Q), facts.stream.num_items), facts.stream.num_items
        query_X, past_X = self.query.data.pairs(row_Q)
        key_P, own_X = np.unique(query_X * num_items + self.query.data.item_N[past_X], return_inverse=True)
        query_P, item_P = np.divmod(key_P, num_items)
        at_Y, row_Y = self.crowd.first_by_item.before(item_P, time_Q[query_P])
        rare_P = 1 / np.log(2 + np.bincount(at_Y, minlength=len(key_P)))
        alike_QI = self._alike(query_P[at_Y], row_Y, rare_P[at_Y], time_Q)
        yield np.log1p(3 * alike_QI).reshape(shape)
        yield np.log1p(10 * self._company(query_X, past_X, rare_P[own_X], time_Q)).reshape(shape)

    def _alike(self, query_Y: Int64, row_Y: Int64, weight_Y: Float64, time_Q: Int64) -> Float64:
        """float64 [Q * I]: by the first visits `row_Y` of the own items, each of which makes two users alike."""
        num_items = self.query.facts.stream.num_items
        query_S, user_S, alike_S = self._users(query_Y, row_Y, weight_Y)
        at_X, row_X = self.crowd.first_by_user.before(user_S, time_Q[query_S])
        alike_S = alike_S / np.sqrt(np.bincount(at_X, minlength=len(user_S)) + 10)
        return sums(query_S[at_X] * num_items + self.crowd.item_N[row_X], alike_S[at_X], len(time_Q) * num_items)

    def _company(self, query_X: Int64, past_X: Int64, weight_X: Float64, time_Q: Int64) -> Float64:
        """float64 [Q * I]: where they are now who were where the user was in `past_X`, at about that time."""
        crowd, data, stream = self.crowd, self.query.data, self.query.facts.stream
        own_X = data.time_N[past_X]
        until_X = np.minimum(own_X + _TOGETHER_S, time_Q[query_X])
        at_Y, row_Y = crowd.by_item.before(data.item_N[past_X], until_X, own_X - _TOGETHER_S)
        apart_Y = np.abs(crowd.time_N[row_Y] - own_X[at_Y]) / _HOUR_S
        query_S, user_S, weight_S = self._users(query_X[at_Y], row_Y, np.exp(-apart_Y) * weight_X[at_Y])
        end_Q = np.searchsorted(stream.time_N, time_Q)
        start_Q = np.maximum(np.searchsorted(stream.time_N, time_Q - _LIVE_S), end_Q - _LIVE_EVENTS)
        live_Y, place_Y = ragged(start_Q, end_Q - start_Q)
        row_Y = stream.row_N[place_Y]
        key_S, key_Y = self._keys(query_S, user_S), self._keys(live_Y, crowd.user_N[row_Y])
        at_Y = np.searchsorted(key_S, key_Y)
        with_Y = at_Y < len(key_S)
        with_Y[with_Y] = key_S[at_Y[with_Y]] == key_Y[with_Y]
        live_Y, row_Y, at_Y = live_Y[with_Y], row_Y[with_Y], at_Y[with_Y]
        fades_Y = np.exp2(-(time_Q[live_Y] - crowd.time_N[row_Y]) / (2 * _HOUR_S))
        cell_Y = live_Y * stream.num_items + crowd.item_N[row_Y]
        return sums(cell_Y, weight_S[at_Y] * fades_Y, len(time_Q) * stream.num_items)

    def _users(self, query_Y: Int64, row_Y: Int64, weight_Y: Float64) -> tuple[Int64, Int64, Float64]:
        """Question, user and weight of the users of some events, [S], in this order."""
        key_S, at_Y = np.unique(self._keys(query_Y, self.crowd.user_N[row_Y]), return_inverse=True)
        query_S, user_S = np.divmod(key_S, self.crowd.num_users)
        return query_S, user_S, sums(at_Y, weight_Y, len(key_S))

    def _keys(self, query_X: Int64, user_X: Int64) -> Int64:
        return query_X * self.crowd.num_users + user_X

    def _items(self, row_Q: Int64) -> Iterator[NDArray[Any]]:
        """What is left of `names`."""
        facts, data, crowd = self.query.facts, self.query.data, self.crowd
        if facts.tag_IC is not None and facts.tag_stream is not None:
            time_Q = data.time_N[row_Q]
            first_QC = facts.tag_stream.sums_before(time_Q, facts.share_T)
            rate_QC = np.log((first_QC + 1) / (facts.tag_IC.sum(axis=0) + 1))
            yield rate_QC.astype(np.float32) @ facts.tag_IC.T
        if crowd.density_I is not None:
            yield np.broadcast_to(crowd.density_I, (len(row_Q), len(crowd.density_I)))
        if crowd.density_I is not None and crowd.kind_I is not None:
            yield self._nearer(row_Q, crowd.kind_I)

    def _nearer(self, row_Q: Int64, kind_I: Int64) -> Float64:
        """-log(1 + how many items of the same kind are nearer), float64 [Q, I]; 0 where a place is unknown."""
        here_N3, place_I3 = self.query.data.here_N3, self.query.facts.place_I3
        assert here_N3 is not None
        assert place_I3 is not None
        km_QI = distance_km(here_N3[row_Q][:, None], place_I3)
        order_QI = np.argsort(np.nan_to_num(km_QI, nan=_FARTHER / 2) + _FARTHER * kind_I, axis=1, kind="stable")
        start_C = np.cumsum(np.bincount(kind_I)) - np.bincount(kind_I)
        place_QI = np.empty(km_QI.shape)
        np.put_along_axis(place_QI, order_QI, np.arange(len(kind_I)) - start_C[kind_I[order_QI]], axis=1)
        return np.where(np.isnan(km_QI), 0.0, -np.log1p(place_QI))
