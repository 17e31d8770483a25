"""What one ranker said of some events: its first items, and where the true one stands."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["Rankings"]


@dataclass(frozen=True)
class Rankings:
    """What one ranker said of E events: its first K items, and where the true one stands.

    Attributes:
        row_E: int64 [E], rows of `Histories.events`, ascending.
        rank_E: int64 [E], rank of the true item among all candidates, from 1; 0: only known not to be among the
            first K.
        item_EK: int32 [E, K], item_idx, best first, -1 behind the last where there are fewer.
        score_EK: float64 [E, K], not increasing, -inf where the item is -1; higher is better. Log-probabilities for
            models.
        log_prob_E: float32 [E], log p(true item) in nats; None for rankers that are no distribution.
        exact_E: bool [E], whether the first K are proven to be the first K; None: all are.

    Raises:
        ValueError: shapes that do not go together, rows out of order.
    """

    row_E: NDArray[np.int64]
    rank_E: NDArray[np.int64]
    item_EK: NDArray[np.int32]
    score_EK: NDArray[np.float64]
    log_prob_E: NDArray[np.float32] | None = None
    exact_E: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        num_events = len(self.row_E)
        if self.rank_E.shape != (num_events,) or self.item_EK.shape[:1] != (num_events,) or self.item_EK.ndim != 2:
            raise ValueError(f"{num_events} rows, but ranks {self.rank_E.shape} and items {self.item_EK.shape}")
        if self.score_EK.shape != self.item_EK.shape:
            raise ValueError(f"items are {self.item_EK.shape}, but scores {self.score_EK.shape}")
        for name, value_E in {"log-probabilities": self.log_prob_E, "proofs": self.exact_E}.items():
            if value_E is not None and value_E.shape != (num_events,):
                raise ValueError(f"{num_events} rows, but {name} {value_E.shape}")
        if (np.diff(self.row_E) <= 0).any():
            raise ValueError("rows must ascend")
        if not np.isneginf(self.score_EK[self.item_EK < 0]).all():
            raise ValueError("where there is no item, the score must be -inf")
        if (self.score_EK[:, 1:] > self.score_EK[:, :-1]).any() or np.isnan(self.score_EK).any():
            raise ValueError("scores must not increase along a ranking, nor be NaN")

    @classmethod
    def of_lists(
        cls, row_E: NDArray[np.int64], rank_E: NDArray[np.int64], items: pl.Series, scores: pl.Series, k: int,
        log_prob_E: NDArray[np.float32] | None = None, exact_E: NDArray[np.bool_] | None = None,
    ) -> "Rankings":  # fmt: skip
        """From columns of lists of at most k items and their scores, best first."""
        item_EK = _matrix(items, k, -1).astype(np.int32)
        return cls(row_E, rank_E, item_EK, _matrix(scores, k, -np.inf), log_prob_E, exact_E)

    @property
    def k(self) -> int:
        """K, how many items are kept of each ranking."""
        return int(self.item_EK.shape[1])

    def take(self, chosen_E: NDArray[np.bool_] | NDArray[np.int64]) -> "Rankings":
        """Those of some events: a mask, or ascending positions."""
        log_prob_E = None if self.log_prob_E is None else self.log_prob_E[chosen_E]
        exact_E = None if self.exact_E is None else self.exact_E[chosen_E]
        lists = self.item_EK[chosen_E], self.score_EK[chosen_E]
        return Rankings(self.row_E[chosen_E], self.rank_E[chosen_E], *lists, log_prob_E, exact_E)


def _matrix(lists: pl.Series, k: int, empty: float) -> NDArray[np.float64]:
    """The reverse of `_lists`: float64 [E, K], filled up by `empty`."""
    count_E = lists.list.len().to_numpy()
    matrix_EK = np.full((len(lists), k), empty, np.float64)
    matrix_EK[np.arange(k) < count_E[:, None]] = lists.explode().drop_nulls().to_numpy()
    return matrix_EK
