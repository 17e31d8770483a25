"""What does a choice of the fine-tuning or of the prompt bring, if every variant may train for the same time?

    make bench-trainings ARGS="objectives|designs [EXAMPLE] [--from RUN] [--minutes 4] [--events 250] [--only NAME ...]"

`objectives`: the loss, teaching repeated events once or in every window, temperatures, and a preference stage. The
model is alone (priors: none). `designs`: prompts, on top of the rankers of `priors`. The first variant is the one that
the others are compared with.

All variants train for `--minutes` on this machine: epochs follow from the tokens/s that `finetune --estimate` measures,
once for the variants whose steps are alike. A preference stage starts from an adapter that was trained for two thirds
of the time; a small first stage measures how many events fit into the last third. Each variant is scored on the same
events of the validation split. Differences are paired, with intervals and p-values over users (Holm).

Writes bench/results/trainings_SET.json. A variant that was trained or scored before in runs/trainings is read.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, TypeVar

from record import bar, record

from whereupon.arrays import Float64
from whereupon.config import Config, load_config
from whereupon.decode.adapters import ADAPTERS, current_name
from whereupon.eval.metrics import evaluate_rankings
from whereupon.eval.rankings import evaluation_folder, read_rankings, slugs_in
from whereupon.eval.run import evaluate
from whereupon.eval.significance import compare
from whereupon.files import read_object, write_json
from whereupon.finetune.estimate import estimate
from whereupon.finetune.progress import read_steps
from whereupon.finetune.train import train_adapter
from whereupon.histories import read_histories

ROOT: Final = Path(__file__).parents[1]
METRICS: Final = ("nDCG@10", "log-loss")
T = TypeVar("T")
STAGE_SHARE, PILOT_EVENTS = 1 / 3, 20


@dataclass(frozen=True)
class Variant:
    """Settings that differ from the example's; `stage`: of a second training, from the adapter of the first."""

    name: str
    settings: tuple[str, ...] = ()
    stage: tuple[str, ...] = ()


SETS: Final = {
    "objectives": (
        Variant("catalogue loss"),
        Variant("plain loss", ("finetune.objective=plain",)),
        Variant("taught once", ("finetune.teach=once",)),
        Variant("temperature 0.5", ("finetune.temperature=0.5",)),
        Variant("temperature 2.5", ("finetune.temperature=2.5",)),
        Variant("temperature learnt", ("finetune.temperature=learnt",)),
        Variant("recency weights", ("finetune.weights.half_life_days=60",)),
        Variant("inverse popularity weights", ("finetune.weights.popularity_power=0.5",)),
        Variant("softmax-DPO stage", stage=("finetune.objective=softmax_dpo", "finetune.learning_rate=1e-4")),
        Variant("policy-gradient stage", stage=("finetune.objective=policy_gradient", "finetune.learning_rate=1e-4")),
    ),
    "designs": (
        Variant("checkins, 1536 tokens"),
        Variant("places, 1536 tokens", ("prompts.template=places",)),
        Variant("checkins, 1024 tokens", ("prompts.budget_tokens=1024",)),
        Variant("checkins, 512 tokens", ("prompts.budget_tokens=512", "prompts.profile_tokens=128")),
        Variant("checkins, 256 tokens", ("prompts.budget_tokens=256", "prompts.profile_tokens=64")),
        Variant("terse, 1536 tokens", ("prompts.template=terse",)),
        Variant("checkins with what others did", ("prompts.similar_tokens=128",)),
    ),
}  # fmt: skip
COMMON: Final = {"objectives": ("priors=none",), "designs": ()}


def main() -> int:
    """Train and score the variants, compare, and the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=list(SETS))
    parser.add_argument("example", nargs="?", default="nyc-checkins", help="a configuration of examples/")
    parser.add_argument("--from", dest="run", type=Path, metavar="RUN", help="prepared run; default: the example's")
    parser.add_argument("--minutes", type=float, default=4.0, help="of training, each variant")
    parser.add_argument("--events", type=int, default=250, help="of the validation split that are scored")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants, beside the first")
    given = parser.parse_args()
    variants = [
        one for number, one in enumerate(SETS[given.set]) if not (number and given.only and one.name not in given.only)
    ]
    folder = ROOT / "runs" / "trainings" / f"{given.example}-{given.set}"
    source = given.run or load_config(ROOT / "examples" / f"{given.example}.yaml").run
    rows, values, rate = [], dict[str, dict[str, Float64]](), None
    for variant in variants:
        made = _Made(given.set, given.example, variant, folder, source, given.minutes * 60)
        row = made.trained(rate)
        rate = rate or row["tokens_per_s"]
        figures, user_E = scored(made.config(), given.events)
        values[variant.name] = figures
        rows.append({"variant": variant.name, "settings": [*variant.settings, *variant.stage], **row}
                    | {name: float(found.mean()) for name, found in figures.items()})  # fmt: skip
        print(rows[-1], flush=True)
    first = variants[0].name
    table = compare(values, user_E, baseline=first, seed=7) if len(variants) > 1 else None
    for row in rows[1:] if table is not None else []:
        for one in table.filter(table["ranker"] == row["variant"]).iter_rows(named=True):
            keys = ("difference", "low", "high", "p_holm")
            row |= {f"{one['metric']} {key}": one[key] for key in keys}
    best = min(rows, key=lambda row: row["log-loss"])
    bars = [bar(f"variants compared with {first} on {len(user_E)} events", len(rows) - 1,
                f">= {len(SETS[given.set]) - 1}", len(rows) == len(SETS[given.set]))]  # fmt: skip
    return record(f"trainings_{given.set}", 7, bars, script="trainings", example=given.example, minutes=given.minutes,
                  split="valid", events=len(user_E), best_log_loss=best["variant"], variants=rows)  # fmt: skip


@dataclass(frozen=True)
class _Made:
    """One variant in a run folder of its own; `budget_s`: seconds of training."""

    which: str
    example: str
    variant: Variant
    folder: Path
    source: Path
    budget_s: float

    @property
    def run(self) -> Path:
        return self.folder / "".join(char if char.isalnum() else "-" for char in self.variant.name)

    def config(self, *more: str, run: Path | None = None) -> Config:
        """The example's with the variant's settings, one validation of few events at the end of the training."""
        fixed = ("finetune.validations_per_epoch=0", "finetune.validation_events=20", "finetune.log_every=1000000",
                 "evaluate.baselines=[]")  # fmt: skip
        return load_config(
            ROOT / "examples" / f"{self.example}.yaml",
            [f"run={run or self.run}", *fixed, *COMMON[self.which], *self.variant.settings, *more],
        )

    def trained(self, rate: float | None) -> dict[str, Any]:
        """Train what is not trained yet. `rate`: tokens/s of the first variant, used where the steps are alike."""
        done = self.run / "trained.json"
        if done.is_file():
            return read_object(done)
        for name in ("histories", "priors"):
            if (self.source / name).is_dir() and not (self.run / name).is_dir():
                shutil.copytree(self.source / name, self.run / name)
        seconds_for = self.budget_s * (1 - STAGE_SHARE if self.variant.stage else 1)
        found = in_process(estimate, self.config("finetune.epochs=1"))
        alike = rate is not None and "finetune.objective=plain" not in self.variant.settings
        tokens_per_s = rate if alike and rate else found.tokens_per_s
        epochs = seconds_for * tokens_per_s / found.num_tokens
        whole_s = self._train(f"finetune.epochs={epochs}")
        steps_s = epochs * found.num_tokens / _rate(self.run)
        row = {"tokens_per_s": tokens_per_s, "epochs": epochs, "steps_s": steps_s}
        if self.variant.stage:
            row |= self._stage(self.budget_s * STAGE_SHARE, whole_s - steps_s)
        write_json(done, row)
        return row

    def _stage(self, seconds: float, fixed_s: float) -> dict[str, Any]:
        """The second training, of as many events as fit into `seconds`, what the first adapter ranks included.

        `fixed_s`: what a training takes for loading and validation.
        """
        start = current_name(self.run)
        pilot = self.run.with_name(f"{self.run.name}-pilot")
        shutil.rmtree(pilot, ignore_errors=True)
        shutil.copytree(self.run, pilot)
        stage = (*self.variant.stage, "finetune.epochs=1")
        took = self._train(*stage, f"finetune.preference.events={PILOT_EVENTS}", start=start, run=pilot)
        events = max(PILOT_EVENTS, int(seconds / took * PILOT_EVENTS))
        return {
            "stage_events": events,
            "stage_s": self._train(*stage, f"finetune.preference.events={events}", start=start),
        }

    def _train(self, *settings: str, start: str | None = None, run: Path | None = None) -> float:
        """Seconds of a training."""
        return in_process(_seconds_of_training, self.config(*settings, run=run), start)


def in_process(function: Callable[..., T], *given: Any) -> T:
    """What a function returns, called in a process of its own, which gives its memory back."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def _rate(run: Path) -> float:
    """Tokens/s of the steps of the run's last training."""
    name = current_name(run)
    assert name
    return float(read_steps(run / ADAPTERS / name)[-1]["tokens_per_s"])


def _seconds_of_training(config: Config, start: str | None) -> float:
    began = time.perf_counter()
    train_adapter(config, start)
    return time.perf_counter() - began


def _evaluated(config: Config, events: int) -> None:
    evaluate(config, split="valid", limit=events)


def scored(config: Config, events: int) -> tuple[dict[str, Float64], Any]:
    """Each event's metrics under the run's adapter, and whose event it is."""
    in_process(_evaluated, config, events)
    folder = evaluation_folder(config.run, "valid", events)
    [slug] = [one for one in slugs_in(folder) if one.startswith("fine-tuned")]
    rankings, _ = read_rankings(folder, slug)
    user_E = read_histories(config.run).user_idx_N[rankings.row_E]
    return evaluate_rankings(rankings, METRICS), user_E


if __name__ == "__main__":
    sys.exit(main())
