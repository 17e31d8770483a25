"""Ranking metrics: how high the one item that was really chosen stood in a ranking of the whole catalogue.

Shapes: E = evaluated events. Each event has exactly one relevant item, so a ranking is fully described by that
item's rank: 1 is best, 0 (or any number beyond the cutoff) means that it is not among the ranked items.

Ties are the ranker's to break: a rank is an integer, and two items never share one. Equally scored items must be put
in a fixed order that does not look at the truth, or the metric would reward guessing.

Over no events at all every mean is NaN, quietly: there is nothing to be right or wrong about.
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LOWER_IS_BETTER", "METRICS", "log_loss", "mrr", "ndcg", "per_event", "recall", "summarise"]

METRICS: Final = ("recall@1", "recall@5", "recall@10", "nDCG@10", "MRR@10", "log-loss")
"""Canonical names in the order of every table; the key in configuration, tables and JSON."""

LOWER_IS_BETTER: Final = frozenset({"log-loss"})


def recall(rank_E: ArrayLike, k: int) -> float:
    """recall@k: share of events whose item is among the first k.

    With one relevant item an event's recall is 0 or 1 and equals the hit rate. Source: Manning, Raghavan and Schütze,
    "Introduction to Information Retrieval", 2008, section 8.4.
    """
    return _mean(_hits(rank_E, k)[1])


def ndcg(rank_E: ArrayLike, k: int) -> float:
    """nDCG@k: mean of 1 / log2(rank + 1) where rank <= k, else 0.

    With one relevant item the ideal ranking gains 1 / log2(2) = 1, so the normaliser is 1. Source: Järvelin and
    Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4), 2002; discount log2(rank + 1) as
    in Burges et al., "Learning to rank using gradient descent", ICML 2005.
    """
    return _mean(_ndcg_E(rank_E, k))


def mrr(rank_E: ArrayLike, k: int) -> float:
    """MRR@k: mean of 1 / rank where rank <= k, else 0.

    Source: Voorhees, "The TREC-8 Question Answering Track Report", 1999; cut off at k.
    """
    return _mean(_mrr_E(rank_E, k))


def log_loss(log_prob_E: ArrayLike) -> float:
    """Mean of -log p(item chosen), in nats; the logarithmic score of Good, "Rational Decisions", JRSS B 14(1), 1952.

    A uniform guess over n items scores log(n). One event held to be impossible (-inf) makes it infinite: that is the
    verdict of this score, not an error.

    Raises:
        ValueError: a log-probability is NaN or clearly above 0 (round-off up to 1e-3 passes).
    """
    return _mean(_loss_E(log_prob_E))


def per_event(rank_E: ArrayLike, log_prob_E: ArrayLike | None = None) -> dict[str, NDArray[np.float64]]:
    """Each event's own value of each metric, by canonical name: float64 [E].

    `log-loss` is there only where log-probabilities are given. Metrics are means of these, so that
    slices and significance tests need nothing else.

    Raises:
        ValueError: the two arrays differ in length, or one is unfit (see `recall`, `log_loss`).
    """
    values = {f"recall@{k}": _hits(rank_E, k)[1].astype(np.float64) for k in (1, 5, 10)}
    values |= {"nDCG@10": _ndcg_E(rank_E, 10), "MRR@10": _mrr_E(rank_E, 10)}
    if log_prob_E is not None:
        values["log-loss"] = _loss_E(log_prob_E)
        if len(values["log-loss"]) != len(values["recall@1"]):
            raise ValueError(f"{len(values['recall@1'])} ranks but {len(values['log-loss'])} log-probabilities")
    return values


def summarise(rank_E: ArrayLike, log_prob_E: ArrayLike | None = None) -> dict[str, float]:
    """All metrics of one ranker, by canonical name in the order of `METRICS`.

    Args:
        rank_E: integers [E], 1-based rank of the chosen item; 0 or beyond 10 = not in the list.
        log_prob_E: floats [E], its log-probability in nats; None for rankers that have none: no `log-loss` then.
    """
    return {name: _mean(value_E) for name, value_E in per_event(rank_E, log_prob_E).items()}


def _hits(rank_E: ArrayLike, k: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
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


def _ndcg_E(rank_E: ArrayLike, k: int) -> NDArray[np.float64]:
    tame_E, hit_E = _hits(rank_E, k)
    return np.where(hit_E, 1.0 / np.log2(tame_E + 1.0), 0.0)


def _mrr_E(rank_E: ArrayLike, k: int) -> NDArray[np.float64]:
    tame_E, hit_E = _hits(rank_E, k)
    return np.where(hit_E, 1.0 / tame_E, 0.0)


def _loss_E(log_prob_E: ArrayLike) -> NDArray[np.float64]:
    log_probs = np.asarray(log_prob_E, dtype=np.float64)
    if log_probs.ndim != 1 or np.isnan(log_probs).any() or (log_probs > 1e-3).any():
        raise ValueError("log-probabilities must be one row of numbers of at most 0")
    return 0.0 - log_probs  # not -x, which makes a certain event score -0.0


def _mean(value_E: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(value_E.mean()) if value_E.size else float("nan")
