"""SASRec as RecTools has it, on a split given as CSV; runs in an environment of its own, without whereupon.

    python sasrec_rectools.py FOLDER

FOLDER holds `settings.json` (seeds, repeats, and the grid: hidden, layers, heads, dropout, learning_rate, length,
batch_size, max_epochs, patience of each trial), `train.csv` (user, item, time), and of each question of `valid` and
`test` what was before it, as `QUESTIONS.csv` (question, item, time); of validation also the answers, `valid-truth.csv`
(question, item), to stop by and to choose by. The first seed tries the whole grid, the others what was best.
Written: `ranked-SEED.csv` (question, item, rank), ten items a test question, and `trained-SEED.json`.

The loss is the softmax over all items. RecTools knows the items of its training data alone: others are left out of
histories and of rankings.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pytorch_lightning import Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

K = 10
NAMES = {"user": Columns.User, "question": Columns.User, "item": Columns.Item, "time": Columns.Datetime}


def main() -> None:
    """Train with every seed, and rank."""
    folder = Path(sys.argv[1])
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    train, valid, test = (_dataset(folder / f"{name}.csv") for name in ("train", "valid", "test"))
    truth = pd.read_csv(folder / "valid-truth.csv").set_index("question")["item"]
    new_only, grid = settings["repeats"] == "excluded", settings["grid"]
    for seed in settings["seeds"]:
        began = time.perf_counter()
        tried = [_train(train, valid, truth, one, new_only, seed) for one in grid]
        best = max(range(len(grid)), key=lambda at: tried[at][1]["validation_nDCG@10"])
        ranked = _rank(tried[best][0], test, new_only)[[Columns.User, Columns.Item, Columns.Rank]]
        ranked.set_axis(["question", "item", "rank"], axis=1).to_csv(folder / f"ranked-{seed}.csv", index=False)
        trials = [facts for _, facts in tried]
        facts = {**trials[best], "trials": trials, "wall_s": time.perf_counter() - began}
        (folder / f"trained-{seed}.json").write_text(json.dumps(facts), encoding="utf-8")
        print(f"RecTools, seed {seed}: {facts}", flush=True)
        grid = [grid[best]]


def _dataset(path: Path) -> Dataset:
    frame = pd.read_csv(path).rename(columns=NAMES)
    # Times are the order alone: RecTools sorts by them, and equal ones must keep theirs.
    frame[Columns.Datetime] = pd.to_datetime(frame[Columns.Datetime], unit="s")
    return Dataset.construct(frame.assign(**{Columns.Weight: 1.0}))


def _train(
    train: Dataset, valid: Dataset, truth: pd.Series, settings: dict[str, Any], new_only: bool, seed: int
) -> tuple[SASRecModel, dict[str, Any]]:
    """The model of the best epoch by nDCG@10 on validation, and how training went."""
    seed_everything(seed, verbose=False)
    model = SASRecModel(
        n_blocks=settings["layers"], n_heads=settings["heads"], n_factors=settings["hidden"],
        dropout_rate=settings["dropout"], session_max_len=settings["length"], loss="softmax",
        lr=settings["learning_rate"], batch_size=settings["batch_size"], get_trainer_func=_trainer,
    )  # fmt: skip
    best, kept, weights = -1.0, 0, {}
    ndcg_by_epoch: list[float] = []
    while len(ndcg_by_epoch) < settings["max_epochs"] and len(ndcg_by_epoch) - kept < settings["patience"]:
        model.fit_partial(train, min_epochs=1, max_epochs=1)
        ndcg_by_epoch.append(_ndcg(_rank(model, valid, new_only), truth))
        if ndcg_by_epoch[-1] > best:
            best, kept = ndcg_by_epoch[-1], len(ndcg_by_epoch)
            weights = copy.deepcopy(model.torch_model.state_dict())
    model.torch_model.load_state_dict(weights)
    epochs = {"epoch": kept, "num_epochs": len(ndcg_by_epoch)}
    return model, {"dropout": settings["dropout"], "validation_nDCG@10": best, **epochs}


def _trainer() -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", enable_checkpointing=False, deterministic=True, **quiet)


def _rank(model: SASRecModel, questions: Dataset, new_only: bool) -> pd.DataFrame:
    ids = questions.user_id_map.external_ids
    # Questions with no known item before them are left unanswered, which counts as a miss.
    return model.recommend(ids, questions, k=K, filter_viewed=new_only, on_unsupported_targets="ignore")


def _ndcg(ranked: pd.DataFrame, truth: pd.Series) -> float:
    hits = ranked[ranked[Columns.Item].to_numpy() == truth.loc[ranked[Columns.User]].to_numpy()]
    return sum(1 / math.log2(rank + 1) for rank in hits[Columns.Rank]) / len(truth)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")  # Lightning's advice on workers and loggers, once an epoch
    torch.set_num_threads(1)  # ours runs beside it
    main()
