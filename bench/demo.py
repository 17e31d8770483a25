"""Does `make demo` do what README says, on a machine with nothing but Python 3.11? Some twelve minutes on two cores.

    python bench/demo.py [CLONE]

Clones the committed tree into the folder CLONE (default: a temporary one), runs `make setup` (downloads, not counted)
and then `make demo` there, and reads the evaluation it leaves. A CLONE that is there is brought up to date; it must not
have run the demo before. Writes bench/results/demo.json; exits with 1 if a bar is missed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import bar, record

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Clone, run, compare; the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(sys.argv[1]) if sys.argv[1:] else Path(folder) / "whereupon"
        if (clone / "runs/flights-demo").exists():
            sys.exit(f"{clone} has run the demo before; name another folder.")
        if clone.exists():
            subprocess.run(["git", "-C", str(clone), "pull", "--quiet", str(ROOT), "HEAD"], check=True)
        else:
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        subprocess.run(["make", "--silent", "setup"], cwd=clone, check=True)
        began = time.perf_counter()
        status = subprocess.run(["make", "--silent", "demo"], cwd=clone, check=False).returncode
        wall_s = time.perf_counter() - began
        summary = json.loads((clone / "runs/flights-demo/evaluation/test/summary.json").read_text("utf-8"))
    score = {result["name"]: result["metrics"]["nDCG@10"] for result in summary["results"]}
    tuned = next(score[one["name"]] for one in summary["results"] if one["kind"] == "model")
    baselines = [one["name"] for one in summary["results"] if one["kind"] == "baseline"]
    bars = [bar("exit status", status, "= 0", status == 0), bar("minutes", wall_s / 60, "<= 12", wall_s <= 720)]
    bars += [bar("nDCG@10", tuned, ">= 0.775", tuned >= 0.775)]
    bars += [bar(f"nDCG@10 above {name}", tuned - score[name], "> 0", tuned > score[name]) for name in baselines]
    return record("demo", summary["seed"], bars, table=summary["results"])


if __name__ == "__main__":
    sys.exit(main())
