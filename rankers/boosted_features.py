"""What is known of a candidate at the query's time, side by side, for models that select features themselves.

Features are answers of counting rankers, votes of earlier events (`votes`), those of `item_features`, and what is the
same for all items of a question (clock, gaps, the context's numbers) or for all questions (the item and its place). All
are as of the query's time.

Shapes: see `arrays`; K = features; C = candidates of all questions, flattened.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bool, Float32, Int64
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.distance import distance_km
from ..histories.questions import num_previous
from .clock import DAY_S
from .item_features import OF_COUNTS, QueryFeatures
from .numbers import number_columns, number_values
from .own import OwnHours
from .popular import HourOfWeekPopularity, RecentPopularity
from .protocol import Dense
from .returns import Returns
from .transitions import Transitions
from .votes import OF_HOURS, OF_MOVES, OF_OWN, Votes

SMALL: Final = 256  # items that are all learnt from
_SAMPLED = 60  # other items of a large catalogue
_SOURCES: Final[Mapping[str, int]] = {
    "own attention": 40, "moves here": 20, "moves by clock": 20, "popularity by hour of week": 20,
    "recent popularity": 20, "last 0.05": 30, "own 0.3": 30, "category attended": 10,
}  # fmt: skip
"""Features by which candidates are found in a large catalogue, and how many by each."""

_Answering = HourOfWeekPopularity | RecentPopularity | Transitions | OwnHours
_RANKERS: Final[Mapping[str, _Answering]] = {
    "popularity by hour": HourOfWeekPopularity(0.05, 30.0, 100.0, 0.0),
    "popularity by hour of week": HourOfWeekPopularity(1.0, 0.3, 10.0, 0.0),
    "recent popularity": RecentPopularity(7.0),
    "transitions": Transitions(3.0, 10.0),
    "own counts by hour of week": OwnHours(0.5, 0.3, 3.0, 10.0),
}
OF_ITEMS: Final = ("item", "x", "y", "z")
OF_EVERYBODY: Final = frozenset((*OF_HOURS, *OF_COUNTS, *_RANKERS, *OF_ITEMS))
"""Features that trees may have to go without. That no user has ever chosen an item would often say that somebody will:
data sets hold the items that were chosen in the end."""
OF_CONTEXT: Final = "context "
"""How the names of features begin that are numbers of the context."""


@dataclass(frozen=True)
class Pairs:
    """Candidates of questions: `query_C`, `item_C` int64, both ascending, and `feature_CK` float32."""

    query_C: Int64
    item_C: Int64
    feature_CK: Float32


@dataclass(frozen=True)
class Features:
    """Features of rows of some histories; `moment_NK` float32 are of the queries' times, `item_IK` of the items."""

    votes: Votes
    query: QueryFeatures
    answers: Mapping[str, Dense]
    moment_NK: Float32
    item_IK: Float32
    names: list[str]

    @classmethod
    def of(
        cls, histories: Histories, known: Histories, split: EvaluatedSplit, returns: Returns,
        rankers: Mapping[str, _Answering] = _RANKERS,
    ) -> "Features":  # fmt: skip
        """`rankers` are those whose answers are among the features."""
        votes, query = Votes.of(histories, known), QueryFeatures.of(histories, known, returns)
        answers = {name: ranker.on(histories, split, known) for name, ranker in rankers.items()}
        moments, items = _moments(votes, histories, known), _items(votes)
        of_pairs = [*OF_HOURS, *OF_MOVES, *OF_OWN, *query.facts.names, *answers]
        return cls(
            votes, query, answers, np.stack(list(moments.values()), axis=1), np.stack(list(items.values()), axis=1),
            [*of_pairs, *moments, *items],
        )  # fmt: skip

    @property
    def chunk(self) -> int:
        """How many rows to compute at a time, which bounds memory to some 100 MB."""
        return max(1, 400_000 // self.votes.num_items)

    def pairs(self, row_Q: Int64, chosen_QI: Bool) -> Pairs:
        """Some items of each of some rows with their features; `row_Q` need not be sorted."""
        query_C, item_C = np.nonzero(chosen_QI)
        return self._pairs(row_Q, query_C, item_C, (_rounded(one_QI[query_C, item_C]) for one_QI in self._dense(row_Q)))

    def sample(self, row_Q: Int64, allowed_QI: Bool, true_Q: Int64, rng: np.random.Generator) -> tuple[Pairs, Float32]:
        """Pairs to learn from: of a large catalogue the true item, the best by some of the features, and a random
        sample of the others. Also the logarithm of how many items each stands for, float32 [C]."""
        dense, at_Q = list(map(_rounded, self._dense(row_Q))), np.arange(len(row_Q))

        def chosen(chosen_QI: Bool) -> Pairs:
            query_C, item_C = np.nonzero(chosen_QI)
            return self._pairs(row_Q, query_C, item_C, (one_QI[query_C, item_C] for one_QI in dense))

        if allowed_QI.shape[1] <= SMALL:
            pairs = chosen(allowed_QI)
            return pairs, np.zeros(len(pairs.query_C), np.float32)
        chosen_QI = self._best(dict(zip(self.names, dense, strict=False)), allowed_QI)
        chosen_QI[at_Q, true_Q] = True
        rest_QI = allowed_QI & ~chosen_QI
        num_rest_Q1 = rest_QI.sum(axis=1, keepdims=True)
        drawn_QI = rest_QI & (rng.random(rest_QI.shape, np.float32) * num_rest_Q1 < _SAMPLED)
        stands_Q = np.log(np.maximum(num_rest_Q1[:, 0], 1) / np.maximum(drawn_QI.sum(axis=1), 1))
        pairs = chosen(chosen_QI | drawn_QI)
        is_drawn_C = drawn_QI[pairs.query_C, pairs.item_C]
        return pairs, np.where(is_drawn_C, stands_Q[pairs.query_C], 0.0).astype(np.float32)

    def _pairs(self, row_Q: Int64, query_C: Int64, item_C: Int64, columns: Iterable[Float32]) -> Pairs:
        num = len(self.names) - self.moment_NK.shape[1] - self.item_IK.shape[1]
        feature_CK = np.empty((len(item_C), len(self.names)), np.float32)
        for at, one_C in enumerate(columns):
            feature_CK[:, at] = one_C
        feature_CK[:, num:] = np.concatenate([self.moment_NK[row_Q][query_C], self.item_IK[item_C]], axis=1)
        return Pairs(query_C, item_C, feature_CK)

    def _dense(self, row_Q: Int64) -> Iterator[NDArray[np.floating]]:
        """Features of all items, one at a time."""
        votes = self.votes
        yield from votes.of_hours(row_Q)
        yield from votes.of_moves(row_Q)
        yield from votes.of_own(row_Q, self.query.shares(row_Q))
        yield from self.query.features(row_Q)
        for answers in self.answers.values():
            yield answers.scores(row_Q)

    def _best(self, found: Mapping[str, Float32], allowed_QI: Bool) -> Bool:
        """The best allowed items of each row by each of `_SOURCES`."""
        chosen_QI = np.zeros_like(allowed_QI)
        for name, num in _SOURCES.items():
            if name in found:
                score_QI = np.where(allowed_QI, found[name], -np.inf)
                best_QM = np.argpartition(-score_QI, num, axis=1)[:, :num]
                np.put_along_axis(chosen_QI, best_QM, True, axis=1)
        return chosen_QI & allowed_QI


def _rounded(score_X: NDArray[np.floating]) -> Float32:
    """Rounded, since the last digits may depend on the other queries, and trees would not forgive it."""
    return np.round(score_X, 3).astype(np.float32)


def _moments(votes: Votes, histories: Histories, known: Histories) -> dict[str, Float32]:
    """float32 [N] each: the clock, what is since the last event, and the context's numbers where they are known.

    Which columns of numbers there are, `known` says: a request may have more or fewer than the trees were grown on.
    """
    data = votes.data
    local_N, last_N = data.local_N, np.roll(data.local_N, 1)
    found: dict[str, NDArray[np.floating]] = {
        "clock hour": local_N % DAY_S / 3600,
        "weekday": (local_N // DAY_S + 3) % 7.0,  # day 0, 1 January 1970, was a Thursday
        "log gap": data.log_gap_N,
        "hour of last": last_N % DAY_S / 3600,
        "number of events": num_previous(histories).astype(np.float32),
    }
    if data.place_I3 is not None and data.here_N3 is not None:
        last_N3 = np.where((data.from_N >= 0)[:, None], data.place_I3[data.from_N], np.nan)
        found["km of last"] = distance_km(data.here_N3, last_N3)
    names = number_columns(known)
    for name, value_N in zip(names, number_values(histories, names).T, strict=True):
        found[OF_CONTEXT + name] = value_N
    first_N = data.from_N < 0
    for name in ("log gap", "hour of last"):
        found[name] = np.where(first_N, np.nan, found[name])
    return {name: np.round(one_N, 3).astype(np.float32) for name, one_N in found.items()}


def _items(votes: Votes) -> dict[str, Float32]:
    """float32 [I] each: the item's number, and its place on the unit sphere."""
    found = {"item": np.arange(votes.num_items, dtype=np.float32)}
    if votes.data.place_I3 is not None:
        for axis, name in enumerate("xyz"):
            found[name] = votes.data.place_I3[:, axis].astype(np.float32)
    return found
