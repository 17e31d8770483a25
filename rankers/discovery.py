"""The next item that the user has never chosen: a multinomial log-linear model of what is known at the query's time.

p(i) is proportional to exp(sum over k of b_k f_ki): a conditional logit (McFadden, "Conditional logit analysis of
qualitative choice behavior", 1974), fitted by Newton's method with a small ridge on earlier splits' first visits, among
the items that the user had not chosen before. Features: the distance of the item,
its distance to the user's earlier places that `returns` attends to, how many users came there and how recently, how
often users moved there from the last item, and how its category fits the hour and the user.

Counts enter by smooth logarithms with coefficients of at least 0. An item without any
event would get a high score: data sets hold only items that were chosen in the end. A small network adds joint effects
of places and categories; it reads no counts.

Shapes: see `arrays`; K = features, C = categories, M = events in the order of time, P = the rows of a part.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..arrays import Bool, Float32, Float64, Int64
from ..histories import Histories, build_histories
from ..histories.candidates import Candidates, EvaluatedSplit
from ..histories.questions import SPLIT_CODES, num_previous
from .clock import is_weekend
from .counting import Visits
from .crowd import NAMES, OF_COUNTS, NewItemFeatures
from .item_features import OF_NETWORK
from .loglinear import Adam, fit_loglinear
from .protocol import Arrays, Dense, Family, Fitting, UnfitDataError
from .returns import Returns, fit_returns
from .user_history import LastFit

_LARGEST = 20_000  # items
_ROWS, _CELLS = 3_000, 10_000_000  # first visits that are learnt from, and features of theirs
_RIDGE = 1e-4
_WIDTH, _SAMPLED = 16, 300  # D of the network, and other items beside each true one
_BATCH, _EPOCHS, _LEAST, _MOST = 400, 30, 60, 150  # events of a batch, passes over all, and bounds of the steps
_RATE, _DECAY = 0.02, 0.1


@dataclass(frozen=True)
class _Network:
    """What places and categories say together, added to a log-linear score: G features, less `mean_G` and divided by
    `spread_G`, times `in_GD`, plus `bias_D`, negative parts cut off, times `out_D`; all float64."""

    mean_G: Float64
    spread_G: Float64
    in_GD: Float64
    bias_D: Float64
    out_D: Float64

    @classmethod
    def silent(cls) -> "_Network":
        """One that says nothing."""
        num = len(OF_NETWORK)
        zeros_G, zeros_D = np.zeros(num), np.zeros(_WIDTH)
        return cls(zeros_G, np.ones(num), np.zeros((num, _WIDTH)), zeros_D, zeros_D)

    def scores(self, feature_XG: NDArray[np.floating]) -> Float64:
        """float64 [X]: what is added for each X."""
        inner_XD = (feature_XG - self.mean_G) / self.spread_G @ self.in_GD + self.bias_D
        added_X: Float64 = np.maximum(inner_XD, 0) @ self.out_D
        return added_X

    def slopes(self, feature_XG: Float32, slope_X: Float64) -> list[Float64]:
        """Derivatives of a loss by `in_GD`, `bias_D` and `out_D`, given those by the scores."""
        scaled_XG = (feature_XG - self.mean_G) / self.spread_G
        inner_XD = scaled_XG @ self.in_GD + self.bias_D
        back_XD = np.outer(slope_X, self.out_D) * (inner_XD > 0)
        return [scaled_XG.T @ back_XD, back_XD.sum(axis=0), slope_X @ np.maximum(inner_XD, 0)]


def _fit_network(feature_ESG: Float32, offset_ES: Float64, seed: int) -> _Network:
    """Learnt by Adam from first visits, each with S items: the true one first, then a sample of the others.

    `offset_ES` are the items' log-linear scores, which stay as they are.
    """
    rng, flat_XG = np.random.default_rng(seed), feature_ESG.reshape(-1, feature_ESG.shape[2])
    mean_G, spread_G = flat_XG.mean(axis=0, dtype=np.float64), flat_XG.std(axis=0, dtype=np.float64) + 1e-6
    num = len(mean_G)
    adam = Adam([rng.normal(0, num**-0.5, (num, _WIDTH)), np.zeros(_WIDTH), rng.normal(0, 0.05, _WIDTH)])
    steps = min(max(_EPOCHS * len(feature_ESG) // _BATCH, _LEAST), _MOST)
    for step in range(steps):
        at_B = rng.choice(len(feature_ESG), min(_BATCH, len(feature_ESG)), replace=False)
        network, feature_XG = _Network(mean_G, spread_G, *adam.values), feature_ESG[at_B].reshape(-1, num)
        score_BS = offset_ES[at_B] + network.scores(feature_XG).reshape(len(at_B), -1)
        share_BS = np.exp(score_BS - score_BS.max(axis=1, keepdims=True))
        share_BS /= share_BS.sum(axis=1, keepdims=True)
        share_BS[:, 0] -= 1
        slopes = network.slopes(feature_XG, share_BS.ravel() / len(at_B))
        adam.descend(slopes, _RATE * 0.5 * (1 + np.cos(np.pi * step / steps)), (_DECAY, 0.0, _DECAY))
    return _Network(mean_G, spread_G, *adam.values)


@dataclass(frozen=True)
class Discovery:
    """See the module's text. `weight_K` float64 has one weight for each of `NAMES`, 0 for what the data lacks."""

    weight_K: Float64
    network: _Network
    returns: Returns

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        """Log-probabilities over all items; counts are those of `known`, strictly earlier than each row."""
        query = NewItemFeatures.of(histories, known or histories, self.returns)
        weight_K = [self.weight_K[NAMES.index(name)] for name in query.names]
        hour_N = query.query.data.local_N // 3600 % 24 * 2 + is_weekend(query.query.data.local_N)

        def scores_of(row_Q: Int64) -> Float64:
            features = dict(zip(query.names, query.features(row_Q), strict=True))
            score_QI = self.network.scores(_of_network(features)).reshape(len(row_Q), -1)
            for weight, feature_QI in zip(weight_K, features.values(), strict=True):
                score_QI += weight * feature_QI
            score_QI -= score_QI.max(axis=1, keepdims=True)
            score_QI -= np.log(np.exp(score_QI).sum(axis=1, keepdims=True))
            return score_QI

        def order(row_E: Int64) -> Int64:
            """Queries of one hour together: each hour of a chunk is a pass over all events."""
            order_E: Int64 = np.lexsort((histories.time_s_N[row_E], hour_N[row_E]))
            return order_E

        return Dense(scores_of, is_log_prob=True, order=order)

    def arrays(self) -> Arrays:
        """What was learnt."""
        network = {f"network_{name}": value for name, value in vars(self.network).items()}
        return {"weight_K": self.weight_K, **network, **self.returns.arrays()}


def _of_network(features: Mapping[str, Float32]) -> Float32:
    """Features of places and categories side by side, 0 for what the data lacks: float32 [Q * I, G]."""
    some = next(iter(features.values()))
    columns = [features.get(name, np.zeros_like(some)).ravel() for name in OF_NETWORK]
    return np.stack(columns, axis=1).astype(np.float32)


def _fit(histories: Histories, split: EvaluatedSplit, seed: int) -> Discovery:
    returns, histories = fit_returns(histories, split, seed), earlier_histories(histories, split)
    weight_K = np.zeros(len(NAMES))
    weight_K[NAMES.index("users")] = 1.0
    if not len(row_Q := _learnt_from(histories, seed)):
        return Discovery(weight_K, _Network.silent(), returns)
    query, rng = NewItemFeatures.of(histories, histories, returns), np.random.default_rng(seed)
    names, candidates = query.names, Candidates.of(histories, "excluded")
    parts, sampled = [], []
    for start in range(0, len(row_Q), 250):
        row_P = row_Q[start : start + 250]
        feature_KPI, allowed_PI = np.stack(query.features(row_P)), candidates.allowed(row_P)
        true_P = histories.item_idx_N[row_P]
        item_PS = np.concatenate([true_P[:, None], _others(allowed_PI, true_P, rng)], axis=1)
        sampled.append(feature_KPI[:, np.arange(len(row_P))[:, None], item_PS])
        feature_KPI -= feature_KPI[:, np.arange(len(row_P)), true_P][:, :, None]
        parts.append((feature_KPI, allowed_PI))
    at_K = [NAMES.index(name) for name in names]
    bounded_K = np.array([name in OF_COUNTS for name in names])
    weight_K[at_K] = fit_loglinear(parts, weight_K[at_K], bounded_K, _RIDGE)
    sampled_KES = np.concatenate(sampled, axis=1)
    if not set(names) & set(OF_NETWORK):
        return Discovery(weight_K, _Network.silent(), returns)
    feature_XG = _of_network(dict(zip(names, sampled_KES, strict=True)))
    feature_ESG = feature_XG.reshape(*sampled_KES.shape[1:], -1)
    offset_ES = np.tensordot(weight_K[at_K], sampled_KES.astype(np.float64), 1).astype(np.float64)
    return Discovery(weight_K, _fit_network(feature_ESG, offset_ES, seed), returns)


def _others(allowed_PI: Bool, true_P: NDArray[np.int32], rng: np.random.Generator) -> Int64:
    """A sample of the other candidates of each row, with repetitions where there are few: int64 [P, S]."""
    other_PI = allowed_PI.copy()
    other_PI[np.arange(len(true_P)), true_P] = False
    some_P = other_PI.any(axis=1)
    other_PI[~some_P, true_P[~some_P]] = True
    return np.stack([rng.choice(np.flatnonzero(other_I), _SAMPLED) for other_I in other_PI])


def earlier_histories(histories: Histories, split: EvaluatedSplit) -> Histories:
    """The same without events of this split and later ones, which may lie before those that are learnt from."""
    events = histories.events.filter(histories.split_N < SPLIT_CODES[split])
    events = events.with_columns(user_idx=(pl.col("user_idx").rank("dense") - 1).cast(pl.Int32))
    return build_histories(events, histories.items, histories.manifest)


def _learnt_from(histories: Histories, seed: int) -> Int64:
    """Rows of first visits, ascending: a sample, of events with three before where there are some."""
    visits, previous_N = Visits.of(histories), num_previous(histories)
    new_N = (visits.number_N == visits.num_known_N) & (previous_N > 0)
    new_N &= Candidates.of(histories, "excluded").holds(np.arange(len(new_N)), histories.item_idx_N)
    row_Q = np.flatnonzero(new_N & (previous_N >= 3))
    if not len(row_Q):
        row_Q = np.flatnonzero(new_N)
    most = max(1, min(_ROWS, _CELLS // histories.items.height))
    return np.sort(np.random.default_rng(seed).permutation(row_Q)[:most])


_fits: Final[LastFit[Discovery]] = LastFit()


def _ranker(fitting: Fitting) -> Discovery:
    histories, split, seed = fitting.histories, fitting.split, fitting.seed
    if histories.items.height > _LARGEST:
        raise UnfitDataError(
            f"The baseline 'learnt new items' should have at most {_LARGEST:,} items, all of which it weighs for each "
            f"event, but found {histories.items.height:,}; leave it out of evaluate.baselines."
        )
    return _fits.get(histories, (split, seed), lambda: _fit(histories, split, seed))


def restore(settings: Mapping[str, Any], arrays: Arrays, known: Histories, split: EvaluatedSplit) -> Discovery:
    """The ranker of what `Discovery.arrays` gave."""
    network = (np.asarray(arrays[f"network_{field.name}"], np.float64) for field in fields(_Network))
    return Discovery(np.asarray(arrays["weight_K"], np.float64), _Network(*network), Returns.of(arrays))


FAMILIES: Final = (Family("learnt new items", [{}], _ranker, restore),)
