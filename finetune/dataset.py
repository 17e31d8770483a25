"""Training examples as an Arrow data set in the run folder: written once, memory-mapped by every process.

<run>/examples/KEY/    what `datasets.load_from_disk` opens; KEY is the fingerprint of all that the examples follow from

One row is a window: `tokens`, the branching decisions of its titles (`position` of the predicting token, `node` and
`edge` of the trie, or `decision` of the prior), how many `titles` it teaches, and the number of the training event
that it ends before.
"""

from __future__ import annotations

import json
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from .. import __version__
from ..arrays import Int64
from ..catalogue import Trie
from ..files import atomic_path, sha256_text
from ..histories import Histories
from ..prompts import PromptEncoder
from .on_top import TrainingPrior, trie_fingerprint
from .settings import FinetuneSettings
from .training_examples import Batch, TrainingExample, collate, make_examples

if TYPE_CHECKING:
    from datasets import Dataset

EXAMPLES: Final = "examples"
_LISTS: Final = {"tokens": "int32", "position": "int32", "node": "int32", "edge": "int32", "decision": "int64",
                 "weight": "float32"}  # fmt: skip
NUMBERS: Final = ("num_tokens", "num_decisions", "titles", "end")
_ROWS: Final = 1024  # written at once


@dataclass(frozen=True)
class Examples(TorchDataset[Batch]):
    """W windows of training events, memory-mapped; with int64 `length_W` tokens, `decisions_W` and
    `titles_W` of each, and `end_W`, the number of the training event that it ends before.
    `trie`: that of their decisions; None for the plain objective.

    Made for torch's DataLoader: an index is the windows (int64) of one batch.
    """

    dataset: Dataset
    length_W: Int64
    decisions_W: Int64
    titles_W: Int64
    end_W: Int64
    trie: Trie | None
    prior: TrainingPrior | None = None

    def __getitem__(self, windows: Int64) -> Batch:
        return collate(self.read(windows), self.trie, prior=self.prior)

    def __len__(self) -> int:
        return len(self.length_W)

    def read(self, windows: Int64) -> list[TrainingExample]:
        """The training examples of some windows, in their order."""
        tokens, positions, nodes, edges, decisions, weights = lists_of(self.dataset, _LISTS, windows)
        return [
            TrainingExample(
                tokens[row], positions[row].astype(np.int64), nodes[row].astype(np.int64), edges[row].astype(np.int64),
                num_titles, decisions[row] if self.prior is not None else None,
                weight_P=weights[row] if len(weights[row]) else None,
            )
            for row, num_titles in enumerate(self.titles_W[windows].tolist())
        ]  # fmt: skip

    def stream(self, batches: Sequence[Int64], workers: int, pinned: bool) -> Iterator[Batch]:
        """Each batch of windows in turn, read ahead by so many processes."""
        own = torch.Generator()  # else each loader takes a number out of the stream that dropout draws from
        loader = DataLoader(
            self, batch_size=None, sampler=list(batches), num_workers=workers, pin_memory=pinned, generator=own
        )
        with interrupt_deferred():
            found: Iterator[Batch] = iter(loader)
        return found


@contextmanager
def interrupt_deferred() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block. Python prints and drops one that comes in the middle of a fork.

    Processes that are forked meanwhile ignore Ctrl-C for good. The one that forked them ends them.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone may set handlers, and be interrupted
        yield
        return
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)
    if received:
        signal.raise_signal(signal.SIGINT)


def open_examples(
    run: Path, histories: Histories, encoder: PromptEncoder, identity: dict[str, Any],
    settings: FinetuneSettings, prior: TrainingPrior | None = None,
) -> Examples:  # fmt: skip
    """The examples of a run, written if they are not there. One process calls it first, see `main_process_first`.

    `identity` says what prompts are made of, see `decode.models.adapter_identity`. Raises what `make_examples` raises.
    """
    trie, key = encoder.catalogue.trie, prior.key if prior else None
    requested = settings.model_dump(mode="json", include={"teach", "objective", "weights"})
    what = [__version__, histories.data_hash, identity, trie_fingerprint(trie), requested, key, NUMBERS]
    folder = run / EXAMPLES / sha256_text(json.dumps(what, sort_keys=True))[:16]
    if (dataset := opened(folder)) is None:
        dataset = written(folder, _LISTS, map(_row, make_examples(histories, encoder, prior, settings)))
    known = None if settings.objective == "plain" else trie
    return Examples(dataset, *numbers_of(dataset), known, prior)


def forget_others(examples: Examples) -> None:
    """Remove the data sets that earlier settings of this run have left; only a training that holds the lock may."""
    [folder] = {Path(file["filename"]).parent for file in examples.dataset.cache_files}
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


def opened(folder: Path) -> Dataset | None:
    """What is there; None where it is missing or damaged, as it is soon written again."""
    from datasets import load_from_disk

    try:
        return load_from_disk(str(folder), keep_in_memory=False)
    except Exception:  # pyarrow and datasets raise many kinds
        return None


def written(folder: Path, lists: Mapping[str, str], rows: Iterator[dict[str, Any]]) -> Dataset:
    """Write rows of `NUMBERS` and of lists, whose values are of these types; the data set."""
    from datasets import Dataset, Features, List, Value, disable_progress_bars
    from datasets.arrow_writer import ArrowWriter

    features = Features({**{name: List(Value(kind)) for name, kind in lists.items()},
                         **{name: Value("int32") for name in NUMBERS}})  # fmt: skip
    disable_progress_bars()
    with atomic_path(folder) as path:
        raw = path.parent / "raw.arrow"  # in a private folder that goes away
        with ArrowWriter(path=str(raw), features=features) as writer:
            while some := list(islice(rows, _ROWS)):
                writer.write_batch({name: [row[name] for row in some] for name in features})
            writer.finalize()
        Dataset.from_file(str(raw)).save_to_disk(str(path))
    found = opened(folder)
    assert found is not None
    return found


def numbers_of(dataset: Dataset) -> tuple[Int64, Int64, Int64, Int64]:
    """The columns `NUMBERS`, int64 [W] each."""
    tokens, decisions, titles, end = (dataset.data.column(name).to_numpy().astype(np.int64) for name in NUMBERS)
    return tokens, decisions, titles, end


def lists_of(dataset: Dataset, names: Iterable[str], rows: Int64) -> list[list[NDArray[Any]]]:
    """For each of these columns the lists of some rows, in their order, as views of an Arrow table."""
    table = dataset.with_format("arrow")[rows.tolist()]
    return [_arrays(table.column(name)) for name in names]


def _row(one: TrainingExample) -> dict[str, Any]:
    none = np.empty(0, np.int64)
    return {
        "tokens": one.tokens_L, "position": one.position_P, "node": one.node_P, "edge": one.edge_P,
        "decision": none if one.decision_P is None else one.decision_P,
        "weight": none if one.weight_P is None else one.weight_P, "num_tokens": len(one.tokens_L),
        "num_decisions": len(one.position_P), "titles": one.num_titles, "end": one.end,
    }  # fmt: skip


def _arrays(column: Any) -> list[NDArray[Any]]:
    """The lists of a column of an Arrow table, as views of it."""
    [whole] = column.chunks if column.num_chunks == 1 else [column.combine_chunks()]
    offset, values = whole.offsets.to_numpy(), whole.values.to_numpy()
    return [values[start:end] for start, end in pairwise(offset)]
