"""Which events are predicted, and from what."""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..files import sha256_text
from .candidates import Candidates, EvaluatedSplit, Repeats
from .splitting import CAVEATS
from .store import Histories

__all__ = [
    "SPLIT_CODES", "STRETCH", "Task", "caveat_of", "evaluated_events", "num_previous", "read_task", "sample_events",
    "sample_stretches",
]  # fmt: skip

SPLIT_CODES: dict[EvaluatedSplit, int] = {"valid": 1, "test": 2}
STRETCH: Final = 8
"""Events of one user that a sample takes together: a model reads their past once for all of them.

On nyc-checkins a thousand single events need 86 % of the reading of all four thousand. Longer stretches save little
more, and tell less, as events of one user are alike.
"""


class WithRepeats(Protocol):
    """Settings, or candidates, that say whether a user's own past items may be ranked."""

    @property
    def repeats(self) -> Repeats: ...


@dataclass(frozen=True)
class Task:
    """Which events are predicted, and from which items; the same for every ranker.

    Attributes:
        histories: what is predicted from: of the event's own user the rows before it, of others what is strictly
            earlier in time.
        split: "valid" or "test".
        row_E: int64 [E], the rows of `histories.events` to be predicted, ascending.
        candidates: the items that may be ranked.
        num_without: how many events are left out because their true item is no candidate.
    """

    histories: Histories
    split: EvaluatedSplit
    row_E: NDArray[np.int64]
    candidates: Candidates
    num_without: int = 0

    @property
    def true_item_E(self) -> NDArray[np.int32]:
        """The item that each event was of: int32 [E]."""
        return self.histories.item_idx_E[self.row_E]

    @property
    def hash(self) -> str:
        """Fingerprint: two rankings may be compared event by event exactly if they are of tasks of one hash."""
        histories, rows = self.histories, ",".join(map(str, self.row_E.tolist()))
        parts = [histories.data_hash, histories.catalogue_hash, self.split, self.candidates.repeats, rows]
        return sha256_text("\n".join(parts))


def caveat_of(histories: Histories) -> str:
    """The protocol and what to know before a figure of it is quoted; "" where it has no catch."""
    caveat = CAVEATS[histories.protocol]
    return f"{histories.protocol}: {caveat}" if caveat else ""


def read_task(
    histories: Histories, split: EvaluatedSplit, settings: WithRepeats, limit: int | None = None, seed: int = 0
) -> Task:
    """The task of `evaluate`: events of `split` whose user has a past and whose item is a candidate, or some of them.

    Args:
        histories: as prepared.
        split: whose events are predicted.
        settings: `repeats` is heeded.
        limit: a sample of so many events, see `sample_stretches`; None: all.
        seed: of the sample.

    Raises:
        DataError: no event is left to predict.
    """
    row_E = evaluated_events(histories, split)
    candidates = Candidates.of(histories, settings.repeats)
    held_E = candidates.holds(row_E, histories.item_idx_E[row_E])
    if not held_E.any():
        raise DataError(
            f"The {split} split should have events whose item is a candidate but none of its {len(row_E):,} is one; "
            "set evaluate.repeats: allowed, or correct the items' available_from and run `whereupon prepare` again."
        )
    kept_E = row_E[held_E]
    chosen_E = kept_E[sample_stretches(histories.user_idx_E[kept_E], limit, seed)]
    return Task(histories, split, chosen_E, candidates, num_without=len(row_E) - len(kept_E))


def evaluated_events(histories: Histories, split: EvaluatedSplit) -> NDArray[np.int64]:
    """Rows of the events to predict: those of `split` whose user has at least one earlier event of any split.

    Each is predicted from the rows before it in its user's sequence.

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


def sample_stretches(user_E: NDArray[np.integer], limit: int | None, seed: int) -> NDArray[np.int64]:
    """Positions of a sample of evaluated events, ascending: int64 [E'], of which there are exactly `limit`.

    Each user's events are cut into stretches of STRETCH, the last of them shorter; whole stretches are drawn in random
    order, all equally likely, and the last one drawn is cut off where the sample is full. The events of a user are not
    independent, so that of a sample, too, only intervals and tests by users say how sure a figure is.

    Args:
        user_E: integers [E], whose event it is; each user's events stand together.
        limit: how many; None, or not below E: all.
        seed: the same seed and users always give the same sample.
    """
    if limit is None or limit >= len(user_E):
        return np.arange(len(user_E), dtype=np.int64)
    position_E = np.arange(len(user_E))
    is_first_E = np.concatenate([[True], user_E[1:] != user_E[:-1]])
    since_first_E = position_E - np.maximum.accumulate(np.where(is_first_E, position_E, 0))
    stretch_E = np.cumsum(since_first_E % STRETCH == 0) - 1
    turn_S = np.random.default_rng(seed).permutation(int(stretch_E[-1]) + 1)
    chosen = np.argsort(turn_S[stretch_E], kind="stable")[:limit]
    return np.sort(chosen).astype(np.int64)
