"""Is our LightGCN as good as an independent one? The same edges, settings and candidates, RecBole beside ours.

    python bench/light_gcn_check.py [--seeds 3] [--one-core]

MovieLens-100K, leave one out: each person's last rating is for test, the one before for validation, all others are for
training; every rating is a choice. A seed took 9 to 17 minutes on a core that was shared. RecBole gets
an environment of its own under --side, made from bench/light_gcn_requirements.txt where it is not there yet. Both train
with the same settings by the same loss, stop by the same rule on validation, and rank for test all movies that the
person has not rated yet. Neither uses the rating of validation as part of a person's past, since RecBole has no way to.
What was trained with the same settings is kept under --side and not trained again: remove it after changing LightGCN.

Writes bench/results/light_gcn_check.json; exits with 1 if the mean recall@10 or nDCG@10 of ours is below RecBole's by
more than 5 %, or if our graph, given RecBole's trained vectors, passes on other vectors of items than RecBole does.

In our product, items that a user chose after the training count, too: see `light_gcn`. What they bring stands beside.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from record import bar, record
from side import pins, run_beside, side_python

from whereupon.arrays import Float64, Int64
from whereupon.catalogue.settings import CatalogueSettings
from whereupon.eval import summarise
from whereupon.eval.protocol import Task
from whereupon.eval.ranked import rank
from whereupon.files import read_object, sha256_text, write_json
from whereupon.histories import Histories, HistoriesSettings, SplitSettings, prepare, read_histories
from whereupon.histories.candidates import Candidates, EvaluatedSplit
from whereupon.histories.questions import evaluated_events
from whereupon.rankers.light_gcn import Graph, GraphRanker, GraphSettings, GraphVectors, graph_users, positions
from whereupon.rankers.light_gcn_training import Network, train
from whereupon.rankers.protocol import Dense
from whereupon.rankers.sequences import Watched
from whereupon.rankers.user_history import past_sums

HERE: Final = Path(__file__).parent
PARTS: Final = ("train", "valid", "test")
SETTINGS: Final = GraphSettings(layers=2, max_epochs=150, patience=12)
TOLERANCE: Final = 0.05
APART: Final = 1e-4  # of the longest vector: float32, summed in another order
K: Final = 10
METRICS: Final = ("recall@10", "nDCG@10")

Facts = dict[str, Any]


@dataclass(frozen=True)
class OfTraining:
    """Ranks by a user's own vector and the items of the training events alone."""

    vectors: GraphVectors
    user_ids: list[str]

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        """See `Ranker.on`."""

        def weigh(row_X: Int64, past_X: Int64) -> Float64:
            return (histories.split_N[past_X] == 0).astype(np.float64)

        position_U = positions(self.user_ids, histories)

        def scores(row_Q: Int64) -> Float64:
            own_QI = self.vectors.own_scores(position_U[histories.user_idx_N[row_Q]])
            found_QI: Float64 = self.vectors.scores_of(past_sums(histories, row_Q, weigh)) + own_QI
            return found_QI

        return Dense(scores)


def main() -> int:
    """Train both, compare; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how many trainings of each (default: %(default)s)")
    parser.add_argument("--side", type=Path, default=HERE.parent / "runs" / "light_gcn-check", help="of RecBole")
    parser.add_argument("--one-core", action="store_true", help="train ours when RecBole has ended")
    args = parser.parse_args()
    python, seeds = side_python(args.side, "light_gcn"), list(range(args.seeds))
    torch.set_num_threads(1)  # RecBole runs beside us
    histories = read_movielens()
    folder = args.side / sha256_text(json.dumps([asdict(SETTINGS), histories.data_hash], sort_keys=True))[:12]
    export(histories, seeds, folder)
    with run_beside(python, "light_gcn_recbole.py", folder) as recbole:
        if args.one_core:
            recbole.wait()
        mine = ours(histories, seeds, folder)
    if recbole.returncode:
        raise subprocess.CalledProcessError(recbole.returncode, recbole.args)
    theirs = [read_object(folder / f"trained-{seed}.json") for seed in seeds]
    gap = max(passed_apart(histories, dict(np.load(folder / f"vectors-{seed}.npz"))) for seed in seeds)
    bars = [*(quality_bar(name, mine, theirs) for name in METRICS), passing_bar(gap)]
    counts = {part: int((histories.split_N == code).sum()) for code, part in enumerate(PARTS)}
    return record("light_gcn_check", seeds[0], bars, events=counts, settings=asdict(SETTINGS), ours=mine,
                  recbole=theirs, requirements=pins("light_gcn"))  # fmt: skip


def read_movielens() -> Histories:
    """Ratings of all people, leave one out."""
    settings = HistoriesSettings(recipe="movielens-100k", split=SplitSettings(protocol="leave_one_out"))
    with tempfile.TemporaryDirectory() as run:
        prepare(settings, CatalogueSettings(), Path(run))
        return read_histories(Path(run))


def export(histories: Histories, seeds: list[int], folder: Path) -> None:
    """Write all that `light_gcn_recbole.py` is given."""
    edges = folder / "edges"
    edges.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame({"user_id:token": histories.user_idx_N, "item_id:token": histories.item_idx_N})
    for code, part in enumerate(PARTS):
        chosen = frame.filter(pl.Series(histories.split_N == code))
        chosen.write_csv(edges / f"edges.{part}.inter", separator="\t")
    names = ("hidden", "layers", "learning_rate", "penalty", "batch_size", "max_epochs", "patience")
    content = {"seeds": seeds, **{name: getattr(SETTINGS, name) for name in names}}
    (folder / "settings.json").write_text(json.dumps(content), encoding="utf-8")


def candidates_of(histories: Histories) -> Candidates:
    """Every movie that the person has not rated before, whatever its year: as RecBole has it."""
    return Candidates(histories, "excluded")


def ours(histories: Histories, seeds: list[int], folder: Path) -> list[Facts]:
    """The same as `light_gcn_recbole.py`, with our network."""
    for seed in seeds:
        path = folder / f"ours-{seed}.json"
        if not path.is_file():
            write_json(path, trained(histories, seed))
            print(f"ours, seed {seed}: {read_object(path)}", flush=True)
    return [read_object(folder / f"ours-{seed}.json") for seed in seeds]


def trained(histories: Histories, seed: int) -> Facts:
    """Metrics of our network, by the items of training alone and with the item of validation."""
    began, candidates = time.perf_counter(), candidates_of(histories)
    watched = Watched(evaluated_events(histories, "valid"), candidates)
    task = Task(histories, "test", evaluated_events(histories, "test"), candidates)
    vectors, user_ids = train(histories, SETTINGS, seed, watched), graph_users(histories)
    of_training = OfTraining(vectors, user_ids)
    found, whole = (
        summarise(rank(ranker, task, K).rank_E) for ranker in (of_training, GraphRanker(vectors, user_ids, None, 0.0))
    )
    with_valid = {f"{name} with the rating of validation": whole[name] for name in METRICS}
    best = watched.ndcg_at_10(of_training.on(histories, "valid").scores)
    metrics = {name: found[name] for name in METRICS}
    return {**metrics, **with_valid, "validation_nDCG@10": best, "wall_s": time.perf_counter() - began}


def passed_apart(histories: Histories, theirs: dict[str, NDArray[Any]]) -> float:
    """How far our vectors of items are from RecBole's at most, both passed on from RecBole's kept vectors, divided by
    the length of the longest of these."""
    graph = Graph.of(histories, None)
    if len(theirs["user_ids"]) != graph.num_users:
        raise ValueError(f"expected {graph.num_users} users of RecBole, found {len(theirs['user_ids'])}")
    item_ID = np.zeros((graph.num_items, SETTINGS.hidden), np.float32)  # items without an event are not in its files
    item_ID[theirs["item_ids"]] = theirs["item_id_kept"]
    network = Network.of(graph, SETTINGS)
    with torch.no_grad():
        network.start_VD.copy_(torch.from_numpy(np.concatenate([theirs["user_id_kept"], item_ID])))
        passed_ID = network.vectors()[2].numpy()[theirs["item_ids"]]
    longest = np.linalg.norm(theirs["item_id_passed"], axis=1).max()
    return float(np.abs(passed_ID - theirs["item_id_passed"]).max() / longest)


def quality_bar(name: str, rows: list[Facts], others: list[Facts]) -> Facts:
    """Our mean over RecBole's, less 1."""
    mine, other = (float(np.mean([row[name] for row in some])) for some in (rows, others))
    off = mine / other - 1
    text = f"{name} of our LightGCN ({mine:.4f}) over RecBole's ({other:.4f}), means of {len(rows)} seeds, less 1"
    return bar(text, off, f">= -{TOLERANCE}", off >= -TOLERANCE)


def passing_bar(gap: float) -> Facts:
    """Our graph's vectors of items against RecBole's."""
    text = "vectors of items that our graph passes on of RecBole's trained ones, off by, of the longest"
    return bar(text, gap, f"<= {APART:g}", gap <= APART)


if __name__ == "__main__":
    sys.exit(main())
