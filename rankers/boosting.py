"""The two-stage recommender: candidates of counting rankers, ordered by gradient boosted trees; needs `lightgbm`.

Trees are grown by LightGBM (Ke et al., "LightGBM: a highly efficient gradient boosting decision tree", NeurIPS 2017) on
`boosted_features`. The objective is the likelihood of the chosen item in a softmax over the items, a conditional logit
whose scores are trees, so that what comes out are probabilities. Of a large catalogue they learn from the candidates of
a first stage (Covington, Adams and Sargin, "Deep neural networks for YouTube recommendations", RecSys 2016) and from a
random sample of the other items, each of which stands for many: the sum over all items is estimated without bias. They
learn from the later half of earlier events, with rankers that know the first half only.

Shapes: see `arrays`; C = candidates of all questions, flattened; K = features.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from ..arrays import Bool, Float32, Float64, Int64
from ..histories import Histories, build_histories
from ..histories.candidates import Candidates, EvaluatedSplit
from ..histories.questions import SPLIT_CODES, num_previous
from .boosted_features import OF_CONTEXT, OF_EVERYBODY, SMALL, Features
from .counting import Visits
from .discovery import earlier_histories
from .numbers import Numbers, Scaling, scaling
from .popular import log_popular_shares
from .protocol import Arrays, Dense, Family, Fitting, UnfitDataError, require
from .returns import Returns, fit_returns, fit_to_rows, rows_that_return, sums
from .user_history import LastFit

if TYPE_CHECKING:
    from lightgbm import Booster

_NAME: Final = "boosted two-stage"
_LARGEST = 20_000  # items
_PAIRS = 1_000_000  # candidates that are learnt from
_LEAF = 50  # candidates in a leaf, at least
_ELSEWHERE = 1e-3  # what items that are no candidates have together
_LEAST_PAST = 3  # events before those that are learnt from, where there are such


@dataclass(frozen=True)
class BoostingSettings:
    """What is tuned: whether it learns from first visits alone, which then have only new items as candidates; whether
    it sees how often all users chose an item, and which item it is (`OF_EVERYBODY`); the number of trees, and leaves of
    each; and which of the context's numbers it sees. Trees need no scaling: they see columns as they are."""

    new_items: bool
    everybody: bool
    rounds: int
    leaves: int
    numbers: Numbers = "standard"

    @property
    def growth(self) -> "Growth":
        return Growth(self.rounds, self.leaves)

    def seen(self, feature_CK: Float32, names: list[str], context: Scaling) -> tuple[Float32, list[str]]:
        """Of all features those that the trees see, or what they see instead: float32 [C, L], and their names."""
        is_open = [self.everybody or name not in OF_EVERYBODY for name in names]
        turns = context.turn_WD is not None
        read = frozenset(() if turns else (OF_CONTEXT + name for name in context.names))
        kept = [
            at for at, name in enumerate(names) if is_open[at] and (name in read or not name.startswith(OF_CONTEXT))
        ]
        seen_CL, seen = feature_CK[:, kept], [names[at] for at in kept]
        if not turns:
            return seen_CL, seen
        value_CW = feature_CK[:, [names.index(OF_CONTEXT + name) for name in context.names]]
        return np.hstack([seen_CL, context.of(value_CW.astype(np.float64)).astype(np.float32)]), [
            *seen,
            *context.labels,
        ]


@dataclass(frozen=True)
class Growth:
    """How trees are grown: how many, leaves of each, the penalty of the squares of what a leaf adds, and whether
    thresholds are random (extremely randomised trees: Geurts, Ernst and Wehenkel, Machine Learning 63, 2006)."""

    rounds: int
    leaves: int
    penalty: float = 3.0
    random_thresholds: bool = False


@dataclass(frozen=True)
class Learnt:
    """Questions with items of theirs: `feature_CK` float32, `hit_C` bool (the true item), `stands_C` float32 the
    logarithm of how many items each stands for, `start_Q1` int64 where each question begins."""

    feature_CK: Float32
    hit_C: Bool
    stands_C: Float32
    start_Q1: Int64


@dataclass(frozen=True)
class Boosted:
    """The ranker: trees, None where there was too little to learn from; then items are ordered by recent popularity."""

    booster: "Booster | None"
    returns: Returns
    settings: BoostingSettings
    context: Scaling

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        """Log-probabilities over all items; everything is as of each row."""
        known = known or histories
        features = Features.of(histories, known, split, self.returns)
        candidates = Candidates.of(histories, "excluded" if self.settings.new_items else "allowed")
        log_share_I = log_popular_shares(known, split)

        def scores_of(row_Q: Int64) -> Float64:
            parts = [row_Q[start : start + features.chunk] for start in range(0, len(row_Q), features.chunk)]
            return np.concatenate([self._scores(features, candidates, log_share_I, row_P) for row_P in parts])

        def order(row_E: Int64) -> Int64:
            """Queries of one hour together: each hour of a chunk is a pass over all events."""
            hour_E = features.votes.data.local_N[row_E] // 3600 % 168
            order_E: Int64 = np.lexsort((histories.time_s_N[row_E], hour_E))
            return order_E

        return Dense(scores_of, is_log_prob=True, order=order)

    def _scores(self, features: Features, candidates: Candidates, log_share_I: Float64, row_P: Int64) -> Float64:
        """float64 [P, I]; items that are no candidates share `_ELSEWHERE` by popularity."""
        allowed_PI = candidates.allowed(row_P)
        pairs = features.pairs(row_P, allowed_PI)
        score_PI = np.full(allowed_PI.shape, -np.inf)
        score_PI[pairs.query_C, pairs.item_C] = self._of_pairs(pairs.feature_CK, features.names)
        other_PI = np.where(allowed_PI, -np.inf, log_share_I)
        part_P2 = np.log(np.tile([1 - _ELSEWHERE, _ELSEWHERE], (len(row_P), 1)))
        part_P2[allowed_PI.all(axis=1), 0] = part_P2[~allowed_PI.any(axis=1), 1] = 0.0
        found_PI: Float64 = np.where(
            allowed_PI, _log_softmax(score_PI) + part_P2[:, :1], _log_softmax(other_PI) + part_P2[:, 1:]
        )
        return found_PI.clip(-700.0)

    def _of_pairs(self, feature_CK: Float32, names: list[str]) -> Float64:
        if self.booster is None:
            return feature_CK[:, names.index("recent popularity")].astype(np.float64)
        seen_CL, _ = self.settings.seen(feature_CK, names, self.context)
        return np.asarray(self.booster.predict(seen_CL, raw_score=True), np.float64)

    def arrays(self) -> Arrays:
        """The trees as LightGBM's text, bytes as uint8; empty where there are none."""
        text = "" if self.booster is None else self.booster.model_to_string()
        return {"trees": np.frombuffer(text.encode(), np.uint8), **self.returns.arrays()}


def _log_softmax(score_PI: Float64) -> Float64:
    """Logarithms of shares in each row, [P, I]; -inf for -inf, and all of it where a row has nothing else."""
    most_P1 = score_PI.max(axis=1, keepdims=True, initial=-1e300)
    total_P1 = np.exp(score_PI - most_P1).sum(axis=1, keepdims=True)
    log_PI: Float64 = score_PI - most_P1 - np.log(np.maximum(total_P1, 1e-300))
    return log_PI


def softmax(score_C: Float64, query_C: Int64, num: int) -> Float64:
    """exp(score) divided by its sum over each question; `query_C` ascends."""
    if not len(score_C):
        return score_C
    start = np.flatnonzero(np.append(True, query_C[1:] != query_C[:-1]))
    most_Q = np.zeros(num)
    most_Q[query_C[start]] = np.maximum.reduceat(score_C, start)
    exp_C: Float64 = np.exp(score_C - most_Q[query_C])
    return exp_C / sums(query_C, exp_C, num)[query_C]


def grow(learnt: Learnt, names: list[str], growth: Growth, seed: int) -> "Booster | None":
    """Trees whose softmax over each question's candidates makes the true items likeliest; None where there is too
    little to split. They see all of the features, whose names are given."""
    import lightgbm

    num, num_queries = len(learnt.hit_C), len(learnt.start_Q1) - 1
    if num < 2 * _LEAF or (np.diff(learnt.start_Q1) < 2).all():
        return None
    query_C = np.repeat(np.arange(num_queries), np.diff(learnt.start_Q1))

    def slopes(score_C: Float64, _: Any) -> tuple[Float64, Float64]:
        share_C = softmax(score_C + learnt.stands_C, query_C, num_queries)
        return share_C - learnt.hit_C, np.maximum(2 * share_C * (1 - share_C), 1e-6)

    parameters = {
        "objective": slopes, "learning_rate": 0.05, "num_leaves": growth.leaves, "min_data_in_leaf": _LEAF,
        "lambda_l2": growth.penalty, "feature_fraction": 0.5, "extra_trees": growth.random_thresholds, "seed": seed,
        "deterministic": True, "force_row_wise": True, "verbosity": -1,
    }  # fmt: skip
    categories = [at for at, name in enumerate(names) if name == "item" and learnt.feature_CK[:, at].max() < SMALL]
    fixed = {"verbosity": -1, "feature_pre_filter": False}
    data = lightgbm.Dataset(learnt.feature_CK, np.zeros(num), categorical_feature=categories, params=fixed)
    return lightgbm.train(parameters, data, growth.rounds)


def _learn(histories: Histories, split: EvaluatedSplit, new_items: bool, seed: int) -> tuple[Learnt, list[str]]:
    """Questions of earlier splits with the candidates and features that each had then, and the features' names."""
    histories = _in_two(earlier_histories(histories, split))
    # Not by `fit_returns`, which would forget the fit to all events that the ranker answers with.
    returns = fit_to_rows(histories, rows_that_return(histories, "valid", seed), seed)
    features = Features.of(histories, histories, "valid", returns)
    candidates = Candidates.of(histories, "excluded" if new_items else "allowed")
    row_Q = np.random.default_rng(seed).permutation(_rows(histories, candidates))
    columns = [(np.zeros((0, len(features.names)), np.float32), np.zeros(0, bool), np.zeros(0, np.float32))]
    counts, num_pairs, rng = [np.zeros(0, np.int64)], 0, np.random.default_rng([seed, 1])
    for start in range(0, len(row_Q), features.chunk):
        row_P = np.sort(row_Q[start : start + features.chunk])
        true_P = histories.item_idx_N[row_P].astype(np.int64)
        pairs, stands_C = features.sample(row_P, candidates.allowed(row_P), true_P, rng)
        columns.append((pairs.feature_CK, pairs.item_C == true_P[pairs.query_C], stands_C))
        counts.append(np.bincount(pairs.query_C, minlength=len(row_P)))
        num_pairs += len(pairs.query_C)
        if num_pairs >= _PAIRS:
            break
    start_Q1 = np.append(0, np.cumsum(np.concatenate(counts))).astype(np.int64)
    feature_CK, hit_C, stands_C = (np.concatenate(column) for column in zip(*columns, strict=True))
    return Learnt(feature_CK, hit_C, stands_C, start_Q1), features.names


def _in_two(histories: Histories) -> Histories:
    """The same with its later half as the split "valid": what rankers and the attention say there, which some features
    are made of, is then learnt from the first half alone, and does not know what trees learn from."""
    late_N = histories.time_s_N >= np.median(histories.time_s_N) if len(histories.time_s_N) else np.zeros(0, bool)
    split = pl.Series(np.where(late_N, "valid", "train"), dtype=histories.events["split"].dtype)
    return build_histories(histories.events.with_columns(split=split), histories.items, histories.manifest)


def _rows(histories: Histories, candidates: Candidates) -> Int64:
    """Rows that may be learnt from, of the split "valid": those with some events before where there are such."""
    previous_N = num_previous(histories)
    fit_N = (previous_N > 0) & candidates.holds(np.arange(len(previous_N)), histories.item_idx_N)
    if candidates.repeats == "excluded":
        visits = Visits.of(histories)
        fit_N &= visits.number_N == visits.num_known_N
    fit_N &= histories.split_N == SPLIT_CODES["valid"]
    long_N = fit_N & (previous_N >= _LEAST_PAST)
    return np.flatnonzero(long_N if long_N.any() else fit_N)


_learnt: Final[LastFit[tuple[Learnt, list[str]]]] = LastFit()


def _ranker(fitting: Fitting) -> Boosted:
    """Raises UnfitDataError: the package is missing, or the catalogue is too large."""
    require("lightgbm", "boosting", _NAME)
    histories, split, seed, one = fitting.histories, fitting.split, fitting.seed, BoostingSettings(**fitting.settings)
    if histories.items.height > _LARGEST:
        raise UnfitDataError(
            f"The baseline {_NAME!r} should have at most {_LARGEST:,} items, all of which it looks at for each event, "
            f"but found {histories.items.height:,}; leave it out of evaluate.baselines."
        )
    key = (split, one.new_items, seed)
    learnt, names = _learnt.get(histories, key, lambda: _learn(histories, split, one.new_items, seed))
    context = scaling(histories, split, one.numbers)
    seen_CL, seen = one.seen(learnt.feature_CK, names, context)
    booster = grow(replace(learnt, feature_CK=seen_CL), seen, one.growth, seed)
    return Boosted(booster, fit_returns(histories, split, seed), one, context)


def _restored(settings: Mapping[str, Any], arrays: Arrays, known: Histories, split: EvaluatedSplit) -> Boosted:
    require("lightgbm", "boosting", _NAME)
    from lightgbm import Booster

    text = arrays["trees"].tobytes().decode()
    booster = Booster(model_str=text) if text else None
    one = BoostingSettings(**settings)
    return Boosted(booster, Returns.of(arrays), one, scaling(known, split, one.numbers))


_TREES: Final[tuple[tuple[bool, int, int, Numbers], ...]] = (
    (True, 300, 31, "standard"), (True, 200, 15, "standard"), (False, 200, 15, "standard"),
    (False, 200, 15, "informative"), (False, 200, 15, "components"),
)  # fmt: skip
_GRID: Final = tuple(asdict(BoostingSettings(new_items, *trees)) for new_items in (False, True) for trees in _TREES)
FAMILIES: Final = (Family(_NAME, _GRID, _ranker, _restored),)
