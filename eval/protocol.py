"""Which events are predicted, and from what."""

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..histories import Histories
from .settings import EvaluatedSplit

__all__ = ["SPLIT_CODES", "evaluated_events", "num_previous", "sample_events"]

SPLIT_CODES: dict[EvaluatedSplit, int] = {"valid": 1, "test": 2}


def evaluated_events(histories: Histories, split: EvaluatedSplit) -> NDArray[np.int64]:
    """Rows of the events to predict: those of `split` whose user has at least one earlier event of any split.

    Each is predicted from the rows before it in its user's sequence, over the full catalogue.

    Returns:
        int64 [E], ascending rows of `histories.events`.

    Raises:
        DataError: there is no such event.
    """
    in_split_N = histories.split_E == SPLIT_CODES[split]
    row_E = np.flatnonzero(in_split_N & (num_previous(histories) > 0)).astype(np.int64)
    if not row_E.size:
        found = f"{int(in_split_N.sum())} events, each the first of its user" if in_split_N.any() else "no events"
        raise DataError(
            f"The {split} split should have events of users with a history but has {found}; "
            "change histories.split in the configuration and run `whereupon prepare` again."
        )
    return row_E


def num_previous(histories: Histories) -> NDArray[np.int64]:
    """Number of earlier events of the same user, for every event: int64 [N]."""
    start_N = histories.offset_U1[histories.user_idx_E]
    return np.arange(len(start_N), dtype=np.int64) - start_N


def sample_events(num_events: int, limit: int | None, seed: int) -> NDArray[np.int64]:
    """Positions of a uniform sample without replacement among `num_events` evaluated events, ascending: int64 [E].

    All of them if `limit` is None or not below `num_events`. The same seed and counts always give the same sample.
    """
    if limit is None or limit >= num_events:
        return np.arange(num_events, dtype=np.int64)
    chosen = np.random.default_rng(seed).choice(num_events, size=limit, replace=False)
    return np.sort(chosen).astype(np.int64)
