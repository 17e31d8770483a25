"""Sections of eval/RESULTS.md as Markdown: `whereupon.eval.report` computes everything, this only describes it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from whereupon.eval.rankings import ABLATION, ablated_folder
from whereupon.eval.reliability import calibration
from whereupon.eval.report.provenance import provenance
from whereupon.eval.report.runs import Dataset, Ranked
from whereupon.eval.report.sections import Leaderboard, Part, Row, beyond_accuracy, visits_of
from whereupon.eval.report.statistics import FEWEST_EVENTS, Estimate
from whereupon.eval.wording import NONE, count, duration, p_value, plain, signed, span
from whereupon.files import read_object

__all__ = [
    "METRIC", "SHORT_HEADS", "beyond", "board_table", "command_of", "context", "equal_time", "made", "own_settings",
    "short_rows", "slices", "table",
]  # fmt: skip

METRIC: Final = "nDCG@10"
ON_TOP: Final = "on top"
SHOWN: Final = (METRIC, "recall@10", "MRR@10", "log-loss")
VISITED: Final = tuple(visits_of(METRIC))
SHORT_HEADS: Final = ("data", "ranker", METRIC, *VISITED, "recall@10", "MRR@10", "difference from the best baseline")
MOST_BASELINES: Final = 3
"""How many of the best baselines the short table has."""
SAID_OTHERWISE: Final = ("run", "seed", "evaluate.baselines")
"""Overrides that the command of a baseline needs not, or says by itself."""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], num_words: int = 1) -> str:
    """GitHub-flavoured Markdown, ending in a newline; the first `num_words` columns are words, the others numbers."""
    rule = ["---"] * num_words + ["---:"] * (len(heads) - num_words)
    lines = [heads, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def board_table(board: Leaderboard) -> str:
    """All rankers, best first: metrics with their intervals, and the difference from the best baseline, or the best."""
    shown = [METRIC, *(name for name in VISITED if name in board.columns), *SHOWN[1:]]
    heads = ["ranker", *shown, f"{METRIC} per user", "difference", "p"]
    rows = (
        [row.ranker.name, *(_estimate(row.metrics.get(name)) for name in shown), plain(row.per_user), *_against(row)]
        for row in board.rows
    )
    return table(heads, rows)


def short_rows(example: str, board: Leaderboard) -> list[list[str]]:
    """What the README shows: every ranker that is no baseline, and the best baselines."""
    baselines = [row for row in board.rows if row.ranker.is_baseline][:MOST_BASELINES]
    chosen = [row for row in board.rows if not row.ranker.is_baseline or row in baselines]
    [reference] = [row.ranker for row in board.rows if row.against is None]
    against_what = "" if reference.is_baseline else " from the best ranker"  # against what the head of the column says
    return [_short(example if place == 0 else "", row, against_what) for place, row in enumerate(chosen)]


def equal_time(found: Mapping[str, Any]) -> str:
    """What bench/equal_time.py has measured: the model alone, pooled afterwards and on top of the rankers."""
    rows = []
    for example, one in found["tables"].items():
        for number, row in enumerate(one["rows"]):
            shown = [example, f"{one['events']:,}", f"{one['training'][ON_TOP]['steps']:,}"] if not number else [""] * 3
            against = row.get(f"{METRIC} difference")
            less = NONE if against is None else signed(-against["difference"])
            low, high = (None, None) if against is None else (-against["high"], -against["low"])
            p = None if against is None else against["p_holm"]
            rows.append([*shown, row["ranker"], plain(row[METRIC]), plain(row["log-loss"]),
                         f"{less} ({span(low, high, sign=True)})" if against else NONE, p_value(p)])  # fmt: skip
    commands = ", ".join(f"`{one['command']}`" for one in found["tables"].values())
    heads = ["data", "test events", "steps", "ranker", METRIC, "log-loss", f"{METRIC}: on top less this one", "p"]
    return "\n".join([
        "## The language model at equal training time\n",
        f"Made by {commands}. The model alone and the one on top of the rankers read the same tokens in the "
        "same number of steps, which are few. Pooled afterwards: the model alone and the stack, joined by weights "
        "fitted on validation. In brackets: 95 % interval over users. p: paired, with Holm's correction for the tests "
        "of one data set.\n",
        table(heads, rows, 4),
    ])  # fmt: skip


def made(dataset: Dataset, config: str) -> str:
    """How each line came about, and the command that makes it again."""
    rows = []
    for ranker, line in zip(dataset.rankers, provenance(dataset)["lines"], strict=False):  # behind them are ablations
        trials = f"{len(line['trials'])} on {line['tuned_on']}" if len(line["trials"]) > 1 else NONE
        settings = ", ".join(f"{name} {value}" for name, value in own_settings(ranker).items()) or NONE
        made_by = [duration(line["wall_s"]), f"`{command_of(ranker, config)}`"]
        rows.append([ranker.name, settings, trials, line["seed"] or NONE, *made_by])
    return table(["ranker", "settings", "settings tried", "seed", "time", "command"], rows, 6)


def own_settings(ranker: Ranked) -> dict[str, Any]:
    """What was chosen for a ranker; nothing for a model, whose settings are those of the configuration."""
    settings = ranker.facts.get("settings") or {}
    return {} if "model" in settings else dict(settings)


def command_of(ranker: Ranked, config: str) -> str:
    """What makes a ranker's line, free of places of the machine that it was typed on; "" if it was not noted.

    A baseline is named by its name and seed, whichever others its configuration named, with the other overrides
    that were typed. Others have the command that was typed, with the configuration called by its path in the
    repository. Overrides that are run folders or absolute paths, such as `--set run=elsewhere`, are left out, and other
    files are called by their names alone.
    """
    words = shlex.split(str(ranker.facts.get("command", "")))
    typed = [part for word in words for part in (word.split("=", 1) if word.startswith("--set=") else [word])]
    if ranker.is_baseline and typed:
        pairs = [pair for option, pair in pairwise(typed) if option == "--set"]
        kept = [pair for pair in pairs if pair.partition("=")[0] not in SAID_OTHERWISE and not _is_place(pair)]
        words = ["whereupon", "evaluate", config, "--baselines-only", "--baseline", ranker.facts["name"]]
        pairs = [*kept, f"seed={ranker.facts.get('seed')}"]
        return shlex.join([*words, *(word for pair in pairs for word in ("--set", pair))])
    kept = []
    for word in typed:
        if word.endswith((".yaml", ".yml")):
            kept.append(config)
        elif kept and kept[-1].startswith("--") and _is_place(word):
            kept.pop()
        else:
            kept.append(Path(word).name if Path(word).is_absolute() else word)
    return shlex.join(kept)


def _is_place(pair: str) -> bool:
    """Whether an override is a place of the machine that it was typed on: a run folder, or an absolute path."""
    name, _, value = pair.partition("=")
    return name == "run" or Path(value).is_absolute()


def beyond(dataset: Dataset) -> str:
    """Variety, novelty, popularity, distance, calibration; "" where rankings are too short."""
    found = beyond_accuracy(dataset)
    if found is None:
        return ""
    having = [ranker for ranker in dataset.rankers if ranker.rankings.log_prob_E is not None]
    errors = {ranker: calibration(ranker.rankings)["top-1"].equal_mass.error for ranker in having}
    heads = ["ranker", *(name for name, _ in found["columns"]), *(["calibration error"] if errors else [])]
    rows = []
    for ranker, metrics in found["rows"]:
        numbers = [metrics.get(name) for name, _ in found["columns"]] + ([errors.get(ranker)] if errors else [])
        rows.append([ranker.name, *map(plain, numbers)])
    meanings = [f"- {name}: {meaning}" for name, meaning in found["columns"]]
    if errors:
        meanings.append("- calibration error: of the first item's probability, in 15 bins of equally many events")
    return f"{table(heads, rows)}\n" + "\n".join([*meanings, *(f"- {note}" for note in found["notes"])]) + "\n"


def slices(dataset: Dataset, found: Part) -> str:
    """The best ranker that is no baseline beside the best baseline, in each part of the events."""
    ours, theirs = dataset.contender.name, dataset.opponent.name if dataset.opponent else NONE
    rows = []
    for panel in found["panels"]:
        for place, (label, one, other, gap) in enumerate(panel["slices"]):
            numbers = [count(one.num_events), count(one.num_users)]
            against = [_signed(gap), p_value(gap.p_holm)] if gap else [NONE, NONE]
            title = panel["title"] if place == 0 else ""
            rows.append([title, label, *numbers, _estimate(one), _estimate(other), *against])
    parts = "1 part" if found["num_thin"] == 1 else f"{found['num_thin']} parts"
    note = f"\nLeft out: {parts} of fewer than {FEWEST_EVENTS} events.\n" if found["num_thin"] else ""
    return table(["", "", "events", "users", ours, theirs, "difference", "p"], rows, 2) + note


def context(dataset: Dataset, config: str) -> str:
    """The tables of `whereupon ablate`, one level of headings down; "" where there are none of this data."""
    texts = []
    for folder in dict.fromkeys(ranker.folder for ranker in dataset.rankers):
        if (found := ablated_folder(folder)) is None:
            continue
        path = found[0] / f"{ABLATION}.json"
        found_ablation = read_object(path)
        if found_ablation.get("data_hash") == dataset.histories.data_hash:
            text = path.with_suffix(".md").read_text(encoding="utf-8")
            limited = f" --limit {found[1]}" if found[1] else ""
            retrained = any(test["how"] == "retrained" for test in found_ablation.get("tests", []))
            command = f"python bench/ablation.py {Path(config).stem}" if retrained else f"whereupon ablate {config}"
            made = f"\nMade by `{command}{limited}`.\n"
            texts.append(re.sub(r"^#", "###", text, flags=re.MULTILINE) + made)
    return "\n".join(texts)


def _short(example: str, row: Row, against_what: str) -> list[str]:
    difference, p = _against(row)
    against = f"{difference}{against_what}; p {p}" if row.against else difference
    name = row.ranker.name if row.ranker.is_baseline else f"**{row.ranker.name}**"
    numbers = [_estimate(row.metrics.get(metric)) for metric in (METRIC, *VISITED, *SHOWN[1:3])]
    return [example, name, *numbers, against]


def _estimate(one: Estimate | None) -> str:
    if one is None:
        return NONE
    return f"{plain(one.mean)} ({span(one.low, one.high)})" if one.has_interval else plain(one.mean)


def _signed(one: Estimate) -> str:
    return f"{signed(one.mean)} ({span(one.low, one.high, sign=True)})" if one.has_interval else signed(one.mean)


def _against(row: Row) -> list[str]:
    """Difference and p-value; the reference, which has none, is called what it is."""
    if row.against:
        return [_signed(row.against), p_value(row.against.p_holm)]
    return ["the best baseline" if row.ranker.is_baseline else "the best ranker", NONE]
