"""Every family of rankers on the example data, each tuned on validation: figures, minutes, and what leaves one out.

    make bench-source_models ARGS="[EXAMPLE[=RUN] ...] [--redo] [--only FAMILY ...]"

EXAMPLE is a configuration in examples/ without its ending (default: nyc-checkins, flights-demo, movielens-100k), RUN
its prepared run folder (default: runs/EXAMPLE). Each family is tuned and ranked by `whereupon evaluate` in a process of
its own. Minutes are its time on the CPU, which no other program changes; settings that were tried before count by their
wall time. A family that was ranked and timed before is read again: a run that was stopped goes on. With `--only`, rows
of other families stay as they are; `--redo` ranks those of `--only` again. A family whose data is missing is left out
with the sentence that `evaluate` prints. Planted truths come from bench/planted.py; forecasts have a bench of their own
(bench/forecasts.py). The stack of rankers and the language model on top of it are compared where both were evaluated.

Writes bench/results/source_models.json, in which examples that are not named stay as they are; exits with 1 if a bar is
missed. Hours on two cores for all families.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import planted
from on_top import SLUGS
from record import RESULTS, bar, record

from whereupon.arrays import Int32
from whereupon.errors import DataError
from whereupon.eval.intervals import UserSums, bootstrap
from whereupon.eval.metrics import evaluate_rankings
from whereupon.eval.rankings import Rankings, evaluation_folder, read_rankings, slug_of, slugs_in
from whereupon.eval.significance import compare
from whereupon.files import read_object, versions, write_json
from whereupon.histories import read_histories
from whereupon.rankers.settings import BaselineName

ROOT: Final = Path(__file__).parents[1]
SEED: Final = 7
EXAMPLES: Final = ("nyc-checkins", "flights-demo", "movielens-100k")
MOST_MINUTES: Final = 40.0  # of the CPU, all threads together: twenty minutes of two cores
METRICS: Final = ("nDCG@10", "recall@10", "log-loss")
_SO_FAR: Final = ROOT / "runs" / "source_models.json"


def main() -> int:
    """Rank what is missing, compare, and the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples", nargs="*", metavar="EXAMPLE[=RUN]")
    parser.add_argument("--redo", action="store_true", help="rank again the families of --only")
    parser.add_argument("--only", nargs="+", default=get_args(BaselineName), metavar="FAMILY")
    given = parser.parse_args()
    named = dict(one.split("=", 1) for one in given.examples if "=" in one)
    chosen = [one.split("=", 1)[0] for one in given.examples] or list(EXAMPLES)
    before = _before()
    bars, rows = planted.bars(), list[dict[str, Any]]()
    for example in chosen:
        run = Path(named.get(example, ROOT / "runs" / example))
        for name in get_args(BaselineName):
            known = before.get((example, name))
            if name in given.only:
                row = ranked(example, run, name, None if given.redo else known)
            elif known is None:
                continue
            else:
                row = known
            rows.append(row)
            write_json(_SO_FAR, {"rows": [*rows, *(one for key, one in before.items() if key not in _keys(rows))]})
            print({key: value for key, value in row.items() if key != "interval"}, flush=True)
        if (found := on_top_of_stack(example, run)) is not None:
            rows.append(found)
    rows = in_order([*rows, *_of_others(chosen)])
    bars += [_bar(row) for row in rows if "minutes" in row]
    missing = [(data, name) for data in EXAMPLES for name in get_args(BaselineName) if (data, name) not in _keys(rows)]
    bars += [
        bar(f"{data}, {name}, minutes with tuning", None, f"<= {MOST_MINUTES:g}, ranked", False)
        for data, name in missing
    ]
    gains = sum(row["nDCG@10 gain"] > 0 and row["p"] < 0.05 for row in rows if "nDCG@10 gain" in row)
    bars.append(bar("data where the model on top is significantly above the stack alone", gains, ">= 2", gains >= 2))
    return record("source_models", SEED, bars, rows=rows)


def _of_others(chosen: list[str]) -> list[dict[str, Any]]:
    """Rows of the last results for other examples than those."""
    path = RESULTS / "source_models.json"
    rows: list[dict[str, Any]] = read_object(path)["rows"] if path.is_file() else []
    return [row for row in rows if row["data"] not in chosen]


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows example by example, in the order of EXAMPLES; others come last."""
    return sorted(rows, key=lambda row: EXAMPLES.index(row["data"]) if row["data"] in EXAMPLES else len(EXAMPLES))


def ranked(example: str, run: Path, name: BaselineName, known: dict[str, Any] | None) -> dict[str, Any]:
    """Figures of one family on the test split, its minutes, or why it is left out."""
    folder = evaluation_folder(run, "test")
    if known is not None and ("left out" in known or slug_of(name) in slugs_in(folder)):
        return known
    command = [sys.executable, "-m", "whereupon.cli", "evaluate", f"examples/{example}.yaml", "--baselines-only"]
    alone = ["--baseline", name, "--set", f"run={run}", "--set", "priors=none"]
    before_s, began = _tuned_before_s(run, name), _cpu_s()
    done = subprocess.run([*command, *alone], cwd=ROOT, capture_output=True, text=True)
    row: dict[str, Any] = {"data": example, "family": name, "minutes": (before_s + _cpu_s() - began) / 60}
    row |= {"cpu_flags": versions().get("cpu_flags")}
    said = re.sub(r"\s+", " ", done.stdout + done.stderr)
    if found := re.search(r"is left out: (.*?\.)(?: |$)", said):
        return row | {"left out": found[1]}
    if done.returncode:
        return row | {"failed": done.stderr.strip().splitlines()[-1]}
    rankings, facts = read_rankings(folder, slug_of(name))
    return (
        row
        | _figures(rankings, read_histories(run).user_idx_N[rankings.row_E])
        | {"settings": facts.get("settings"), "seed": facts.get("seed")}
    )


def _cpu_s() -> float:
    """Seconds on the CPU, all threads together, of the processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tuned_before_s(run: Path, name: BaselineName) -> float:
    """Seconds of the trials of settings that an earlier run has done, which are not done again."""
    path = run / "evaluation" / "tuned" / f"{slug_of(name)}.json"
    return sum(trial["wall_s"] for trial in read_object(path)["trials"]) if path.is_file() else 0.0


def _figures(rankings: Rankings, user_E: Int32) -> dict[str, Any]:
    """Means, and the 95 % interval of nDCG@10 over users."""
    values = evaluate_rankings(rankings, METRICS)
    found = bootstrap(UserSums.of([values["nDCG@10"]], user_E), seed=SEED)
    means = {name: float(np.mean(values[name])) for name in METRICS if name in values}
    return {"events": len(user_E), **means, "interval": [float(found.low_M[0]), float(found.high_M[0])]}


def _bar(row: dict[str, Any]) -> dict[str, Any]:
    name = f"{row['data']}, {row['family']}, minutes with tuning"
    if "left out" in row:
        return bar(f"{name}: left out, {row['left out']}", 0, f"<= {MOST_MINUTES:g}", True)
    ok = "nDCG@10" in row and row["minutes"] <= MOST_MINUTES
    return bar(name, row["minutes"], f"<= {MOST_MINUTES:g}, ranked", ok)


def on_top_of_stack(example: str, run: Path) -> dict[str, Any] | None:
    """The language model on top of the stack against the stack alone: paired over users; None: one is missing."""
    folder = evaluation_folder(run, "test")
    slugs = {name: SLUGS[name] for name in ("stack of priors", "on top")}
    if not folder.is_dir() or not set(slugs.values()) <= set(slugs_in(folder)):
        print(f"{example}: the stack and the model on top of it were not both evaluated", file=sys.stderr)
        return None
    found = {name: read_rankings(folder, slug)[0] for name, slug in slugs.items()}
    row_E = found["on top"].row_E
    if not np.array_equal(row_E, found["stack of priors"].row_E):
        raise DataError(f"{folder}: the stack and the model on top of it ranked other events; run `evaluate` again.")
    values = {name: evaluate_rankings(one, METRICS) for name, one in found.items()}
    user_E = read_histories(run).user_idx_N[row_E]
    table = compare(values, user_E, baseline="stack of priors", seed=SEED)
    row: dict[str, Any] = {"data": example, "family": "on top over stack of rankers"}
    for one in table.filter(table["ranker"] == "on top").iter_rows(named=True):
        row |= {f"{one['metric']} gain": one["difference"], f"{one['metric']} p": one["p_holm"]}
    return (
        row | {"p": row["nDCG@10 p"]} | {f"stack {k}": float(np.mean(v)) for k, v in values["stack of priors"].items()}
    )


def _before() -> dict[tuple[str, str], dict[str, Any]]:
    """Rows of earlier runs, the last one of each family, also of a run that was stopped."""
    rows: list[dict[str, Any]] = []
    for path in (RESULTS / "source_models.json", _SO_FAR):
        rows += read_object(path)["rows"] if path.is_file() else []
    return {(row["data"], row["family"]): row for row in rows if "minutes" in row and "failed" not in row}


def _keys(rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(row["data"], row["family"]) for row in rows}


if __name__ == "__main__":
    sys.exit(main())
