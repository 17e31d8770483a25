"""What the best possible ranker reaches where all probabilities are known: it ranks by them.

With p_(r) the probability of the item of rank r, the expected recall@k is the sum of p_(r) over r <= k, the expected
nDCG@k that of p_(r) / log2(r + 1), and the expected log-loss the entropy. No ranker has more on average: an exchange of
two items of which the less probable stands first never lowers the sums.

Shapes: E = events, I = items.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import polars as pl

from ...arrays import Bool, Float64, Int64

KS: Final = (1, 5, 10)
KINDS: Final = ("with_weather", "without_weather")


@dataclass(frozen=True)
class Known:
    """What one observer knows of each event.

    Attributes:
        rank_E: int64, rank of the chosen item, from 1 on.
        log_prob_E: float64, its log-probability in nats.
        recall_EK, ndcg_EK: float64, expected recall@k and nDCG@k for `KS`.
        entropy_E: float64, expected log-loss in nats.
    """

    rank_E: Int64
    log_prob_E: Float64
    recall_EK: Float64
    ndcg_EK: Float64
    entropy_E: Float64

    @classmethod
    def of(cls, prob_EI: Float64, item_E: Int64) -> "Known":
        """Of probabilities and the items that were chosen; equally probable items are in the order of the catalogue."""
        order_EI = np.argsort(-prob_EI, axis=1, kind="stable")
        rank_E = np.argmax(order_EI == item_E[:, None], axis=1) + 1
        sorted_EI = np.take_along_axis(prob_EI, order_EI, axis=1)
        gain_EI = sorted_EI / np.log2(np.arange(prob_EI.shape[1]) + 2)
        taken_E = prob_EI[np.arange(len(item_E)), item_E]
        entropy_EI = np.where(prob_EI > 0, -prob_EI * np.log(np.maximum(prob_EI, np.finfo(float).tiny)), 0.0)
        return cls(
            rank_E, np.log(taken_E),
            np.stack([sorted_EI[:, :k].sum(axis=1) for k in KS], axis=1),
            np.stack([gain_EI[:, :k].sum(axis=1) for k in KS], axis=1),
            entropy_EI.sum(axis=1),
        )  # fmt: skip

    def take(self, chosen_E: Int64 | Bool) -> "Known":
        """Some of the events."""
        return Known(*(getattr(self, field.name)[chosen_E] for field in fields(self)))

    def figures(self) -> dict[str, dict[str, float]]:
        """Means: `expected` ones over all that could have been chosen, and those of the items that were."""
        if not len(self.rank_E):
            return {}
        expected, drawn = dict[str, float](), dict[str, float]()
        for column, k in enumerate(KS):
            hit_E = self.rank_E <= k
            expected[f"recall@{k}"] = float(self.recall_EK[:, column].mean())
            expected[f"nDCG@{k}"] = float(self.ndcg_EK[:, column].mean())
            drawn[f"recall@{k}"] = float(hit_E.mean())
            drawn[f"nDCG@{k}"] = float((hit_E / np.log2(self.rank_E + 1)).mean())
        expected["log_loss"] = float(self.entropy_E.mean())
        drawn["log_loss"] = float(-self.log_prob_E.mean())
        return {"expected": expected, "drawn": drawn}

    def columns(self, prefix: str) -> dict[str, pl.Series]:
        """For a table, one row an event."""
        found = {"rank": pl.Series(self.rank_E), "log_prob": pl.Series(self.log_prob_E)}
        for column, k in enumerate(KS):
            found[f"expected_recall@{k}"] = pl.Series(self.recall_EK[:, column])
            found[f"expected_nDCG@{k}"] = pl.Series(self.ndcg_EK[:, column])
        found["expected_log_loss"] = pl.Series(self.entropy_E)
        return {f"{prefix}{name}": column for name, column in found.items()}


@dataclass(frozen=True)
class Bounds:
    """What is known by who sees the weather, and by who only knows how often it rains."""

    with_weather: Known
    without_weather: Known

    @classmethod
    def of(cls, seen_EI: Float64, blind_EI: Float64, item_E: Int64) -> "Bounds":
        """Of the probabilities with and without the weather."""
        return cls(Known.of(seen_EI, item_E), Known.of(blind_EI, item_E))

    @classmethod
    def concatenated(cls, parts: Sequence["Bounds"]) -> "Bounds":
        """All events of all parts."""
        return cls(*(
            Known(*(
                np.concatenate([getattr(getattr(part, kind), field.name) for part in parts]) for field in fields(Known)
            ))
            for kind in KINDS
        ))  # fmt: skip

    def take(self, chosen_E: Int64 | Bool) -> "Bounds":
        """Some of the events."""
        return Bounds(self.with_weather.take(chosen_E), self.without_weather.take(chosen_E))

    def figures(self) -> dict[str, dict[str, dict[str, float]]]:
        """See `Known.figures`, for each kind."""
        return {kind: getattr(self, kind).figures() for kind in KINDS}
