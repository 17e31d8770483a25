"""The language model alone, pooled with the rankers afterwards, and trained on top of them, at equal training time.

    python bench/equal_time.py [EXAMPLE[=RUN] ...] [--minutes 10 | --epochs E] [--events 1500] [--calibrate 1000]

EXAMPLE is a configuration in examples/ without its ending, RUN a prepared run whose rankers were chosen by `whereupon
priors` (default: runs/EXAMPLE). Two adapters are trained in runs/equal_time/EXAMPLE: one on top of the rankers, one
alone. Both read the same number of tokens, as many as `finetune --estimate` says fit into `--minutes`; choosing and
fitting rankers come on top. Temperature and weight of each are fitted on `--calibrate` validation events. All rank the
same `--events` events of the test split. Differences are from on top, paired, with intervals and p-values over users
(Holm).

Writes bench/results/equal_time.json, from which `bench/leaderboard.py` makes a table of eval/RESULTS.md. Examples that
are not named stay as they are. A bar: on top is nowhere significantly worse than its best part. What was trained or
ranked before is read.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from on_top import METRICS, SLUGS
from record import RESULTS, bar, record
from trainings import in_process

from whereupon.config import Config, load_config
from whereupon.decode.adapters import ADAPTERS, current_adapter, current_name
from whereupon.errors import DataError
from whereupon.eval.metrics import evaluate_rankings
from whereupon.eval.rankings import evaluation_folder, finite, read_rankings
from whereupon.eval.run import evaluate
from whereupon.eval.significance import compare
from whereupon.eval.stacking import calibrate_run
from whereupon.files import read_object
from whereupon.finetune.estimate import estimate
from whereupon.finetune.progress import read_steps
from whereupon.finetune.train import train_adapter
from whereupon.histories import read_histories
from whereupon.histories.questions import evaluated_events

ROOT: Final = Path(__file__).parents[1]
SEED: Final = 7
EXAMPLES: Final = ("flights-demo", "nyc-checkins", "movielens-100k")
KEPT: Final = ("difference", "low", "high", "p_holm")
ON_TOP: Final = "on top"
ALONE: Final = "priors=none"
AFTERWARDS: Final = "finetune.on_top=false"


@dataclass(frozen=True)
class Trained:
    """An example's adapter in a run folder of its own: on top of the rankers of `source`, or alone."""

    example: str
    source: Path
    is_on_top: bool

    @property
    def run(self) -> Path:
        return ROOT / "runs" / "equal_time" / self.example / ("on-top" if self.is_on_top else "alone")

    def config(self, *more: str) -> Config:
        """The example's, with small batches, so that a short training has many steps, and one small validation."""
        fixed = ("finetune.batch_tokens=1024", "finetune.validations_per_epoch=0", "finetune.validation_events=20",
                 "evaluate.baselines=[]")  # fmt: skip
        return load_config(ROOT / "examples" / f"{self.example}.yaml", [f"run={self.run}", *fixed, *more])

    def prepare(self) -> None:
        """Copy histories and rankers of the source. Raises DataError: they are not there."""
        for name in ("histories", "priors"):
            if not (self.source / name).is_dir():
                raise DataError(f"{self.source} has no {name}: run `whereupon prepare` and `whereupon priors` for it.")
            if not (self.run / name).is_dir():
                shutil.copytree(self.source / name, self.run / name)

    def train(self, epochs: float) -> None:
        """Train the adapter, unless there is one."""
        if current_name(self.run) is None:
            more = () if self.is_on_top else (ALONE,)
            in_process(train_adapter, self.config(f"finetune.epochs={epochs}", *more))

    def steps(self) -> dict[str, Any]:
        """Steps of the training, and its tokens/s at the end."""
        lines = read_steps(self.run / ADAPTERS / str(current_name(self.run)))
        return {"steps": lines[-1]["step"], "tokens_per_s": lines[-1]["tokens_per_s"]}


def main() -> int:
    """Train, rank, compare, and the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples", nargs="*", default=EXAMPLES, metavar="EXAMPLE[=RUN]")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, each (default: %(default)s)")
    parser.add_argument("--epochs", type=float, help="of training, each, whatever time they take")
    parser.add_argument("--events", type=int, default=1500, help="of the test split (default: %(default)s)")
    parser.add_argument("--calibrate", type=int, default=1000, help="validation events (default: %(default)s)")
    given = parser.parse_args()
    tables = {}
    for argument in given.examples:
        name, _, run = argument.partition("=")
        tables[name] = table(name, Path(run) if run else ROOT / "runs" / name, given)
        show(name, tables[name])
    path = RESULTS / "equal_time.json"
    before = read_object(path)["tables"] if path.is_file() else {}
    tables = {name: tables.get(name) or before[name] for name in EXAMPLES if name in tables or name in before}
    bars = [bar(f"{name}, measured", int(name in tables), "= 1", name in tables) for name in EXAMPLES]
    for name, one in tables.items():
        bars += bars_of(name, one["rows"])
    return record("equal_time", SEED, bars, tables=tables)


def table(example: str, source: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Figures of the four, on top first. Raises DataError: the two did not take the same steps."""
    on_top, alone = (Trained(example, source, is_on_top) for is_on_top in (True, False))
    for one in (on_top, alone):
        one.prepare()
    epochs = given.epochs or 0.0
    if not epochs and (current_name(on_top.run) is None or current_name(alone.run) is None):
        whole = in_process(estimate, alone.config(ALONE, "finetune.epochs=1"))
        epochs = given.minutes * 60 * whole.tokens_per_s / whole.num_tokens
    for one in (alone, on_top):
        one.train(epochs)
    if on_top.steps()["steps"] != alone.steps()["steps"]:
        raise DataError(f"{example}: on top took {on_top.steps()}, alone {alone.steps()}; remove {alone.run.parent}.")
    histories = read_histories(on_top.run)
    limit = given.events if given.events < len(evaluated_events(histories, "test")) else None
    ranked = [(on_top, ()), (alone, (ALONE,)), (alone, (AFTERWARDS,))]
    for one, more in ranked:
        in_process(ranked_by, one.config(*more), limit, given.calibrate)
    values, user_E = {}, histories.user_idx_N
    for name, slug in SLUGS.items():
        run = on_top.run if slug in (SLUGS[ON_TOP], SLUGS["stack of priors"]) else alone.run
        rankings, _ = read_rankings(evaluation_folder(run, "test", limit), slug)
        figures = evaluate_rankings(rankings, METRICS)
        values[name], row_E = {metric: figures[metric] for metric in METRICS}, rankings.row_E
    compared = compare(values, user_E[row_E], baseline=ON_TOP, seed=SEED)
    rows = []
    for name, figures in values.items():
        row: dict[str, Any] = {"ranker": name} | {metric: float(value_E.mean()) for metric, value_E in figures.items()}
        for found in compared.filter(compared["ranker"] == name).iter_rows(named=True):
            row[f"{found['metric']} difference"] = finite({key: found[key] for key in KEPT})
        rows.append(row)
    trained_for = f"--epochs {given.epochs:g}" if given.epochs else f"--minutes {given.minutes:g}"
    return {
        "command": f"python bench/equal_time.py {example} {trained_for} --events {given.events} "
        f"--calibrate {given.calibrate}",
        "events": len(row_E), "training": {"on top": on_top.steps(), "alone": alone.steps()}, "rows": rows,
    }  # fmt: skip


def ranked_by(config: Config, limit: int | None, calibrated_on: int) -> None:
    """Fit temperature and weight of the run's adapter and rank with it, unless it was done before."""
    evaluated = evaluation_folder(config.run, "test", limit)
    with_rankers = ON_TOP if config.on_top else "pooled afterwards"
    slug = SLUGS["model alone" if config.priors == "none" else with_rankers]
    if not (evaluated / f"{slug}.json").is_file():
        calibrate_run(config, calibrated_on, current_adapter(config.run))
        evaluate(config, split="test", limit=limit)


def bars_of(example: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """On top over each of its parts, in nDCG@10: not significantly below 0."""
    found = []
    for row in rows[1:]:
        one = row["nDCG@10 difference"]
        gain, sure = -one["difference"], one["p_holm"] is not None and one["p_holm"] < 0.05
        name = f"{example}, nDCG@10, on top over {row['ranker']}"
        found.append(bar(name, gain, "not significantly below 0", gain >= 0 or not sure))
    return found


def show(example: str, one: dict[str, Any]) -> None:
    """Print one example's figures."""
    print(f"\n{example}, {one['events']:,} test events, {one['training']['on top']['steps']} steps", flush=True)
    for row in one["rows"]:
        print(f"  {row['ranker']}: " + "  ".join(f"{metric} {row[metric]:.4f}" for metric in METRICS), flush=True)


if __name__ == "__main__":
    sys.exit(main())
