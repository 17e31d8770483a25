"""Ranking metrics: how high the item that was really chosen stands in a ranking of all candidates.

A metric is a value with a canonical name, `Metric.parse("nDCG@10")`, which is the key in configuration, tables and
JSON. It is computed for each event first (float64 [E]) and averaged second: over events (`micro`), or over users, who
each count the same (`macro`).

Shapes: E = evaluated events. Each event has exactly one relevant item, so its rank says all: 1 is best, 0 or any number
beyond the cutoff is a miss. Two items never share a rank: rankers break ties in a fixed order that does not look at the
truth. An event with an empty list is a miss. Over no events every metric is NaN.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Bool, Float64, Int64
from .rankings import Rankings

METRICS: Final = ("recall@1", "recall@5", "recall@10", "nDCG@10", "MRR@10", "log-loss")  # in the order of every table
LOSS: Final = "log-loss"
VISITS: Final = {"first visits": True, "repeats": False}  # events apart by whether the item is new to the user
LOWER_IS_BETTER: Final = frozenset({LOSS})

_GAINS: Final[Mapping[str, Callable[[Float64, int], Float64 | float]]] = {
    # The hit rate. Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, section 8.4.
    "recall": lambda rank_E, k: 1.0,
    "precision": lambda rank_E, k: 1.0 / k,  # a shorter list counts as filled up with misses
    # 2 P R / (P + R) of each event. Van Rijsbergen, "Information Retrieval", 1979, chapter 7.
    "F1": lambda rank_E, k: 2 / (k + 1),
    # Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4), 2002.
    "nDCG": lambda rank_E, k: 1.0 / np.log2(rank_E + 1.0),
    # Voorhees, "The TREC-8 Question Answering Track Report", 1999; cut off at k.
    "MRR": lambda rank_E, k: 1.0 / rank_E,
}
"""What an event adds whose item is among the first k, by metric; a miss adds 0."""
_KINDS: Final = (*_GAINS, LOSS)


def micro(value_E: Float64) -> float:
    """Mean over events, leaving out those of unknown value (NaN); NaN over none."""
    known_X = value_E[~np.isnan(value_E)]
    return float(known_X.mean()) if known_X.size else float("nan")


def macro(value_E: Float64, user_E: ArrayLike) -> float:
    """Mean over users (integers [E]) of the mean over each one's events of known value; NaN over none."""
    known_E = ~np.isnan(value_E)
    _, user_X = np.unique(np.asarray(user_E)[known_E], return_inverse=True)
    return micro(np.bincount(user_X, weights=value_E[known_E]) / np.bincount(user_X))


@dataclass(frozen=True)
class Metric:
    """One metric: `kind` is a key of `_GAINS` with a cutoff `k` of at least 1, or log-loss with None."""

    kind: str
    k: int | None = None

    @classmethod
    def parse(cls, name: str) -> "Metric":
        """The metric of a name such as "nDCG@10", in any case.

        Raises:
            ValueError: there is no such metric, or its cutoff is missing or of no use; names what there is.
        """
        kind_text, at, cutoff = name.strip().partition("@")
        kinds = {kind.casefold(): kind for kind in _KINDS}
        kind = kinds.get(kind_text.casefold())
        if kind is None:
            near = difflib.get_close_matches(kind_text.casefold(), kinds, n=1)
            shown = {one: f"{one}@k" if one in _GAINS else one for one in _KINDS}
            meant = f"did you mean {shown[kinds[near[0]]]}?" if near else f"there are {', '.join(shown.values())}"
            raise ValueError(f"there is no metric {name!r}; {meant}")
        if kind not in _GAINS:
            if at:
                raise ValueError(f"{kind} has no cutoff, found {name!r}; write {kind}")
            return cls(kind)
        if not re.fullmatch("[1-9][0-9]{0,8}", cutoff):
            raise ValueError(f"{kind} needs a cutoff of 1 or more, found {name!r}; write for example {kind}@10")
        return cls(kind, int(cutoff))

    @property
    def name(self) -> str:
        """Canonical: `Metric.parse(metric.name) == metric`."""
        return self.kind if self.k is None else f"{self.kind}@{self.k}"

    @property
    def lower_is_better(self) -> bool:
        return self.name in LOWER_IS_BETTER

    @property
    def needs_log_probs(self) -> bool:
        return self.kind == LOSS

    @property
    def depth(self) -> int:
        """Down to which place of a ranking it looks; 0 if it looks at no ranking."""
        return self.k or 0

    def gain_E(self, rank_E: ArrayLike) -> Float64:
        """Each event's own value, float64 [E], of a metric that looks at ranks."""
        ranks = np.asarray(rank_E)
        if ranks.ndim != 1 or (ranks.size and ranks.dtype.kind not in "iu"):
            raise ValueError(f"ranks must be one row of integers, not {ranks.dtype} of shape {ranks.shape}")
        if ranks.size and ranks.min() < 0:
            raise ValueError(f"ranks start at 1 (0 = not in the list), found {ranks.min()}")
        hit_E = (ranks >= 1) & (ranks <= self.depth)
        return np.where(hit_E, _GAINS[self.kind](np.where(hit_E, ranks, 1).astype(np.float64), self.depth), 0.0)


def _loss_E(log_prob_E: ArrayLike) -> Float64:
    """-log p(item chosen) in nats: Good, "Rational Decisions", JRSS B 14(1), 1952; infinite if held impossible."""
    log_probs = np.asarray(log_prob_E, dtype=np.float64)
    if log_probs.ndim != 1 or np.isnan(log_probs).any() or (log_probs > 1e-3).any():
        raise ValueError("log-probabilities must be one row of numbers of at most 0")
    return 0.0 - log_probs  # not -x, which makes a certain event score -0.0


def per_event(
    rank_E: ArrayLike, log_prob_E: ArrayLike | None = None, metrics: Iterable[str] = METRICS
) -> dict[str, Float64]:
    """Each event's own value of each metric, by canonical name: float64 [E]; without log-probabilities no log-loss.

    Raises:
        ValueError: the two arrays differ in length, or one is unfit; no such metric.
    """
    if log_prob_E is not None and np.shape(log_prob_E) != np.shape(rank_E):
        raise ValueError(f"{np.size(rank_E)} ranks but {np.size(log_prob_E)} log-probabilities")
    found = {}
    for metric in map(Metric.parse, metrics):
        if not metric.needs_log_probs:
            found[metric.name] = metric.gain_E(rank_E)
        elif log_prob_E is not None:
            found[metric.name] = _loss_E(log_prob_E)
    return found


def summarise(
    rank_E: ArrayLike, log_prob_E: ArrayLike | None = None, metrics: Iterable[str] = METRICS
) -> dict[str, float]:
    """Micro means of `per_event`: ranks as integers [E], log-probabilities in nats as floats [E]."""
    return {name: micro(value_E) for name, value_E in per_event(rank_E, log_prob_E, metrics).items()}


def by_visit(rank_E: Int64, is_first_E: Bool, metric: str = "nDCG@10") -> dict[str, float]:
    """The metric's means over first visits and over repeats (`VISITS`); nothing where there are only the ones."""
    if is_first_E.all() or not is_first_E.any():
        return {}
    value_E = Metric.parse(metric).gain_E(rank_E)
    return {f"{metric} {name}": micro(value_E[is_first_E == is_first]) for name, is_first in VISITS.items()}


def evaluate_rankings(rankings: Rankings, metrics: Sequence[str] = METRICS) -> dict[str, Float64]:
    """`per_event` of a ranker's answers. Raises ValueError if a metric looks farther down than they are known."""
    deepest = max(map(Metric.parse, metrics), key=lambda metric: metric.depth, default=None)
    if deepest and deepest.depth > rankings.k and (rankings.rank_E == 0).any():
        raise ValueError(
            f"{deepest.name} looks at the first {deepest.depth} items but these rankings hold {rankings.k}; "
            "rank again with a larger evaluate.k"
        )
    return per_event(rankings.rank_E, rankings.log_prob_E, metrics)
