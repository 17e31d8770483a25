"""Is our SASRec as good as an independent one? The same splits, events, candidates and settings, RecTools beside ours.

    WHEREUPON_NYC_CHECKINS=<folder of the three files> python bench/sasrec_check.py [--cut-once] [--seeds 2]

Twenty minutes on two idle cores, one for each. On MovieLens-100K, where SASRec is at home, and on nyc-checkins, where
it is not; the latter is left out where the variable is not set. RecTools gets an environment of its own under --side,
made from bench/sasrec_requirements.txt where it is not there yet. It is given the training events, what was before each
question, and the answers of validation to stop by; not those of test. Each tries the same grid with the first seed,
takes what is best on validation and trains that with the other seeds, stops by the same rule on the same validation
events, and ranks for the same test events. Writes bench/results/sasrec_check.json; exits with 1 if on some data the
mean nDCG@10 of ours is below RecTools' by more than 5 %.

RecTools looks at no more than the last `length` steps of a user's training events, so users who have more are given to
it as several: it learns from the same steps as ours. But it has them in the same windows in each epoch, while ours are
cut anew; with --cut-once ours are the very same, and the result is bench/results/sasrec_check_cut_once.json. Items
without a training event it cannot rank; ours could.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from record import bar, record
from side import pins, run_beside, side_python

from whereupon.arrays import ragged
from whereupon.catalogue.settings import CatalogueSettings
from whereupon.eval import summarise
from whereupon.eval.protocol import Task, read_task
from whereupon.eval.ranked import rank
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories, HistoriesSettings, SplitSettings, prepare, read_histories
from whereupon.histories.candidates import EvaluatedSplit, Repeats
from whereupon.histories.questions import num_previous
from whereupon.rankers.sequences import SequenceSettings, Transitions, Watched, Windows
from whereupon.rankers.sequences_networks import SequenceRanker, Trained, train

HERE: Final = Path(__file__).parent
VARIABLE: Final = "WHEREUPON_NYC_CHECKINS"
GRID: Final = tuple(
    SequenceSettings(learning_rate=2e-3, dropout=dropout, max_epochs=60, patience=8) for dropout in (0.2, 0.5)
)
TOLERANCE: Final = 0.05
LIMITS: Final[Mapping[EvaluatedSplit, int]] = {"valid": 1500, "test": 5000}  # a sample of what is more than that
K: Final = 10

Int64 = NDArray[np.int64]
Facts = dict[str, Any]


@dataclass(frozen=True)
class _Data:
    """What both are compared on: as in the examples of the same names."""

    name: str
    settings: HistoriesSettings
    repeats: Repeats

    def tasks(self) -> tuple[Task, Task]:
        """The events to stop by, and those to compare on."""
        with tempfile.TemporaryDirectory() as run:
            prepare(self.settings, CatalogueSettings(), Path(run))
            histories = read_histories(Path(run))
        settings = EvaluateSettings(repeats=self.repeats)
        valid, test = (read_task(histories, split, settings, limit=limit) for split, limit in LIMITS.items())
        return valid, test


def main() -> int:
    """Train both on all data, compare; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2, help="how many trainings of each (default: %(default)s)")
    parser.add_argument("--side", type=Path, default=HERE.parent / "runs" / "sasrec-check", help="of RecTools")
    parser.add_argument("--cut-once", action="store_true", help="train ours on the very windows that RecTools has")
    args = parser.parse_args()
    python, seeds = side_python(args.side, "sasrec"), list(range(args.seeds))
    torch.set_num_threads(1)  # RecTools runs beside us
    with _cut_once() if args.cut_once else nullcontext():
        found = {data.name: compare(*data.tasks(), seeds, python, args.side / data.name) for data in _all_data()}
    bars = [_bar(name, facts["ours"], facts["rectools"]) for name, facts in found.items()]
    name = "sasrec_check_cut_once" if args.cut_once else "sasrec_check"
    settings = {"grid": [asdict(one) for one in GRID], "limits": dict(LIMITS), "requirements": pins("sasrec")}
    return record(name, seeds[0], bars, script="sasrec_check", data=found, **settings)


def _all_data() -> list[_Data]:
    movies = HistoriesSettings(recipe="movielens-100k", split=SplitSettings(train=0.8, valid=0.1))
    found = [_Data("movielens-100k", movies, "excluded")]
    if folder := os.environ.get(VARIABLE):
        split = SplitSettings(train=0.75, valid=0.05)
        found.append(
            _Data("nyc-checkins", HistoriesSettings(recipe="nyc-checkins", path=Path(folder), split=split), "allowed")
        )
    else:
        print(f"{VARIABLE} is not set: nyc-checkins is left out", file=sys.stderr)
    return found


@contextmanager
def _cut_once() -> Iterator[None]:
    """Each epoch's windows are those of `export`."""
    cut = Transitions.windows

    def the_same(self: Transitions, length: int, generator: np.random.Generator) -> Windows:
        return cut(self, length, np.random.default_rng(0))

    with patch.object(Transitions, "windows", the_same):
        yield


def compare(valid: Task, test: Task, seeds: list[int], python: Path, folder: Path) -> Facts:
    """What both are worth on one split: counts of events, and one row a seed."""
    export(valid, test, seeds, folder)
    with run_beside(python, "sasrec_rectools.py", folder) as rectools:
        mine = ours(valid, test, seeds)
    if rectools.returncode:
        raise subprocess.CalledProcessError(rectools.returncode, rectools.args)
    theirs = [answers(test, folder, seed) for seed in seeds]
    counts = {"num_valid": len(valid.row_E), "num_test": len(test.row_E), "repeats": test.candidates.repeats}
    return {**counts, "ours": mine, "rectools": theirs}


def export(valid: Task, test: Task, seeds: list[int], folder: Path) -> None:
    """Write all that `sasrec_rectools.py` is given, and nothing of the test events' own items."""
    folder.mkdir(parents=True, exist_ok=True)
    histories = valid.histories
    steps = Transitions.of(histories).windows(GRID[0].length, np.random.default_rng(0))
    _write(folder / "train.csv", "user", *_with_last(steps), histories)
    for task in (valid, test):
        past_E = num_previous(histories)[task.row_E]
        asked_X, row_X = ragged(task.row_E - past_E, past_E)
        _write(folder / f"{task.split}.csv", "question", task.row_E[asked_X], row_X, histories)
    truth = {"question": valid.row_E, "item": valid.true_item_E}
    pl.DataFrame(truth).write_csv(folder / "valid-truth.csv")
    content = {"seeds": seeds, "grid": [asdict(one) for one in GRID], "repeats": valid.candidates.repeats}
    (folder / "settings.json").write_text(json.dumps(content), encoding="utf-8")


def answers(task: Task, folder: Path, seed: int) -> Facts:
    """What RecTools' ranking of the test events is worth; an event that it did not rank is a miss."""
    ranked = pl.read_csv(folder / f"ranked-{seed}.csv")
    truth = pl.DataFrame({"question": task.row_E, "item": task.true_item_E.astype(np.int64)})
    rank_E = truth.join(ranked, ["question", "item"], "left", maintain_order="left")["rank"].fill_null(0).to_numpy()
    facts = json.loads((folder / f"trained-{seed}.json").read_text(encoding="utf-8"))
    unanswered = len(task.row_E) - ranked["question"].n_unique()
    return {"seed": seed, **_metrics(rank_E), **facts, "num_unanswered": unanswered}


def ours(valid: Task, test: Task, seeds: list[int]) -> list[Facts]:
    """The same as `sasrec_rectools.py`, with our network."""
    rows: list[Facts] = []
    grid = list(GRID)
    for seed in seeds:
        began = time.perf_counter()
        watched = Watched(valid.row_E, valid.candidates)
        tried = [train(valid.histories, one, seed, watched) for one in grid]
        best = max(range(len(grid)), key=lambda at: max(tried[at].ndcg_by_epoch))
        trials = [_trial(one, trained) for one, trained in zip(grid, tried, strict=True)]
        rank_E = rank(SequenceRanker(tried[best].reader), test, K).rank_E
        grid = [grid[best]]
        rows.append({"seed": seed, **_metrics(np.where(rank_E <= K, rank_E, 0)), **trials[best], "trials": trials,
                     "wall_s": time.perf_counter() - began})  # fmt: skip
        print(f"ours: {rows[-1]}", flush=True)
    return rows


def _trial(settings: SequenceSettings, trained: Trained) -> Facts:
    epochs = {"epoch": trained.epoch, "num_epochs": len(trained.ndcg_by_epoch)}
    return {"dropout": settings.dropout, "validation_nDCG@10": max(trained.ndcg_by_epoch), **epochs}


def _metrics(rank_E: Int64) -> dict[str, float]:
    # Recall and nDCG, and no mean rank: RecTools' rankings end after ten.
    return {name: value for name, value in summarise(rank_E).items() if name.startswith(("recall", "nDCG"))}


def _bar(name: str, rows: list[Facts], others: list[Facts]) -> dict[str, Any]:
    mine, other = (float(np.mean([row["nDCG@10"] for row in some])) for some in (rows, others))
    off = mine / other - 1
    text = (
        f"{name}: nDCG@10 of our SASRec ({mine:.4f}) over RecTools' ({other:.4f}), means of {len(rows)} seeds, less 1"
    )
    return bar(text, off, f">= -{TOLERANCE}", off >= -TOLERANCE)


def _with_last(steps: Windows) -> tuple[Int64, Int64]:
    """The number of the window and the row of every event of it, with the one that its last step leads to."""
    user_X, row_X = np.nonzero(steps.real_WL)[0], steps.row_WL[steps.real_WL]
    last_W = steps.next_WL[np.arange(len(steps.length_W)), steps.length_W - 1]
    user_X, row_X = np.concatenate([user_X, np.arange(len(last_W))]), np.concatenate([row_X, last_W])
    order_X = np.lexsort((row_X, user_X))
    return user_X[order_X], row_X[order_X]


def _write(path: Path, key: str, key_X: Int64, row_X: Int64, histories: Histories) -> None:
    """Rows stand for times: they are in the order of time within a user, and no two are equal."""
    pl.DataFrame({key: key_X, "item": histories.item_idx_N[row_X], "time": row_X}).write_csv(path)


if __name__ == "__main__":
    sys.exit(main())
