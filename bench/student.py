"""What does a student of fewer layers gain in speed, and what does it cost? One row for each number of layers.

    python bench/student.py [EXAMPLE] [--layers 15 20] [--from RUN] [--limit N] [--users N] [--set A.B=C ...]

The teacher is the adapter in use of the example's run (or of `--from`). Each student is made by `whereupon student` in
a run folder beside it, which goes on where it was killed, and evaluated as `whereupon evaluate` does it: nDCG@10 on the
test split. Then both answer the same users, one at a time and in turns, through `whereupon.Recommender` in this
process: prompt, rankers of `priors`, reading and exact search. Seconds are those of the process on a CPU, so that other
programs count little, and by the clock on a GPU.

Writes bench/results/student.json; exits with 1 if a bar is missed. `--set` gives settings of the students' training,
such as finetune.epochs=4.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from record import bar, record

from whereupon import Recommender
from whereupon.config import Config, load_config
from whereupon.decode.adapters import current_name
from whereupon.decode.layers import num_layers
from whereupon.decode.models import load_base_model
from whereupon.eval.run import evaluate
from whereupon.finetune.student import student, student_config
from whereupon.histories import read_histories

ROOT: Final = Path(__file__).parents[1]
FASTER, LOST = 1.7, 0.01
METRICS: Final = ("nDCG@10", "log-loss")


def main() -> int:
    """Make, evaluate and time the students; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("example", nargs="?", default="nyc-checkins", help="a configuration of examples/")
    parser.add_argument("--layers", type=int, nargs="+", help="of each student; default: half of the teacher's")
    parser.add_argument("--from", dest="run", type=Path, metavar="RUN", help="the run folder of the teacher")
    parser.add_argument("--limit", type=int, metavar="N", help="evaluate so many test events")
    parser.add_argument("--users", type=int, default=40, metavar="N", help="users that both answer")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="A.B=C", help="a setting")
    args = parser.parse_args()
    overrides = [*([f"run={args.run}"] if args.run else []), "evaluate.baselines=[]", *args.settings]
    config = load_config(ROOT / "examples" / f"{args.example}.yaml", overrides)
    whole = num_layers(load_base_model(config.model))
    teacher = {"layers": whole, **_quality(config, args.limit)}
    rows = []
    for layers in args.layers or [whole // 2]:
        run = config.run.with_name(f"{config.run.name}-student-{layers}")
        trained = student_config(config, run)
        began = time.perf_counter()
        if current_name(run) is None:
            student(config, layers, run)
        row = {"layers": layers, "training_s": time.perf_counter() - began, **_quality(trained, args.limit)}
        rows.append(row | _speed(config, trained, args.users))
        print(row)
    bars = [one for row in rows for one in bars_of(teacher, row)]
    return record("student", config.seed, bars, example=args.example, teacher=teacher, students=rows,
                  threads=torch.get_num_threads())  # fmt: skip


def _quality(config: Config, limit: int | None) -> dict[str, float]:
    found = evaluate(config, split="test", limit=limit)[-1]
    return {"events": found.num_events, **{name: found.metrics[name] for name in METRICS}}


def _speed(teacher: Config, student: Config, num_users: int) -> dict[str, float]:
    """Requests/s of both; each is first in turns, and the first user, who warms both up, is not counted."""
    histories = read_histories(teacher.run)
    known = np.array(histories.user_ids)[np.diff(histories.offset_U1) > 0]
    users = np.random.default_rng(teacher.seed).permutation(known)[: num_users + 1].tolist()
    seconds = np.zeros(2)
    with Recommender.load(teacher) as whole, Recommender.load(student) as fewer:
        for number, user in enumerate(users):
            for kind in (number % 2, 1 - number % 2):
                began = _now()
                (whole, fewer)[kind].recommend(user)
                seconds[kind] += (_now() - began) * (number > 0)
    rates = (len(users) - 1) / seconds
    return {"users": len(users) - 1, "teacher_requests_per_s": float(rates[0]), "requests_per_s": float(rates[1])}


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def bars_of(teacher: dict[str, Any], row: dict[str, Any]) -> list[dict[str, Any]]:
    """Of one student."""
    faster = row["requests_per_s"] / row["teacher_requests_per_s"]
    lost, name = teacher["nDCG@10"] - row["nDCG@10"], f"{row['layers']} of {teacher['layers']} layers"
    return [
        bar(f"{name}, requests/s over the teacher's", faster, f">= {FASTER}", faster >= FASTER),
        bar(f"{name}, nDCG@10 lost", lost, f"<= {LOST}", lost <= LOST),
    ]


if __name__ == "__main__":
    sys.exit(main())
