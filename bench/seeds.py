"""By how much do figures move with the seed of training? Goes on where it was stopped.

    python bench/seeds.py EXAMPLE [--seeds 7 8 9] [--ranker NAME ...] [--model]

For each baseline that chance has a part in (networks, factorisations): the settings that validation has chosen with the
example's own seed, fitted again with each seed, test split. With --model the fine-tuned model, too: trained with each
seed in a run folder of its own (runs/EXAMPLE-seed-SEED, the same prepared data), and evaluated there. On two cores the
baselines of flights-demo take two minutes and a model there 15, the baselines of nyc-checkins 20 minutes.

Writes bench/results/seeds_EXAMPLE.json: a row a ranker and seed, and of each ranker mean, standard deviation (n - 1)
and range of nDCG@10 over its seeds. No bound is set for the figures. Rows of baselines that are there are kept: remove
the file after changing a ranker.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import record
from ablation import prepare_copy, train_once
from rich.console import Console
from rich.table import Table

from whereupon.config import Config, load_config
from whereupon.errors import DataError
from whereupon.eval import FAMILIES, Task, read_task, summarise
from whereupon.eval.ranked import rank
from whereupon.eval.rankings import Rankings, evaluation_folder, finite
from whereupon.eval.run import evaluate_run_model
from whereupon.eval.tuning import tune
from whereupon.eval.wording import plain
from whereupon.files import read_object
from whereupon.histories import read_histories
from whereupon.rankers.settings import BaselineName

ROOT: Final = Path(__file__).parents[1]
RANDOM: Final[tuple[BaselineName, ...]] = ("ALS", "factorised transitions (FPMC)", "GRU4Rec", "SASRec", "SASRec + time")
MODEL: Final = "fine-tuned model"
METRIC: Final = "nDCG@10"


def main() -> int:
    """Fit and rank with every seed; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("example", metavar="EXAMPLE", help="a configuration in examples/, without its ending")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: the example's and the next two")
    parser.add_argument("--ranker", nargs="*", default=RANDOM, choices=RANDOM, metavar="NAME", help="these baselines")
    parser.add_argument("--model", action="store_true", help="the fine-tuned model as well")
    chosen = parser.parse_args()
    path = ROOT / "examples" / f"{chosen.example}.yaml"
    config = load_config(path)
    seeds = list(dict.fromkeys(chosen.seeds or range(config.seed, config.seed + 3)))
    prepare_copy(path, config, config.run)
    task = read_task(read_histories(config.run), "test", config.evaluate, seed=config.seed)
    name = f"seeds_{chosen.example}"
    known = _known(name, task)
    for ranker in chosen.ranker:
        settings = dict(tune(FAMILIES[ranker], task.histories, config.evaluate, config.seed, config.run).settings)
        for at in [at for at, row in known.items() if at[0] == ranker and row["settings"] != settings]:
            del known[at]  # of an earlier choice
        for seed in seeds:
            if (ranker, seed) not in known:
                known[ranker, seed] = _baseline(ranker, settings, task, config.evaluate.k, seed)
                _write(name, config, task, known)  # a killed run goes on
            _say(known[ranker, seed])
    for seed in seeds if chosen.model else []:
        known[MODEL, seed] = _model(path, config, seed)  # what is trained and answered there is read
        _write(name, config, task, known)
        _say(known[MODEL, seed])
    Console(highlight=False).print(_table(_summaries(known)))
    return _write(name, config, task, known)


def _baseline(ranker: BaselineName, settings: dict[str, Any], task: Task, k: int, seed: int) -> dict[str, Any]:
    """One baseline with one seed."""
    began = time.perf_counter()
    fitted = FAMILIES[ranker].ranker(task.histories, task.split, settings, seed, task.candidates.repeats)
    rankings = rank(fitted, task, k)
    return _row(ranker, seed, settings, rankings, time.perf_counter() - began)


def _model(path: Path, config: Config, seed: int) -> dict[str, Any]:
    """The model that is trained with a seed."""
    run = config.run if seed == config.seed else config.run.with_name(f"{config.run.name}-seed-{seed}")
    seeded = config.model_copy(update={"run": run, "seed": seed})
    prepare_copy(path, config, run)
    train_once(path, run, seed)
    task = read_task(read_histories(run), "test", seeded.evaluate, seed=seed)
    rankings, facts = evaluate_run_model(seeded, task, True, evaluation_folder(run, "test"))
    return _row(MODEL, seed, {"run": run.name}, rankings, float(facts["wall_s"]))


def _row(
    ranker: str, seed: int, settings: dict[str, Any], rankings: Rankings, wall_s: float
) -> dict[str, Any]:  # fmt: skip
    """`wall_s`: of fitting (of a model: not) and ranking."""
    metrics = finite(summarise(rankings.rank_E, rankings.log_prob_E))
    return {"ranker": ranker, "seed": seed, "settings": settings, "metrics": metrics, "wall_s": wall_s}


def _say(row: dict[str, Any]) -> None:
    print(f"{row['ranker']}, seed {row['seed']}: {METRIC} {row['metrics'][METRIC]:.4f}", file=sys.stderr, flush=True)


def _known(name: str, task: Task) -> dict[tuple[str, int], dict[str, Any]]:
    """Rows of an earlier call on the same events and candidates."""
    try:
        found = read_object(record.RESULTS / f"{name}.json")
    except DataError:
        return {}
    return {(row["ranker"], row["seed"]): row for row in found["rows"]} if found["task"] == task.hash else {}


def _write(name: str, config: Config, task: Task, known: dict[tuple[str, int], dict[str, Any]]) -> int:
    rows = list(known.values())
    return record.record(
        name, config.seed, [], script="seeds", task=task.hash, num_events=len(task.row_E), rows=rows,
        summaries=_summaries(known),
    )  # fmt: skip


def _summaries(known: dict[tuple[str, int], dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each ranker, best mean first."""
    found = []
    for ranker in dict.fromkeys(ranker for ranker, _ in known):
        values = np.array([row["metrics"][METRIC] for (one, _), row in known.items() if one == ranker])
        found.append({
            "ranker": ranker, "seeds": [seed for one, seed in known if one == ranker],
            "mean": float(values.mean()), "sd": float(values.std(ddof=1)) if len(values) > 1 else None,
            "min": float(values.min()), "max": float(values.max()),
        })  # fmt: skip
    return sorted(found, key=lambda one: -one["mean"])


def _table(summaries: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=f"{METRIC} by seed of training", title_justify="left", box=None)
    for head in ("ranker", "seeds", "mean", "SD", "lowest", "highest"):
        table.add_column(head, justify="left" if head == "ranker" else "right")
    for one in summaries:
        numbers = (plain(one[name], 4) for name in ("mean", "sd", "min", "max"))
        table.add_row(one["ranker"], str(len(one["seeds"])), *numbers)
    return table


if __name__ == "__main__":
    sys.exit(main())
