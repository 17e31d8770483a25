"""Which of the own past items comes again: gradient boosted trees on top of the attention of `returns`.

An item's score begins with the logarithm of the attention that its past events have, and trees add to it what
timetables, moves, distances, counts, the clock and `own_features` say. They are grown as those of `boosting` are, by
the likelihood of the true item in a softmax over the own items, so that what comes out are probabilities. All features
are as of the query time. Which item it is, and where, is no feature. It needs `lightgbm`.

Shapes: see `arrays`; C = own items of all questions, flattened; K = features; X = past events of all questions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..arrays import Bool, Float64, Int64
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import num_previous
from .boosted_features import OF_ITEMS, Features, Pairs
from .boosting import Growth, Learnt, grow, softmax
from .counting import visits_of
from .discovery import earlier_histories
from .own_features import NAMES, own_features
from .protocol import Arrays, Family, Fitting, Scored, Sparse, require
from .returns import LONGEST, Returns, fit_halves, fit_returns, rows_that_return
from .user_history import LastFit

if TYPE_CHECKING:
    from lightgbm import Booster

_NAME: Final = "boosted own events"
_CELLS = 40_000_000  # events that are learnt from, times items
_TREES: Final = Growth(rounds=800, leaves=15, penalty=10.0, random_thresholds=True)


@dataclass(frozen=True)
class BoostedOwn:
    """The ranker: trees, None where there was too little to learn from; then it says what `returns` says."""

    booster: "Booster | None"
    returns: Returns

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Sparse:
        """Scores add up to 1; everything is as of each row."""
        features, visits = _features(histories, known or histories, split, self.returns), visits_of(histories)

        def scores(row_Q: Int64) -> Scored:
            if not len(row_Q):
                none = np.zeros(0, np.int64)
                return Scored(none, none, np.zeros(0), none)
            own = _own(features, row_Q)
            order_C = visits.number(histories.user_idx_N[row_Q].astype(np.int64)[own.query_C], own.item_C)
            share_C = softmax(self._scores(own, _names(features)), own.query_C, len(row_Q))
            return Scored(own.query_C, own.item_C, share_C, order_C)

        return Sparse(scores, lambda row_E: np.minimum(num_previous(histories)[row_E], LONGEST))

    def _scores(self, pairs: Pairs, names: list[str]) -> Float64:
        columns, score_C = _columns(names), pairs.feature_CK[:, names.index("own attention")].astype(np.float64)
        if self.booster is None or not len(score_C):
            return score_C
        return score_C + np.asarray(self.booster.predict(pairs.feature_CK[:, columns], raw_score=True), np.float64)

    def arrays(self) -> Arrays:
        """The trees as LightGBM's text, bytes as uint8; empty where there are none."""
        text = "" if self.booster is None else self.booster.model_to_string()
        return {"trees": np.frombuffer(text.encode(), np.uint8), **self.returns.arrays()}


def _features(histories: Histories, known: Histories, split: EvaluatedSplit, returns: Returns) -> Features:
    """Without answers of rankers: these know popularity in all earlier splits, in part the future of what is learnt."""
    return Features.of(histories, known, split, returns, {})


def _names(features: Features) -> list[str]:
    """Of the features of `_own`."""
    return [*features.names, *NAMES]


def _columns(names: list[str]) -> list[int]:
    return [at for at, name in enumerate(names) if name not in OF_ITEMS]


def _own(features: Features, row_Q: Int64) -> Pairs:
    """The items of the last `LONGEST` events before each row, with their features."""
    data, tag_IC, parts = features.votes.data, features.query.facts.tag_IC, []
    kind_I = None if tag_IC is None else tag_IC.argmax(axis=1).astype(np.int64)
    for start in range(0, len(row_Q), features.chunk):
        row_P = row_Q[start : start + features.chunk]
        query_X, past_X = data.pairs(row_P)
        own_PI: Bool = np.zeros((len(row_P), features.votes.num_items), bool)
        own_PI[query_X, data.item_N[past_X]] = True
        pairs = features.pairs(row_P, own_PI)
        of_own_CL = own_features(data, kind_I, row_P, pairs.query_C, pairs.item_C)
        parts.append((pairs.query_C + start, pairs.item_C, np.hstack([pairs.feature_CK, of_own_CL])))
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _fit(histories: Histories, split: EvaluatedSplit, seed: int) -> BoostedOwn:
    """Trees learn from the attention of `Halves`, and answer with that of all users."""
    returns, halves = fit_returns(histories, split, seed), fit_halves(histories, split, seed)
    histories = earlier_histories(histories, split)
    row_Q = rows_that_return(histories, split, seed)
    most = max(1, _CELLS // histories.items.height)
    row_Q = np.sort(np.random.default_rng(seed).permutation(row_Q)[:most])
    if not len(row_Q):
        return BoostedOwn(None, returns)
    parts, names = [], list[str]()
    for half, at_P in halves.parts(histories, row_Q):
        if not len(row_P := row_Q[at_P]):
            continue
        features = _features(histories, histories, split, half)
        own, names = _own(features, row_P), _names(features)
        hit_C = own.item_C == histories.item_idx_N[row_P][own.query_C]
        parts.append((own.feature_CK, hit_C, np.bincount(own.query_C, minlength=len(row_P))))
    feature_CK, hit_C, num_Q = (np.concatenate(column) for column in zip(*parts, strict=True))
    start_Q1 = np.append(0, np.cumsum(num_Q)).astype(np.int64)
    columns, attention_C = _columns(names), feature_CK[:, names.index("own attention")]
    learnt = Learnt(feature_CK[:, columns], hit_C, attention_C, start_Q1)
    return BoostedOwn(grow(learnt, [names[at] for at in columns], _TREES, seed), returns)


_fits: Final[LastFit[BoostedOwn]] = LastFit()


def _ranker(fitting: Fitting) -> BoostedOwn:
    """Raises UnfitDataError: the package is missing."""
    require("lightgbm", "boosting", _NAME)
    histories, split, seed = fitting.histories, fitting.split, fitting.seed
    return _fits.get(histories, (split, seed), lambda: _fit(histories, split, seed))


def _restored(settings: Mapping[str, Any], arrays: Arrays, known: Histories, split: EvaluatedSplit) -> BoostedOwn:
    require("lightgbm", "boosting", _NAME)
    from lightgbm import Booster

    text = arrays["trees"].tobytes().decode()
    return BoostedOwn(Booster(model_str=text) if text else None, Returns.of(arrays))


FAMILIES: Final = (Family(_NAME, [{}], _ranker, _restored),)
