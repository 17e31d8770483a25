"""Ranking metrics: how high the one item that was really chosen stood in a ranking of all candidates.

A metric is a value with a canonical name, `Metric.parse("nDCG@10")`; the name is the key in configuration, tables and
JSON. It is worked out for each event first (float64 [E]) and averaged second: over events (`micro`), or over users,
each of whom counts the same, however many events they have (`macro`). Slices, intervals and tests need only the former.

Shapes: E = evaluated events. Each event has exactly one relevant item, so a ranking is fully described by that item's
rank: 1 is best, 0 (or any number beyond the cutoff) means that it is not among the ranked items. Graded relevance and
several relevant items an event are not provided for: the next event of a history is one item.

Ties are the ranker's to break: a rank is an integer, and two items never share one. Equally scored items must be put
in a fixed order that does not look at the truth, or the metric would reward guessing.

Over no events at all every metric is NaN, quietly: there is nothing to be right or wrong about. An event of which the
ranker listed nothing is a miss (rank 0), and counts.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Float64
from .rankings import Rankings

__all__ = [
    "LOWER_IS_BETTER", "METRICS", "Metric", "evaluate_rankings", "f1", "log_loss", "macro", "micro", "mrr", "ndcg",
    "per_event", "precision", "recall", "summarise",
]  # fmt: skip


METRICS: Final = ("recall@1", "recall@5", "recall@10", "nDCG@10", "MRR@10", "log-loss")
"""Canonical names of what is shown unless others are asked for, in the order of every table."""

LOWER_IS_BETTER: Final = frozenset({"log-loss"})


def recall(rank_E: ArrayLike, k: int) -> float:
    """recall@k: share of events whose item is among the first k.

    With one relevant item an event's recall is 0 or 1 and equals the hit rate; recall@1 is also called `accuracy`.
    Ranks have no ties (see the module's text); NaN over no events.
    Source: Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, section 8.4.
    """
    return micro(_recall_E(rank_E, k))


def precision(rank_E: ArrayLike, k: int) -> float:
    """precision@k: mean of 1 / k where rank <= k, else 0; recall@k / k, as one item is relevant.

    A list shorter than k counts as filled up with misses, as trec_eval has it. Ranks have no ties; NaN over no events.
    Source: Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, section 8.4.
    """
    return micro(_precision_E(rank_E, k))


def f1(rank_E: ArrayLike, k: int) -> float:
    """F1@k: mean of the events' 2 P R / (P + R), P = precision@k and R = recall@k; 0 where the item is missed.

    With one relevant item that is 2 / (k + 1) where rank <= k. Ranks have no ties; NaN over no events.
    Source: van Rijsbergen, "Information Retrieval", 1979, chapter 7.
    """
    return micro(_f1_E(rank_E, k))


def ndcg(rank_E: ArrayLike, k: int) -> float:
    """nDCG@k: mean of 1 / log2(rank + 1) where rank <= k, else 0.

    With one relevant item the ideal ranking gains 1 / log2(2) = 1, so the normaliser is 1. Ranks have no ties; NaN over
    no events. Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4),
    2002; discount log2(rank + 1) as in Burges et al., "Learning to rank using gradient descent", ICML 2005.
    """
    return micro(_ndcg_E(rank_E, k))


def mrr(rank_E: ArrayLike, k: int) -> float:
    """MRR@k: mean of 1 / rank where rank <= k, else 0.

    Ranks have no ties; NaN over no events.
    Source: Voorhees, "The TREC-8 Question Answering Track Report", 1999; cut off at k.
    """
    return micro(_mrr_E(rank_E, k))


def log_loss(log_prob_E: ArrayLike) -> float:
    """Mean of -log p(item chosen), in nats; the logarithmic score of Good, "Rational Decisions", JRSS B 14(1), 1952.

    A uniform guess over n items scores log(n). One event held to be impossible (-inf) makes it infinite: that is the
    verdict of this score, not an error. Ties do not matter, as no other item's probability is looked at; NaN over no
    events.

    Raises:
        ValueError: a log-probability is NaN or clearly above 0 (round-off up to 1e-3 passes).
    """
    return micro(_loss_E(log_prob_E))


def micro(value_E: Float64) -> float:
    """Mean over events: each counts the same. Events of unknown value (NaN) are left out; NaN over none."""
    known_X = value_E[~np.isnan(value_E)]
    return float(known_X.mean()) if known_X.size else float("nan")


def macro(value_E: Float64, user_E: ArrayLike) -> float:
    """Mean over users of the mean over each one's events: each user counts the same.

    Events of unknown value (NaN) are left out, and with them users who have no other; NaN over none.

    Args:
        value_E: float64 [E], each event's own value.
        user_E: integers [E], whose event it is.
    """
    known_E = ~np.isnan(value_E)
    _, user_X = np.unique(np.asarray(user_E)[known_E], return_inverse=True)
    return micro(np.bincount(user_X, weights=value_E[known_E]) / np.bincount(user_X))


def _recall_E(rank_E: ArrayLike, k: int) -> Float64:
    return _hits(rank_E, k)[1].astype(np.float64)


def _precision_E(rank_E: ArrayLike, k: int) -> Float64:
    return _recall_E(rank_E, k) / k


def _f1_E(rank_E: ArrayLike, k: int) -> Float64:
    return _recall_E(rank_E, k) * (2 / (k + 1))


def _ndcg_E(rank_E: ArrayLike, k: int) -> Float64:
    tame_E, hit_E = _hits(rank_E, k)
    return np.where(hit_E, 1.0 / np.log2(tame_E + 1.0), 0.0)


def _mrr_E(rank_E: ArrayLike, k: int) -> Float64:
    tame_E, hit_E = _hits(rank_E, k)
    return np.where(hit_E, 1.0 / tame_E, 0.0)


def _loss_E(log_prob_E: ArrayLike) -> Float64:
    log_probs = np.asarray(log_prob_E, dtype=np.float64)
    if log_probs.ndim != 1 or np.isnan(log_probs).any() or (log_probs > 1e-3).any():
        raise ValueError("log-probabilities must be one row of numbers of at most 0")
    return 0.0 - log_probs  # not -x, which makes a certain event score -0.0


def _hits(rank_E: ArrayLike, k: int) -> tuple[Float64, NDArray[np.bool_]]:
    """Ranks as float64 [E], those outside of 1..k replaced by 1 to keep logarithms tame; and which are inside."""
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    ranks = np.asarray(rank_E)
    if ranks.ndim != 1 or (ranks.size and ranks.dtype.kind not in "iu"):
        raise ValueError(f"ranks must be one row of integers, not {ranks.dtype} of shape {ranks.shape}")
    if ranks.size and ranks.min() < 0:
        raise ValueError(f"ranks start at 1 (0 = not in the list), found {ranks.min()}")
    hit_E = (ranks >= 1) & (ranks <= k)
    return np.where(hit_E, ranks, 1).astype(np.float64), hit_E


_WITH_CUTOFF: Final[Mapping[str, Callable[[ArrayLike, int], Float64]]] = {
    "recall": _recall_E,
    "precision": _precision_E,
    "F1": _f1_E,
    "nDCG": _ndcg_E,
    "MRR": _mrr_E,
}
_KINDS: Final = (*_WITH_CUTOFF, "accuracy", "log-loss")
_BY_FOLDED: Final = {kind.casefold(): kind for kind in _KINDS}


@dataclass(frozen=True)
class Metric:
    """One metric by its canonical name; `Metric.parse` makes it.

    Attributes:
        kind: recall, precision, F1, nDCG and MRR (which have a cutoff), accuracy (recall@1 by another name), log-loss.
        k: the cutoff, at least 1; None for those that have none.
    """

    kind: str
    k: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS or (self.k is None) == (self.kind in _WITH_CUTOFF):
            raise ValueError(f"metrics are {_all_shown()}, not {self.kind!r} with k = {self.k}")

    @classmethod
    def parse(cls, name: str) -> "Metric":
        """The metric of a name such as "nDCG@10", whatever its capitals: "ndcg@10" is the same.

        Raises:
            ValueError: there is no such metric, or its cutoff is missing or of no use; names what there is.
        """
        kind_text, at, cutoff = name.strip().partition("@")
        kind = _BY_FOLDED.get(kind_text.casefold())
        if kind is None:
            near = difflib.get_close_matches(kind_text.casefold(), _BY_FOLDED, n=1)
            meant = f"did you mean {_shown(_BY_FOLDED[near[0]])}?" if near else f"there are {_all_shown()}"
            raise ValueError(f"there is no metric {name!r}; {meant}")
        if kind not in _WITH_CUTOFF:
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
        """Whether only rankers that give a distribution have this metric."""
        return self.kind == "log-loss"

    @property
    def depth(self) -> int:
        """Down to which place of a ranking it looks; 0 if it looks at no ranking."""
        return 0 if self.needs_log_probs else self.k or 1

    def per_event(self, rank_E: ArrayLike, log_prob_E: ArrayLike | None = None) -> Float64:
        """float64 [E]: each event's own value; see the function of the metric's name for formula, ties and source.

        Raises:
            ValueError: the arrays are unfit (see `recall`, `log_loss`), or log-probabilities are needed and not given.
        """
        if not self.needs_log_probs:
            return _WITH_CUTOFF.get(self.kind, _recall_E)(rank_E, self.depth)
        if log_prob_E is None:
            raise ValueError(f"{self.name} needs log-probabilities, which this ranker does not give")
        return _loss_E(log_prob_E)


def per_event(
    rank_E: ArrayLike, log_prob_E: ArrayLike | None = None, metrics: Iterable[str] = METRICS
) -> dict[str, Float64]:
    """Each event's own value of each metric, by canonical name: float64 [E].

    `log-loss` is there only where log-probabilities are given.

    Raises:
        ValueError: the two arrays differ in length, or one is unfit (see `recall`, `log_loss`); no such metric.
    """
    ranks = np.asarray(rank_E)
    if log_prob_E is not None and np.shape(log_prob_E) != ranks.shape:
        raise ValueError(f"{ranks.size} ranks but {np.size(log_prob_E)} log-probabilities")
    wanted = [Metric.parse(name) for name in metrics]
    having = [metric for metric in wanted if log_prob_E is not None or not metric.needs_log_probs]
    return {metric.name: metric.per_event(ranks, log_prob_E) for metric in having}


def summarise(
    rank_E: ArrayLike, log_prob_E: ArrayLike | None = None, metrics: Iterable[str] = METRICS
) -> dict[str, float]:
    """Micro means of one ranker, by canonical name in the order of `metrics`.

    Args:
        rank_E: integers [E], 1-based rank of the chosen item; 0 or beyond a cutoff = not in the list.
        log_prob_E: floats [E], its log-probability in nats; None for rankers that have none: no `log-loss` then.
        metrics: names, see `Metric.parse`.
    """
    return {name: micro(value_E) for name, value_E in per_event(rank_E, log_prob_E, metrics).items()}


def evaluate_rankings(rankings: Rankings, metrics: Sequence[str] = METRICS) -> dict[str, Float64]:
    """`per_event` of a ranker's answers.

    Raises:
        ValueError: a metric looks farther down than the rankings are known.
    """
    deepest = max((Metric.parse(name) for name in metrics), key=lambda metric: metric.depth, default=None)
    if deepest and deepest.depth > rankings.k and (rankings.rank_E == 0).any():
        raise ValueError(
            f"{deepest.name} looks at the first {deepest.depth} items but these rankings hold {rankings.k}; "
            "rank again with a larger evaluate.k"
        )
    return per_event(rankings.rank_E, rankings.log_prob_E, metrics)


def _shown(kind: str) -> str:
    return f"{kind}@k" if kind in _WITH_CUTOFF else kind


def _all_shown() -> str:
    return ", ".join(map(_shown, _KINDS))
