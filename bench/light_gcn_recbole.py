"""LightGCN as RecBole has it, on a split given as files; runs in an environment of its own, without whereupon.

    python light_gcn_recbole.py FOLDER

FOLDER holds `settings.json` (seeds, hidden, layers, learning_rate, penalty, batch_size, max_epochs, patience) and
`edges/edges.PART.inter`, RecBole's format of interactions, for the parts train, valid and test. Each seed trains on
train, stops by nDCG@10 on valid, and ranks for test all items that the user has in no other part. Written:
`trained-SEED.json`, the metrics on test and how training went, and `vectors-SEED.npz`: the vectors of users and items,
as they are kept and as they are passed on along the edges, in the order of the tokens.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import LightGCN
from recbole.trainer import Trainer
from recbole.utils import init_seed

PARTS = ["train", "valid", "test"]


def main() -> None:
    """Train with every seed, and measure."""
    folder = Path(sys.argv[1]).absolute()
    os.chdir(folder)  # where RecBole writes logs
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    for seed in settings["seeds"]:
        if (folder / f"trained-{seed}.json").is_file():  # by an earlier run of the same settings
            continue
        began = time.perf_counter()
        facts, vectors = _train(folder, settings, seed)
        np.savez(folder / f"vectors-{seed}.npz", **vectors)
        facts["wall_s"] = time.perf_counter() - began
        (folder / f"trained-{seed}.json").write_text(json.dumps(facts), encoding="utf-8")
        print(f"RecBole, seed {seed}: {facts}", flush=True)


def _config(folder: Path, settings: dict[str, Any], seed: int) -> Config:
    content = {
        "data_path": str(folder), "dataset": "edges", "benchmark_filename": PARTS,
        "load_col": {"inter": ["user_id", "item_id"]}, "checkpoint_dir": str(folder), "use_gpu": False,
        "seed": seed, "reproducibility": True, "show_progress": False, "state": "WARNING",
        "embedding_size": settings["hidden"], "n_layers": settings["layers"],
        # The penalty as in the paper: squared lengths, where RecBole's own default is lengths.
        "reg_weight": settings["penalty"], "require_pow": True, "learning_rate": settings["learning_rate"],
        "train_batch_size": settings["batch_size"], "eval_batch_size": 1_000_000, "metrics": ["Recall", "NDCG"],
        "topk": [10], "valid_metric": "NDCG@10", "eval_args": {"order": "RO", "group_by": "user", "mode": "full"},
    }  # fmt: skip
    return Config(model="LightGCN", config_dict=content)


def _train(folder: Path, settings: dict[str, Any], seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metrics on test of the best epoch by nDCG@10 on validation, how training went, and the vectors."""
    config = _config(folder, settings, seed)
    init_seed(seed, reproducibility=True)
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    model = LightGCN(config, train.dataset)
    trainer = Trainer(config, model)
    best, kept, weights = -1.0, 0, {}
    ndcg_by_epoch: list[float] = []
    while len(ndcg_by_epoch) < settings["max_epochs"] and len(ndcg_by_epoch) - kept < settings["patience"]:
        trainer._train_epoch(train, len(ndcg_by_epoch), show_progress=False)
        ndcg_by_epoch.append(float(trainer.evaluate(valid, load_best_model=False)["ndcg@10"]))
        if ndcg_by_epoch[-1] > best:
            best, kept = ndcg_by_epoch[-1], len(ndcg_by_epoch)
            weights = copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)
    model.restore_user_e = model.restore_item_e = None  # which it keeps until it is trained on
    found = trainer.evaluate(test, load_best_model=False)
    metrics = {"recall@10": float(found["recall@10"]), "nDCG@10": float(found["ndcg@10"])}
    epochs = {"validation_nDCG@10": best, "epoch": kept, "num_epochs": len(ndcg_by_epoch)}
    return {**metrics, **epochs}, _vectors(model, dataset)


@torch.no_grad()
def _vectors(model: LightGCN, dataset: Any) -> dict[str, np.ndarray]:
    """In the order of tokens, which are numbers; row 0 of RecBole's own stands for no user or item."""
    passed_user, passed_item = model()
    found = {}
    for field, kept, passed in (
        ("user_id", model.user_embedding.weight, passed_user),
        ("item_id", model.item_embedding.weight, passed_item),
    ):
        token = dataset.id2token(field, np.arange(1, dataset.num(field))).astype(np.int64)
        order = np.argsort(token)
        found[f"{field}s"] = token[order]
        found[f"{field}_kept"], found[f"{field}_passed"] = (one[1:].numpy()[order] for one in (kept, passed))
    return found


if __name__ == "__main__":
    warnings.filterwarnings("ignore")  # RecBole's, of pandas and of torch
    torch.set_num_threads(1)
    main()
