"""How close to the best possible ranking, in a town whose choice model is known, and what is the weather worth there?

    make bench-town ARGS="[--scene shopping] [--people 100] [--days 60] [--epochs 0] [--folder runs/town]"

`whereupon simulate` writes one town three times. The choices are the same; the weather is shown, hidden, or that of
other hours (shuffled). In each, `priors: auto` chooses a stack of rankers, and with `--epochs` above 0 SmolLM2 is
fine-tuned on top of it. Everything is chosen on the validation split; the test split is ranked once.

The bound is the ranking by the true probabilities (see histories/simulation/bounds.py) on the same test events. The
worth of the weather is tested by sign flips over users: shown against hidden, and shuffled against hidden.

Writes bench/results/town.json; exits with 1 if a bar is missed. A step that was done in the folder is not done again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from record import bar, record

from whereupon.arrays import Float64
from whereupon.eval.metrics import evaluate_rankings
from whereupon.eval.rankings import evaluation_folder, read_rankings, slugs_in
from whereupon.eval.significance import compare
from whereupon.files import read_object
from whereupon.histories import read_histories

ROOT: Final = Path(__file__).parents[1]
SEED: Final = 7
METRICS: Final = ("nDCG@10", "log-loss")
TOWNS: Final = {"shown": [], "hidden": ["--weather-hidden"], "shuffled": ["--weather-shuffled"]}
LEAST_SHARE: Final = 0.9
SLUGS: Final = {False: "stack-of-priors", True: "fine-tuned-on-top"}


def main() -> int:
    """Simulate, train, rank, compare; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", default="shopping")
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument(
        "--epochs", type=float, default=0.0, help="of fine-tuning on top of the stack; 0: the stack alone"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "town")
    args = parser.parse_args()
    found: dict[str, dict[str, Float64]] = {}
    rows = []
    for weather, options in TOWNS.items():
        town = args.folder / weather
        simulated(town, [*options, "--scene", args.scene, "--people", str(args.people), "--days", str(args.days)])
        ranked(town, args.epochs)
        figures, user_E, values = of_test(town / "run", trained=args.epochs > 0)
        found[weather] = values
        bound = read_object(town / "truth.json")["bounds"]["test"]
        rows.append(
            {"weather": weather, **figures, **{kind: bound[kind]["drawn"] for kind in bound if "weather" in kind}}
        )
        print(rows[-1], flush=True)
    tests = compare(found, user_E, baseline="hidden", seed=SEED).to_dicts()
    return record("town", SEED, _bars(rows, tests), rows=rows, tests=tests, settings={
        "scene": args.scene, "people": args.people, "days": args.days, "epochs": args.epochs,
        "ranker": SLUGS[args.epochs > 0],
    })  # fmt: skip


def simulated(town: Path, options: list[str]) -> None:
    """The town, unless it is there already. Raises SystemExit: another town is there."""
    if not (town / "town.yaml").exists():
        shutil.rmtree(town, ignore_errors=True)
        _run("simulate", str(town), "--seed", str(SEED), *options)
    found = read_object(town / "truth.json")["settings"]
    wanted = dict(zip(options[-6::2], options[-5::2], strict=True))
    if any(str(found[name.removeprefix("--")]) != value for name, value in wanted.items()):
        raise SystemExit(f"{town} holds a town of other settings, {found}; remove it, or name another --folder.")


def ranked(town: Path, epochs: float) -> None:
    """Prepare, choose priors, fine-tune if requested, and rank the test split."""
    config, run = str(town / "town.yaml"), town / "run"
    chosen = ["--set", "priors=auto", "--set", f"finetune.epochs={epochs or 1}", "--set", "finetune.learning_rate=1e-3"]
    if not (run / "histories" / "manifest.json").exists():
        _run("prepare", config, *chosen)
    if not (run / "priors").is_dir():
        _run("priors", config, *chosen)
    if epochs and not (run / "adapters").is_dir():
        _run("finetune", config, *chosen)
    folder = evaluation_folder(run, "test")
    if not folder.is_dir() or SLUGS[epochs > 0] not in slugs_in(folder):
        _run("evaluate", config, *chosen, "--baseline", "popularity", *([] if epochs else ["--baselines-only"]))


def of_test(run: Path, *, trained: bool) -> tuple[dict[str, float], Any, dict[str, Float64]]:
    """Mean figures of the test split, whose event each is, and the values of each."""
    rankings, _ = read_rankings(evaluation_folder(run, "test"), SLUGS[trained])
    per_event = evaluate_rankings(rankings, METRICS)
    return (
        {metric: float(per_event[metric].mean()) for metric in METRICS},
        read_histories(run).user_idx_N[rankings.row_E],
        per_event,
    )


def _bars(rows: list[dict[str, Any]], tests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    shown, _, shuffled = rows
    share = shown["nDCG@10"] / shown["with_weather"]["nDCG@10"]
    worth = {one["ranker"]: one for one in tests if one["metric"] == "nDCG@10"}
    gained, nothing = worth["shown"], worth["shuffled"]
    blind = shown["without_weather"]["nDCG@10"]
    part = gained["difference"] / (shown["with_weather"]["nDCG@10"] - blind)
    p_name = "p (Holm) of shuffled weather, which says nothing"
    return [
        bar("share of the best possible nDCG@10, weather shown", share, f">= {LEAST_SHARE}", share >= LEAST_SHARE),
        bar("nDCG@10 gained by shown weather", gained["difference"], "> 0", gained["difference"] > 0),
        bar("its p (Holm)", gained["p_holm"], "< 0.05", gained["p_holm"] < 0.05),
        bar("share of what weather can add at most", part, ">= 0.5", part >= 0.5),
        bar(p_name, nothing["p_holm"], ">= 0.05", nothing["p_holm"] >= 0.05),
        bar("nDCG@10 with shuffled weather", shuffled["nDCG@10"], f"<= {blind:.3f}, the best possible without weather",
            shuffled["nDCG@10"] <= blind),
    ]  # fmt: skip


def _run(verb: str, *options: str) -> None:
    command = [str(Path(sys.executable).with_name("whereupon")), verb, *options]
    subprocess.run(command, check=True, cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
