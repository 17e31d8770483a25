"""Several finished rankings of the same events made into one, whatever made them.

Only lists are needed: an item's fused score is a weighted sum of what each list gives it. Methods:

- "rrf": 1 / (constant + rank), and 0 from a list without the item. Reciprocal rank fusion of Cormack, Clarke and
  Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods", SIGIR 2009, who set the
  constant to 60; here each list has a weight.
- "log-prob": the log-probability: a log-linear pool of Genest and Zidek, "Combining probability distributions",
  Statistical Science 1(1), 1986. A list of other scores, all at least 0, counts as shares of their sum: log(share +
  constant).
- "min-max" and "z": scores shifted and scaled, list by list and event by event, to 0 at the lowest and 1 at the
  highest, or to mean 0 and standard deviation 1; where all are equal, they are 1 and 0. Montague and Aslam, "Relevance
  score normalization for metasearch", CIKM 2001; their weighted sum is the CombSUM of Fox and Shaw, TREC-2, 1994.

An item that a list lacks gets that list's floor: 0 for "rrf" and "min-max", else what the list's last item has. No item
outside of all lists can thus be ahead of one in them; a true item in none of them has rank 0 (not found). An item of
score -inf counts as lacking. Equal fused scores keep the order of the best rank in any list, then of the lists. What
comes out is no distribution.

Shapes: P = lists (one of each ranker), E = events, K = items of a list, X = pooled items of all events, by event.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float64, Int64
from ..errors import DataError
from .metrics import ndcg
from .rankings import Rankings

__all__ = ["METHODS", "Fusion", "FusionMethod", "Pool", "fit_fusion", "fuse_rankings", "fusion_grid"]

FusionMethod = Literal["rrf", "log-prob", "min-max", "z"]
METHODS: Final[tuple[FusionMethod, ...]] = get_args(FusionMethod)

_CONSTANTS: Final = {"rrf": (60.0, 0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 120.0), "log-prob": (1e-2, 1e-1, 1e-3, 1e-4)}
_STEPS: Final = {2: 20, 3: 9, 4: 8, 5: 5, 6: 6}  # weights are whole multiples of 1 / steps; at most 462 of them
_METRIC: Final = "nDCG@10"


@dataclass(frozen=True)
class Fusion:
    """How lists are fused.

    Attributes:
        method: see the module's text.
        weights: one a list, at least 0, adding up to 1.
        constant: of "rrf" and "log-prob".
    """

    method: FusionMethod
    weights: tuple[float, ...]
    constant: float = 0.0


def fusion_grid(method: FusionMethod, num_lists: int) -> Iterator[Fusion]:
    """Everything to be tried: all weights in steps, equal ones first, with each constant of the method.

    Raises:
        DataError: fewer than 2 lists, or more than 6.
    """
    if num_lists not in _STEPS:
        raise DataError(f"A fusion should be of 2 to {max(_STEPS)} rankers, found {num_lists}; name others.")
    steps = _STEPS[num_lists]
    counts = [one for one in product(range(steps + 1), repeat=num_lists) if sum(one) == steps]
    counts.sort(key=lambda one: max(one) - min(one))
    for count, constant in product(counts, _CONSTANTS.get(method, (0.0,))):
        yield Fusion(method, tuple(one / steps for one in count), constant)


def fit_fusion(
    lists: Sequence[Rankings], truth_E: NDArray[np.integer], method: FusionMethod
) -> tuple[Fusion, list[dict[str, Any]]]:
    """The settings of the highest nDCG@10 on these events, the first of equals in the grid; and all trials.

    Args:
        lists: of the same events, of the validation split; see `Pool.of`.
        truth_E: integers [E], item_idx of the true items.
        method: whose grid is tried.

    Raises:
        DataError: see `fusion_grid` and `Pool.values`.
    """
    pool, trials = Pool.of(lists), []
    values: dict[float, Float64] = {}
    for fusion in fusion_grid(method, len(lists)):
        if fusion.constant not in values:
            values[fusion.constant] = pool.values(lists, fusion)
        score_X = np.array(fusion.weights) @ values[fusion.constant]
        trials.append({"settings": asdict(fusion), "metrics": {_METRIC: ndcg(pool.ranks(score_X, truth_E), 10)}})
    best = max(trials, key=lambda trial: trial["metrics"][_METRIC])["settings"]
    return Fusion(**best), trials


def fuse_rankings(lists: Sequence[Rankings], truth_E: NDArray[np.integer], fusion: Fusion, k: int) -> Rankings:
    """One ranking of up to `k` items an event; ranks are exact where the true item is in one of the lists, else 0.

    Args:
        lists: of the same events, one for each weight.
        truth_E: integers [E], item_idx of the true items.
        fusion: as `fit_fusion` found it on other events.
        k: how many items to keep.

    Raises:
        ValueError: lists of other events, or of another number than the weights.
        DataError: see `Pool.values`.
    """
    if len(lists) != len(fusion.weights):
        raise ValueError(f"{len(lists)} lists but {len(fusion.weights)} weights")
    pool = Pool.of(lists)
    score_X = np.array(fusion.weights) @ pool.values(lists, fusion)
    order_X = np.lexsort((pool.tie_X, -score_X, pool.event_X))
    event_X = pool.event_X[order_X]
    at_X = np.arange(len(event_X)) - np.searchsorted(event_X, event_X)
    first_X = at_X < k
    item_EK = np.full((pool.num_events, k), -1, np.int32)
    score_EK = np.full((pool.num_events, k), -np.inf)
    item_EK[event_X[first_X], at_X[first_X]] = pool.item_X[order_X][first_X]
    score_EK[event_X[first_X], at_X[first_X]] = score_X[order_X][first_X]
    return Rankings(lists[0].row_E, pool.ranks(score_X, truth_E), item_EK, score_EK)


@dataclass(frozen=True)
class Pool:
    """The items of all lists, each once an event.

    Attributes:
        num_events: E.
        event_X: int64, position of the event, ascending.
        item_X: int64, item_idx, ascending within an event.
        rank_PX: int64, the item's rank in each list from 1; 0 where the list lacks it.
        tie_X: int64, smaller goes first among equal scores; no two of an event are equal.
    """

    num_events: int
    event_X: Int64
    item_X: Int64
    rank_PX: Int64
    tie_X: Int64

    @classmethod
    def of(cls, lists: Sequence[Rankings]) -> "Pool":
        """Pool lists of the same events.

        Raises:
            ValueError: they are not of the same events.
        """
        row_E = lists[0].row_E
        if any(not np.array_equal(one.row_E, row_E) for one in lists):
            raise ValueError("lists to be fused must be of the same events")
        held = [np.nonzero(_held(one)) for one in lists]
        scale = 1 + max(int(one.item_EK.max(initial=0)) for one in lists)
        keys = [event * scale + one.item_EK[event, at] for one, (event, at) in zip(lists, held, strict=True)]
        key_X, entry = np.unique(np.concatenate(keys), return_inverse=True)
        rank_PX = np.zeros((len(lists), len(key_X)), np.int64)
        start = 0
        for number, (_, at) in enumerate(held):
            rank_PX[number, entry[start : start + len(at)]] = at + 1
            start += len(at)
        beyond = 1 + max(one.k for one in lists)
        order_PX = np.where(rank_PX > 0, rank_PX, beyond) * len(lists) + np.arange(len(lists))[:, None]
        return cls(len(row_E), key_X // scale, key_X % scale, rank_PX, order_PX.min(axis=0))

    def values(self, lists: Sequence[Rankings], fusion: Fusion) -> Float64:
        """What each list gives each item, before it is weighted: float64 [P, X].

        Raises:
            DataError: "log-prob" of a list with negative scores that are no log-probabilities.
        """
        if fusion.method == "rrf":
            has_PX = self.rank_PX > 0
            gain_PX: Float64 = np.divide(1.0, fusion.constant + self.rank_PX, out=np.zeros(has_PX.shape), where=has_PX)
            return gain_PX
        value_PX = np.empty(self.rank_PX.shape)
        for number, one in enumerate(lists):
            value_EK = _normalised(one, fusion)
            floor_E = np.zeros(self.num_events)
            if fusion.method != "min-max":
                floor_E = value_EK.min(axis=1, where=_held(one), initial=np.inf)
            # An empty list says the same of all items.
            floor_E = np.where(np.isinf(floor_E), 0.0, floor_E)
            has_X, at_X = self.rank_PX[number] > 0, self.rank_PX[number] - 1
            value_PX[number] = np.where(has_X, value_EK[self.event_X, at_X], floor_E[self.event_X])
        return value_PX

    def ranks(self, score_X: Float64, truth_E: NDArray[np.integer]) -> Int64:
        """Rank of the true item of each event among the pooled ones, 0 where it is not there: int64 [E]."""
        is_truth_X = self.item_X == truth_E[self.event_X]
        score_E, tie_E = np.full(self.num_events, np.inf), np.zeros(self.num_events, np.int64)
        score_E[self.event_X[is_truth_X]] = score_X[is_truth_X]
        tie_E[self.event_X[is_truth_X]] = self.tie_X[is_truth_X]
        truth_X = score_E[self.event_X]
        is_ahead_X = (score_X > truth_X) | ((score_X == truth_X) & (self.tie_X < tie_E[self.event_X]))
        rank_E = 1 + np.bincount(self.event_X[is_ahead_X], minlength=self.num_events)
        return np.where(np.isinf(score_E), 0, rank_E).astype(np.int64)


def _held(one: Rankings) -> NDArray[np.bool_]:
    held_EK: NDArray[np.bool_] = (one.item_EK >= 0) & np.isfinite(one.score_EK)
    return held_EK


def _normalised(one: Rankings, fusion: Fusion) -> Float64:
    """A list's scores on the method's scale: float64 [E, K]; what stands where there is no item means nothing."""
    held_EK = _held(one)
    score_EK: Float64 = np.where(held_EK, one.score_EK, 0.0)
    scaled_EK: Float64
    if fusion.method == "log-prob":
        return score_EK if one.log_prob_E is not None else _log_shares(score_EK, fusion.constant)
    if fusion.method == "min-max":
        shifted_EK = score_EK - score_EK.min(axis=1, where=held_EK, initial=np.inf, keepdims=True)
        spread_E = shifted_EK.max(axis=1, where=held_EK, initial=0.0, keepdims=True)
        scaled_EK = np.divide(shifted_EK, spread_E, out=np.ones_like(score_EK), where=spread_E > 0)
        return scaled_EK
    num_E = np.maximum(held_EK.sum(axis=1, keepdims=True), 1)
    centred_EK = score_EK - score_EK.sum(axis=1, keepdims=True) / num_E
    deviation_E = np.sqrt((centred_EK**2 * held_EK).sum(axis=1, keepdims=True) / num_E)
    round_off_E = 1e-12 * np.abs(score_EK).max(axis=1, keepdims=True, initial=0.0)
    scaled_EK = np.divide(centred_EK, deviation_E, out=np.zeros_like(score_EK), where=deviation_E > round_off_E)
    return scaled_EK


def _log_shares(score_EK: Float64, constant: float) -> Float64:
    if score_EK.min(initial=0.0) < 0:
        raise DataError(
            "The method log-prob should be of log-probabilities or of scores of at least 0, but a ranker without "
            f"log-probabilities has the score {score_EK.min():g}; fuse by another method."
        )
    total_E = score_EK.sum(axis=1, keepdims=True)
    share_EK = np.divide(score_EK, total_E, out=np.zeros_like(score_EK), where=total_E > 0)
    log_share_EK: Float64 = np.log(share_EK + constant)
    return log_share_EK
