"""Rows of the histories as questions: which are predicted, what came before them, and samples of them."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .candidates import EvaluatedSplit
from .splitting import CAVEATS
from .store import Histories

SPLIT_CODES: dict[EvaluatedSplit, int] = {"valid": 1, "test": 2}
STRETCH: Final = 8
"""Events of one user that a sample takes together: a model reads their history once for all of them.

On nyc-checkins a thousand single events need 86 % of the reading of all four thousand. Longer stretches save little
more, and add less information, as events of one user are alike.
"""


def caveat_of(histories: Histories) -> str:
    """The protocol and what to know before a figure of it is quoted; "" where it has no catch."""
    caveat = CAVEATS[histories.protocol]
    return f"{histories.protocol}: {caveat}" if caveat else ""


def evaluated_events(histories: Histories, split: EvaluatedSplit) -> NDArray[np.int64]:
    """Rows of the events to predict: those of `split` whose user has at least one earlier event of any split.

    Ascending rows of `histories.events`, int64 [N]. Raises DataError where there is no such event.
    """
    in_split_N = histories.split_N == SPLIT_CODES[split]
    row_N = np.flatnonzero(in_split_N & (num_previous(histories) > 0)).astype(np.int64)
    if not row_N.size:
        found = f"{int(in_split_N.sum())} events, each the first of its user" if in_split_N.any() else "no events"
        raise DataError(
            f"The {split} split should have events of users with a history but has {found}; "
            "change histories.split in the configuration and run `whereupon prepare` again."
        )
    return row_N


def num_previous(histories: Histories) -> NDArray[np.int64]:
    """Number of earlier events of the same user, for every event: int64 [N]."""
    start_N = histories.offset_U1[histories.user_idx_N]
    return np.arange(len(start_N), dtype=np.int64) - start_N


def sample_events(num_events: int, limit: int | None, seed: int) -> NDArray[np.int64]:
    """Positions of a uniform sample without replacement among `num_events` evaluated events, ascending: int64 [N].

    All of them if `limit` is None or not below `num_events`. The same seed and counts always give the same sample.
    """
    if limit is None or limit >= num_events:
        return np.arange(num_events, dtype=np.int64)
    chosen = np.random.default_rng(seed).choice(num_events, size=limit, replace=False)
    return np.sort(chosen).astype(np.int64)


def sample_stretches(user_N: NDArray[np.integer], limit: int | None, seed: int) -> NDArray[np.int64]:
    """Positions of a sample of evaluated events, ascending: int64 [E'], of which there are exactly `limit`.

    Each user's events are cut into stretches of STRETCH, the last of them shorter; whole stretches are drawn in random
    order, all equally likely, and the last one drawn is cut off where the sample is full. The events of a user are not
    independent, so that of a sample, too, only intervals and tests by users say how sure a figure is.

    `user_N` integers [N] says whose event it is; each user's events stand together. All of them if `limit` is None or
    not below E. The same seed and users always give the same sample.
    """
    if limit is None or limit >= len(user_N):
        return np.arange(len(user_N), dtype=np.int64)
    position_N = np.arange(len(user_N))
    is_first_N = np.concatenate([[True], user_N[1:] != user_N[:-1]])
    since_first_N = position_N - np.maximum.accumulate(np.where(is_first_N, position_N, 0))
    stretch_N = np.cumsum(since_first_N % STRETCH == 0) - 1
    turn_S = np.random.default_rng(seed).permutation(int(stretch_N[-1]) + 1)
    chosen = np.argsort(turn_S[stretch_N], kind="stable")[:limit]
    return np.sort(chosen).astype(np.int64)
