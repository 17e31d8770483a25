"""Does this checkout answer as an earlier commit did? Both train 30 steps and rank the same events; rows are compared.

    make bench-same ARGS="--before COMMIT [--work FOLDER]"

For each example configuration below, both trees run prepare, finetune (30 steps), evaluate (model and baselines) and,
for nyc-checkins, calibrate and evaluate once more. Losses of all steps must agree within 1e-6; items and
ranks of every ranker must be equal, scores within 1e-5. nyc-checkins runs where WHEREUPON_NYC_CHECKINS is set.
`--work` keeps run folders, so that the earlier commit is run once only. Takes half an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from record import bar, record

ROOT = Path(__file__).resolve().parents[1]
LOSS_TOLERANCE, SCORE_TOLERANCE = 1e-6, 1e-5
# Runs one verb of the tree that PYTHONPATH names, and notes the loss of every step.
DRIVER = """
import json, os, sys
import accelerate
losses, backward = [], accelerate.Accelerator.backward
def noted(self, loss, **more):
    losses.append(float(loss.detach()))
    return backward(self, loss, **more)
accelerate.Accelerator.backward = noted
from whereupon.cli import app
try:
    app(sys.argv[1:], standalone_mode=False)
finally:
    if losses:
        open(os.environ["LOSSES"], "w").write(json.dumps(losses))
"""


@dataclass(frozen=True)
class Case:
    """One example configuration: settings that make 30 steps of it, and what is ranked."""

    name: str
    epochs: float
    limit: int | None
    baselines: tuple[str, ...]
    calibrated: bool

    def verbs(self, run: Path) -> list[list[str]]:
        config = str(Path("examples") / f"{self.name}.yaml")
        sampled = ["--limit", str(self.limit)] if self.limit else []
        named = [part for name in self.baselines for part in ("--baseline", name)]
        settings = [f"run={run}", f"finetune.epochs={self.epochs}", "finetune.validations_per_epoch=0",
                    "finetune.validation_events=50"]  # fmt: skip
        common = [part for setting in settings for part in ("--set", setting)]
        verbs = [["prepare", config, *common], ["finetune", config, *common],
                 ["evaluate", config, *sampled, *named, *common]]  # fmt: skip
        if self.calibrated:
            verbs += [["calibrate", config, "--limit", "200", *common],
                      ["evaluate", config, *sampled, *named, *common]]  # fmt: skip
        return verbs


QUICK = ("popularity", "recent popularity", "popularity by hour of week", "own counts", "own counts + transitions",
         "own counts by hour of week", "transitions")  # fmt: skip
CASES = (
    Case("flights-demo", 0.484, None, (*QUICK, "ItemKNN", "EASE"), calibrated=False),
    Case("nyc-checkins", 0.172, 300, (*QUICK, "nearest"), calibrated=True),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="commit to compare with")
    parser.add_argument("--work", type=Path, help="folder for worktrees and runs; default: a temporary one")
    parser.add_argument("--only", choices=("before", "after"), help="run one side and compare nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="whereupon-same-") as scratch:
        work = (options.work or Path(scratch)).resolve()
        cases = [case for case in CASES if case.name != "nyc-checkins" or os.environ.get("WHEREUPON_NYC_CHECKINS")]
        for side in ("before", "after"):
            if options.only in (None, side):
                _run_side(side, _tree(side, options.before, work), cases, work)
        if options.only:
            return 0
        revisions = {side: _revision(_tree(side, options.before, work)) for side in ("before", "after")}
        return _compare(cases, work, revisions)


def _tree(side: str, commit: str, work: Path) -> Path:
    """A folder in which the package `whereupon` is the tree of that side."""
    names = work / f"{side}-tree"
    names.mkdir(parents=True, exist_ok=True)
    package = names / "whereupon"
    if side == "after" and not package.exists():
        package.symlink_to(ROOT)
    elif side == "before" and not package.exists():
        subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--detach", str(package), commit], check=True)
    return names


def _run_side(side: str, names: Path, cases: list[Case], work: Path) -> None:
    for case in cases:
        run = work / side / case.name
        run.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"PYTHONPATH": str(names), "LOSSES": str(run.parent / f"{case.name}.losses.json")}
        for number, verb in enumerate(case.verbs(run)):
            done = run.parent / f"{case.name}.{number}.done"
            if done.exists():
                continue
            print(f"{side}: {' '.join(verb[:2])}", flush=True)
            command = [sys.executable, "-c", DRIVER, *verb]
            subprocess.run(command, check=True, env=environment, cwd=names / "whereupon")
            done.touch()


def _revision(names: Path) -> str:
    command = ["git", "-C", str(names / "whereupon"), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _compare(cases: list[Case], work: Path, revisions: dict[str, str]) -> int:
    bars, compared = [], {}
    for case in cases:
        before, after = (json.loads((work / side / f"{case.name}.losses.json").read_text()) for side in
                         ("before", "after"))  # fmt: skip
        apart = float(np.abs(np.array(before) - np.array(after)).max()) if len(before) == len(after) else np.inf
        bars.append(bar(f"{case.name}: losses of {len(before)} steps, largest difference", apart,
                        f"at most {LOSS_TOLERANCE}", apart <= LOSS_TOLERANCE))  # fmt: skip
        found = _rows_that_differ(*(work / side / case.name for side in ("before", "after")))
        compared[case.name] = found
        differ, rows = sum(one["differ"] for one in found), sum(one["rows"] for one in found)
        bars.append(bar(f"{case.name}: rows that differ among {rows:,} of {len(found)} rankers", differ, "0",
                        differ == 0 and rows > 0))  # fmt: skip
    return record("same", 7, bars, compared=revisions, rankers=compared)


def _rows_that_differ(before: Path, after: Path) -> list[dict[str, Any]]:
    """For each ranker of the earlier run: how many rows there are, and in how many the answer is another one."""
    found = []
    for file in sorted(before.glob("evaluation/test*/*.parquet")):
        relative = file.relative_to(before)
        old = pl.read_parquet(file)
        new = pl.read_parquet(after / relative) if (after / relative).is_file() else old.clear()
        apart = 0.0
        if old.height != new.height:
            differ = old.height
        else:
            score_old, score_new = (np.array(one["scores"].to_list(), float) for one in (old, new))
            finite = np.isfinite(score_old) & np.isfinite(score_new)
            apart = float(np.abs(np.where(finite, score_old - score_new, 0.0)).max(initial=0.0))
            same = (old["rank"] == new["rank"]) & (old["items"] == new["items"]) & (old["row"] == new["row"])
            differ = old.height if apart > SCORE_TOLERANCE else int((~same).sum())
        found.append({"ranker": str(relative), "rows": old.height, "differ": differ, "largest_score_difference": apart})
    return found


if __name__ == "__main__":
    sys.exit(main())
