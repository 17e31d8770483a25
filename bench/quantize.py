"""What does training on four bits cost, and what does it save? flights-demo, float32 LoRA against NF4 (QLoRA).

    python bench/quantize.py [--on-top] [--epochs E] [--limit N] [--quantize nf4 int8]

Takes the prepared data and the settings of examples/flights-demo.yaml, without `priors`, so that the model's own figure
is compared; with `--on-top` as the example is, on top of its rankers. Trains an adapter on the plain base model and one
on each quantized one, with the same seed, windows and number of steps and without early stopping, in run folders of
their own (runs/flights-demo-none, -nf4, -int8; with -on-top behind; a training that was killed goes on), and evaluates
each on the test split. The bytes of the weights are counted. About half an hour a model on two cores.

Writes bench/results/quantize.json or quantize_on_top.json; exits with 1 if a bar is missed. `--epochs 0.01 --limit 20`
tries it in minutes, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Final

import record
from ablation import prepare_copy, train_once

from whereupon.config import load_config
from whereupon.decode.models import load_base_model
from whereupon.decode.quantize import weight_bytes
from whereupon.eval import read_task, summarise
from whereupon.eval.rankings import evaluation_folder, finite
from whereupon.eval.run import evaluate_run_model
from whereupon.histories import read_histories

ROOT: Final = Path(__file__).parents[1]
EXAMPLE: Final = ROOT / "examples" / "flights-demo.yaml"
PLAIN: Final = "none"
WITHIN, SHARE = 0.01, 0.35


def main() -> int:
    """Train, evaluate, weigh; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=float, help="default: the example's")
    parser.add_argument("--limit", type=int, metavar="N", help="evaluate N events only")
    parser.add_argument("--on-top", action="store_true", help="train on top of the example's rankers")
    parser.add_argument("--quantize", nargs="+", default=["nf4"], choices=["nf4", "int8"])
    args = parser.parse_args()
    rows = [_measured(quantize, args.on_top, args.epochs, args.limit) for quantize in (PLAIN, *args.quantize)]
    bars = [one for row in rows[1:] for one in _bars(row, rows[0])]
    name = "quantize_on_top" if args.on_top else "quantize"
    return record.record(name, load_config(EXAMPLE).seed, bars, script="quantize", rows=rows, limit=args.limit)


def _overrides(quantize: str, on_top: bool, epochs: float | None) -> list[str]:
    found = [f"model.quantize={quantize}", "finetune.patience=1000", *([] if on_top else ["priors=none"])]
    return [*found, f"finetune.epochs={epochs}"] if epochs else found


def _measured(quantize: str, on_top: bool, epochs: float | None, limit: int | None) -> dict[str, Any]:
    """One training, unless it is done, and what it came to."""
    first, overrides = load_config(EXAMPLE), _overrides(quantize, on_top, epochs)
    run = first.run.with_name(f"{first.run.name}-{quantize}{'-on-top' * on_top}")
    config = load_config(EXAMPLE, [f"run={run}", *overrides])
    prepare_copy(EXAMPLE, first, run)
    began = time.perf_counter()
    train_once(EXAMPLE, run, first.seed, *overrides)
    seconds = time.perf_counter() - began
    task = read_task(read_histories(run), "test", config.evaluate, limit, config.seed)
    rankings, facts = evaluate_run_model(config, task, True, evaluation_folder(run, "test"))
    return {
        "quantize": quantize, "metrics": finite(summarise(rankings.rank_E, rankings.log_prob_E)),
        "events": len(rankings.rank_E), "training_s": round(seconds, 1), "evaluation_s": facts["wall_s"],
        "weight_bytes": weight_bytes(load_base_model(config.model)),
    }  # fmt: skip


def _bars(row: dict[str, Any], plain: dict[str, Any]) -> list[dict[str, Any]]:
    lost = plain["metrics"]["nDCG@10"] - row["metrics"]["nDCG@10"]
    share = row["weight_bytes"] / plain["weight_bytes"]
    name = row["quantize"]
    found = [record.bar(f"nDCG@10 that {name} loses against float32", lost, f"<= {WITHIN}", lost <= WITHIN)]
    if name == "nf4":
        found.append(record.bar("bytes of NF4 weights against float32", share, f"<= {SHARE}", share <= SHARE))
    return found


if __name__ == "__main__":
    sys.exit(main())
