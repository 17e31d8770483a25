"""Which item of the user's history comes again: attention over the user's past events, with learnt weights.

p(i) is the sum over the user's past events x of item i of exp(w(x)), divided by that of all of them. Each feature of x,
such as its age, says in which of some buckets x lies. w(x) adds up a weight for each of these buckets, and what a small
network makes of them together: the sum of the buckets' vectors, its negative parts cut off, times a vector. So it is a
softmax attention over the history with features made by hand, and the kernel of `own.ContextWeights` with steps in
place of its formulas. Weights are learnt by the likelihood of earlier splits' events of items that their user had
chosen before: Adam (Kingma and Ba, ICLR 2015) with decoupled decay (Loshchilov and Hutter, ICLR 2019), over batches.

Shapes: see `arrays`; X = past events of all questions, flattened; F = features; W = buckets of all features; D = length
of a bucket's vector.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bool, Float64, Int64, ragged
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.distance import distance_km, has_coordinates
from ..histories.questions import SPLIT_CODES, num_previous
from .cached import cached
from .clock import DAY_S, is_weekend, local_seconds
from .loglinear import Adam
from .places import item_points, where_users_are
from .protocol import Arrays, Family, Fitting, Scored, Sparse
from .user_history import LastFit

LONGEST = 400  # the last events of a history that are used
_PAIRS = 3_000_000  # past events that are learnt from, each some 100 bytes
_WIDTH = 16  # D
_BATCH, _EPOCHS, _LEAST, _MOST = 600, 9, 60, 150  # events of a batch, passes over all, and bounds of the steps
_RATE, _DECAY, _PENALTY = 0.02, 0.01, 2e-4  # decay of the network, penalty of the squares of the buckets' weights

_AGES = [0.05, 0.15, 0.3, 0.6, 1.2, 2.2, 3.5, 5, 6.5, 7.5, 10, 15, 22, 32, 45, 65, 90, 130, 200]  # days
_HOURS = [0.1, 0.25, 0.4, 0.6, 0.8, 1, 1.3, 1.7, 2.2, 3, 4, 5.5, 8]
_EVENTS = [1.5, 2.5, 3.5, 4.5, 6.5, 9.5, 15, 25, 45, 90, 200]
_GAPS = [0.2, 0.5, 1, 1.5, 2.2, 3.2, 4.5]  # differences of logarithms
_KM = [0.001, 0.1, 0.3, 0.7, 1.5, 3, 6, 12, 25, 100, 400, 1600]
_VISITS = [0.5, 1.5, 2.5, 4.5, 8.5, 16.5]
_GAP_NOW = [0.5, 1.5, 2.5, 3.2, 3.9, 4.6, 5.3, 6, 6.6, 7.2, 8, 9]  # logarithm of minutes
_PAST = [2, 4, 7, 12, 20, 35, 60, 100, 180, 320]  # events
SIZES: Final = (20, 28, 7, 4, 12, 9, 14, 14, 2, 14, 24, 7, 13, 11)
"""Buckets of each feature of `EventData.buckets`, in its order."""


_LEARNT: Final = ("weight_W", "vector_WD", "out_D")


@dataclass(frozen=True, eq=False)
class ItemPlaces:
    """Places of the items, float64 [I, 3]; None without coordinates."""

    point_I3: Float64 | None

    @classmethod
    def of(cls, known: Histories) -> "ItemPlaces":
        return cls(item_points(known) if has_coordinates(known.items) else None)


_item_places: Final = cached(ItemPlaces.of)


@dataclass(frozen=True, eq=False)
class EventData:
    """Arrays of events: as part of a history, and as the event that is predicted.

    `time_N` int64 unix seconds; `begin_N` int64, the first row of each one's user; `local_N` int64 local seconds;
    `from_N` and `before_N` int64, the items of the last event before each and of the one before that, -1 and -2 where
    there is none; `log_gap_N` float64, the logarithm of the minutes since the last event; `visits_N` int64, how often
    the user had chosen the same item before; `next_N` int64, the row in which the user chooses the same item next,
    beyond all rows where never; `place_I3` and `here_N3` points where items are and where users are before each event,
    None without coordinates.
    """

    num_items: int
    time_N: Int64
    begin_N: Int64
    item_N: Int64
    local_N: Int64
    from_N: Int64
    before_N: Int64
    log_gap_N: Float64
    visits_N: Int64
    next_N: Int64
    place_I3: Float64 | None
    here_N3: Float64 | None

    @classmethod
    def of(cls, histories: Histories, places: ItemPlaces) -> "EventData":
        item_N, previous_N = histories.item_idx_N.astype(np.int64), num_previous(histories)
        gap_s_N = histories.time_s_N - np.roll(histories.time_s_N, 1)
        visits_N, next_N = _visits(histories.user_idx_N * np.int64(histories.items.height) + item_N)
        place_I3 = places.point_I3
        return cls(
            histories.items.height,
            histories.time_s_N,
            histories.offset_U1[histories.user_idx_N],
            item_N,
            local_seconds(histories.events),
            np.where(previous_N > 0, np.roll(item_N, 1), -1),
            np.where(previous_N > 1, np.roll(item_N, 2), -2),
            np.log(np.maximum(gap_s_N / 60, 1)),
            visits_N,
            next_N,
            place_I3,
            None if place_I3 is None else where_users_are(histories, place_I3),
        )

    def pairs(self, row_Q: Int64) -> tuple[Int64, Int64]:
        """The question and the row of each of the last `LONGEST` events before some rows, both int64 [X]."""
        begin_Q = np.maximum(self.begin_N[row_Q], row_Q - LONGEST)
        return ragged(begin_Q, row_Q - begin_Q)

    def buckets(self, row_X: Int64, past_X: Int64) -> list[Int64]:
        """The weight of each feature for past events, numbered through all features: F times int64 [X]."""
        time_N, last_X = self.time_N, self.from_N[row_X]
        day_N, second_N = np.divmod(self.local_N, DAY_S)
        weekend_N = is_weekend(self.local_N)
        apart_X = np.abs(second_N[row_X] - second_N[past_X]) / 3600
        apart_X = np.minimum(apart_X, 24 - apart_X)
        followed_X = self.from_N[past_X] == last_X
        twice_X = followed_X & (self.before_N[past_X] == self.before_N[row_X])
        gap_X = np.digitize(np.abs(self.log_gap_N[row_X] - self.log_gap_N[past_X]), _GAPS)
        latest_X = self.next_N[past_X] >= row_X  # the row itself must look like a later one
        number_X = np.digitize(self.visits_N[past_X], _VISITS)
        bucket_FX = [
            np.digitize((time_N[row_X - 1] - time_N[past_X]) / DAY_S, _AGES),
            2 * np.digitize(apart_X, _HOURS) + (weekend_N[row_X] != weekend_N[past_X]),
            (day_N[row_X] - day_N[past_X]) % 7,
            followed_X + 2 * twice_X,
            np.digitize(row_X - past_X, _EVENTS),
            np.where(self.from_N[past_X] >= 0, gap_X, len(_GAPS) + 1),
            self._far(row_X, past_X, self.place_I3, self.item_N),
            self._far(row_X, past_X, self.here_N3, None),
            self.item_N[past_X] == last_X,
            2 * number_X + latest_X,
            second_N[row_X] // 3600,
            (day_N[row_X] + 3) % 7,
            np.digitize(self.log_gap_N[row_X], _GAP_NOW),
            np.digitize(row_X - self.begin_N[row_X], _PAST),
        ]
        starts = np.cumsum(SIZES) - SIZES
        return [(start + one_X).astype(np.int64) for start, one_X in zip(starts, bucket_FX, strict=True)]

    def _far(self, row_X: Int64, past_X: Int64, there_X3: Float64 | None, at_N: Int64 | None) -> Int64:
        """Bucket of the distance from where the user is to one of the places of a past event: int64 [X]."""
        unknown = len(_KM) + 1
        if self.here_N3 is None or there_X3 is None:
            return np.full(len(row_X), unknown)
        km_X = distance_km(self.here_N3[row_X], there_X3[past_X if at_N is None else at_N[past_X]])
        return np.where(np.isnan(km_X), unknown, np.digitize(km_X, _KM))


_event_data: Final = cached(EventData.of)


def event_data(histories: Histories, known: Histories | None = None) -> EventData:
    """`EventData` of some histories, with the places of the items of `known` (None: of the same ones).

    It is made once for the same histories.
    """
    return _event_data(histories, _item_places(known or histories))


def _visits(key_N: Int64) -> tuple[Int64, Int64]:
    """How many rows before each have the same key, and which is the next that has: both int64 [N]."""
    order_N = np.argsort(key_N, kind="stable")
    same_N = np.append(key_N[order_N][1:] == key_N[order_N][:-1], False) if len(key_N) else np.zeros(0, bool)
    place_N = np.arange(len(key_N))
    start_N = np.maximum.accumulate(np.where(np.append(True, ~same_N[:-1])[: len(key_N)], place_N, 0))
    visits_N, next_N = np.empty(len(key_N), np.int64), np.full(len(key_N), np.iinfo(np.int64).max)
    visits_N[order_N] = place_N - start_N
    next_N[order_N[:-1][same_N[:-1]]] = order_N[1:][same_N[:-1]]
    return visits_N, next_N


@dataclass(frozen=True, eq=False)
class Returns:
    """See the module's text: `weight_W` has the buckets' own weights, `vector_WD` and `out_D` are the network's."""

    weight_W: Float64
    vector_WD: Float64
    out_D: Float64

    @classmethod
    def of(cls, arrays: Arrays) -> "Returns":
        """What `arrays` gave. For equal arrays it is the same object: what is computed with it is shared by rankers."""
        learnt = [np.ascontiguousarray(arrays[name], np.float64) for name in _LEARNT]
        key = hashlib.sha256(b"".join(one.tobytes() for one in learnt)).digest()
        return _restored.setdefault(key, cls(*learnt))

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Sparse:
        """Scores add up to 1; only the user's history counts, so `known` changes nothing."""
        data, num_items = event_data(histories, known), histories.items.height

        def scores(row_Q: Int64) -> Scored:
            query_X, past_X, share_X = self.shares(data, row_Q)
            key_X = query_X * num_items + data.item_N[past_X]
            key_C, first_C, entry_X = np.unique(key_X, return_index=True, return_inverse=True)
            score_C = sums(entry_X, share_X, len(key_C))
            query_C = key_C // num_items
            order_C = first_C - np.searchsorted(query_X, query_C)
            return Scored(query_C, key_C % num_items, score_C, order_C.astype(np.int64))

        return Sparse(scores, lambda row_E: np.minimum(num_previous(histories)[row_E], LONGEST))

    def shares(self, data: EventData, row_Q: Int64) -> tuple[Int64, Int64, Float64]:
        """The question, row and attention of the past events of some rows: [X]; each question's attention is 1."""
        query_X, past_X = data.pairs(row_Q)
        score_X = self.scores(data.buckets(row_Q[query_X], past_X))[0]
        share_X, total_Q = _exp(score_X, query_X, len(row_Q))
        return query_X, past_X, share_X / total_Q[query_X]

    def arrays(self) -> Arrays:
        """What was learnt."""
        return {name: getattr(self, name) for name in _LEARNT}

    def scores(self, bucket_FX: list[Int64]) -> tuple[Float64, Float64]:
        """w of each past event, float64 [X], and the network's inner values, float64 [X, D]."""
        inner_XD = np.zeros((len(bucket_FX[0]), len(self.out_D)))
        score_X = np.zeros(len(inner_XD))
        for bucket_X in bucket_FX:
            inner_XD += self.vector_WD[bucket_X]
            score_X += self.weight_W[bucket_X]
        np.maximum(inner_XD, 0, out=inner_XD)
        score_X += inner_XD @ self.out_D
        return score_X, inner_XD

    def slopes(self, bucket_FX: list[Int64], query_X: Int64, hit_X: Bool, num: int) -> list[Float64]:
        """Derivatives of the mean of -log p of the true items (`hit_X`) of `num` questions, as the fields are."""
        score_X, inner_XD = self.scores(bucket_FX)
        exp_X, total_Q = _exp(score_X, query_X, num)
        true_X = exp_X * hit_X
        change_X = (exp_X / total_Q[query_X] - true_X / sums(query_X, true_X, num)[query_X]) / num
        slope_W, slope_WD = np.zeros_like(self.weight_W), np.zeros_like(self.vector_WD)
        back_DX = np.ascontiguousarray((np.outer(change_X, self.out_D) * (inner_XD > 0)).T)
        for bucket_X in bucket_FX:
            slope_W += sums(bucket_X, change_X, len(slope_W))
            for d, back_X in enumerate(back_DX):
                slope_WD[:, d] += sums(bucket_X, back_X, len(slope_W))
        return [slope_W, slope_WD, change_X @ inner_XD]


_restored: Final[WeakValueDictionary[bytes, Returns]] = WeakValueDictionary()


def sums(number_X: Int64, weight_X: NDArray[np.floating] | Bool, num: int) -> Float64:
    """Sum of the weights of each number from 0 to `num` - 1: float64 [num]."""
    return np.bincount(number_X, weights=weight_X, minlength=num).astype(np.float64, copy=False)


def _exp(score_X: Float64, query_X: Int64, num: int) -> tuple[Float64, Float64]:
    """exp(score), relative to the greatest of each question, and its sum by question; `query_X` ascends."""
    if not len(score_X):
        return score_X, np.ones(num)
    start = np.flatnonzero(np.append(True, query_X[1:] != query_X[:-1]))
    most_Q = np.zeros(num)
    most_Q[query_X[start]] = np.maximum.reduceat(score_X, start)
    exp_X = np.exp(score_X - most_Q[query_X])
    return exp_X, sums(query_X, exp_X, num)


def fit_to_rows(histories: Histories, row_Q: Int64, seed: int) -> Returns:
    """The weights learnt from some rows; every past event counts alike where there are none."""
    data, rng = event_data(histories), np.random.default_rng(seed)
    width = sum(SIZES)
    start = [np.zeros(width), rng.normal(0, 0.3, (width, _WIDTH)), rng.normal(0, 0.05, _WIDTH)]
    if not len(row_Q):
        return Returns(start[0], start[1], np.zeros(_WIDTH))
    steps = min(max(_EPOCHS * len(row_Q) // _BATCH, _LEAST), _MOST)
    adam, order_Q = Adam(start), rng.permutation(row_Q)
    for step in range(steps):
        at = np.arange(step * _BATCH, (step + 1) * _BATCH) % len(order_Q)
        row_B = np.sort(order_Q[np.unique(at)])
        query_X, past_X = data.pairs(row_B)
        hit_X = data.item_N[past_X] == data.item_N[row_B][query_X]
        found = Returns(*adam.values)
        slopes = found.slopes(data.buckets(row_B[query_X], past_X), query_X, hit_X, len(row_B))
        slopes[0] += 2 * _PENALTY * found.weight_W
        adam.descend(slopes, _RATE * 0.5 * (1 + np.cos(np.pi * step / steps)), (0.0, _DECAY, _DECAY))
    return Returns(*adam.values)


def rows_that_return(histories: Histories, split: EvaluatedSplit, seed: int) -> Int64:
    """Rows of earlier splits whose item is among the last events before them, ascending: as many as `_PAIRS` allow."""
    data = event_data(histories)
    before_N = np.full(len(histories.time_s_N), -1)  # the row in which the user last chose the same item
    again_N = data.next_N < len(before_N)
    before_N[data.next_N[again_N]] = np.flatnonzero(again_N)
    returned_N = (before_N >= 0) & (np.arange(len(before_N)) - before_N <= LONGEST)
    row_Q = np.flatnonzero(returned_N & (histories.split_N < SPLIT_CODES[split]))
    row_Q = np.random.default_rng(seed).permutation(row_Q)
    length_Q = np.minimum(num_previous(histories)[row_Q], LONGEST)
    return np.sort(row_Q[np.cumsum(length_Q) <= _PAIRS])


@dataclass(frozen=True)
class Halves:
    """Two fits, each without one half of the users: `second` are the ids of the users that the second fit leaves out.

    For models that learn from what the attention says of earlier events. One that had learnt from these very events
    would be surer there than it will ever be again.
    """

    second: frozenset[str]
    returns: tuple[Returns, Returns]

    def parts(self, histories: Histories, row_Q: Int64) -> list[tuple[Returns, Int64]]:
        """Each fit with the places in `row_Q`, int64, of the rows whose users it leaves out."""
        second_U = np.array([user_id in self.second for user_id in histories.user_ids], bool)
        second_Q = second_U[histories.user_idx_N[row_Q]]
        return [(self.returns[0], np.flatnonzero(~second_Q)), (self.returns[1], np.flatnonzero(second_Q))]


_fits: Final[LastFit[Returns]] = LastFit()
_halves: Final[LastFit[Halves]] = LastFit()


def fit_returns(histories: Histories, split: EvaluatedSplit, seed: int) -> Returns:
    """The ranker for events of a split; fitted once for the same histories, split and seed."""
    return _fits.get(
        histories, (split, seed), lambda: fit_to_rows(histories, rows_that_return(histories, split, seed), seed)
    )


def fit_halves(histories: Histories, split: EvaluatedSplit, seed: int) -> Halves:
    """The same fitted to each half of the users; to all of them where events of fewer than two can be learnt from."""
    return _halves.get(histories, (split, seed), lambda: _fit_halves(histories, split, seed))


def _fit_halves(histories: Histories, split: EvaluatedSplit, seed: int) -> Halves:
    row_Q = rows_that_return(histories, split, seed)
    user_Q = histories.user_idx_N[row_Q]
    users = np.random.default_rng([seed, 1]).permutation(np.unique(user_Q))
    if len(users) < 2:
        whole = fit_returns(histories, split, seed)
        return Halves(frozenset(), (whole, whole))
    second = users[: len(users) // 2]
    second_Q = np.isin(user_Q, second)
    returns = fit_to_rows(histories, row_Q[second_Q], seed), fit_to_rows(histories, row_Q[~second_Q], seed)
    return Halves(frozenset(histories.user_ids[user] for user in second.tolist()), returns)


def _ranker(fitting: Fitting) -> Returns:
    return fit_returns(fitting.histories, fitting.split, fitting.seed)


def restore(settings: Mapping[str, Any], arrays: Arrays, known: Histories, split: EvaluatedSplit) -> Returns:
    """The ranker of what `Returns.arrays` gave."""
    return Returns.of(arrays)


FAMILIES: Final = (Family("learnt own events", [{}], _ranker, restore),)
