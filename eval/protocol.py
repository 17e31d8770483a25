"""Which events a ranker is judged by, and which items it may rank."""

from dataclasses import dataclass

from ..arrays import Int32, Int64
from ..errors import DataError
from ..files import sha256_text
from ..histories import Histories
from ..histories.candidates import Candidates, EvaluatedSplit
from ..histories.questions import evaluated_events, sample_stretches
from .settings import EvaluateSettings


@dataclass(frozen=True)
class Task:
    """Which events are predicted, and from which items; the same for every ranker.

    `row_E`, int64 [E], are the rows of `histories.events` to be predicted, ascending: of the event's own user from the
    rows before it, of others from what is strictly earlier in time. `candidates` are the items that may be ranked;
    `num_without` events are left out because their true item is none.
    """

    histories: Histories
    split: EvaluatedSplit
    row_E: Int64
    candidates: Candidates
    num_without: int = 0

    @property
    def true_item_E(self) -> Int32:
        """The item that each event was of: int32 [E]."""
        return self.histories.item_idx_N[self.row_E]

    @property
    def hash(self) -> str:
        """Fingerprint: two rankings may be compared event by event exactly if they are of tasks of one hash."""
        histories, rows = self.histories, ",".join(map(str, self.row_E.tolist()))
        parts = [histories.data_hash, histories.catalogue_hash, self.split, self.candidates.repeats, rows]
        return sha256_text("\n".join(parts))


def read_task(
    histories: Histories, split: EvaluatedSplit, settings: EvaluateSettings, limit: int | None = None, seed: int = 0
) -> Task:
    """The task of `evaluate`: events of `split` with a history and with an item that is a candidate, or some.

    Of `settings`, `repeats` is heeded. With `limit` it is a sample of so many events, see `sample_stretches`.

    Raises:
        DataError: no event is left to predict.
    """
    row_E = evaluated_events(histories, split)
    candidates = Candidates.of(histories, settings.repeats)
    held_E = candidates.holds(row_E, histories.item_idx_N[row_E])
    if not held_E.any():
        raise DataError(
            f"None of the {len(row_E):,} events of the {split} split has an item that is a candidate; "
            "set evaluate.repeats: allowed, or correct the items' available_from and run `whereupon prepare` again."
        )
    kept_E = row_E[held_E]
    chosen_E = kept_E[sample_stretches(histories.user_idx_N[kept_E], limit, seed)]
    return Task(histories, split, chosen_E, candidates, num_without=len(row_E) - len(kept_E))
