"""All rankers of the example data side by side, and how much of it may be chance. A minute or two on two cores.

    python bench/leaderboard.py [EXAMPLE[=RUN] ...] [--out FILE] [--seed 7]

EXAMPLE is a configuration in examples/ without its ending (default: all of them), RUN a run folder in which `whereupon
evaluate` has ranked its test split (default: runs/EXAMPLE); several runs of one example, of other seeds say, share a
table. Nothing is ranked here.

Writes eval/RESULTS.md and bench/results/leaderboard.json, or FILE and a JSON of its name beside it, and prints the
short table of the README. In eval/RESULTS.md and its JSON, examples that are not named stay as they are; machine and
versions in the JSON are those of the last run. The table of bench/results/equal_time.json (bench/equal_time.py) comes
last. Where rankings are missing, it says so with the command that makes them, and exits with 1, as it does where a bar
is missed.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import leaderboard_text as texts
import numpy as np
from record import RESULTS, bar, record

from whereupon.errors import DataError
from whereupon.eval.rankings import finite, slug_of
from whereupon.eval.report.headline import headline
from whereupon.eval.report.runs import Dataset, read_datasets
from whereupon.eval.report.sections import Leaderboard, Part, Row, leaderboard, slicing
from whereupon.eval.report.statistics import Estimate
from whereupon.files import atomic_path, read_object
from whereupon.histories.distance import has_coordinates
from whereupon.rankers.settings import BaselineName

ROOT: Final = Path(__file__).parents[1]
OUT: Final = ROOT / "eval" / "RESULTS.md"
EXAMPLES: Final = ("nyc-checkins", "flights-demo", "movielens-100k", "movielens-100k-loo")
SPLIT: Final = "test"
UNTRAINED: Final = "zero-shot"
INTRODUCTION: Final = f"""# Results

Written by `python bench/leaderboard.py` from finished rankings; do not edit. Within a table, all rankers ranked the
same events of the {SPLIT} split, from the same candidates of the full catalogue; settings were chosen on the validation
split.

- In brackets: 95 % interval, bootstrap over users (BCa).
- difference: in {texts.METRIC}, from the best baseline on these very events; no harder one could have been picked.
  From the best ranker where no baseline was ranked.
- p: paired test by sign flips over users, with Holm's correction for all tests of its table.
- per user: mean over users of the mean over each one's events.
"""


@dataclass(frozen=True)
class Example:
    """A configuration in examples/, and where it was evaluated."""

    name: str
    runs: tuple[Path, ...]

    @property
    def config(self) -> str:
        return f"examples/{self.name}.yaml"


@dataclass(frozen=True)
class Found:
    """What was worked out for one example; `missing` names baselines that were not ranked, `has_untrained` says whether
    the base model as it is was.
    """

    example: Example
    dataset: Dataset
    board: Leaderboard
    slices: Part | None
    missing: tuple[str, ...]
    has_untrained: bool


def main() -> int:
    """Read, write, and the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("examples", nargs="*", default=EXAMPLES, metavar="EXAMPLE[=RUN]")
    parser.add_argument("--out", type=Path, help="the Markdown file to write (default: eval/RESULTS.md)")
    parser.add_argument("--seed", type=int, default=7, help="of intervals and tests (default: %(default)s)")
    given = parser.parse_args()
    chosen = named(given.examples)
    found: list[Found] = []
    absent: dict[Example, str] = {}
    for example in chosen:
        try:
            found += work_out(example, given.seed)
        except DataError as error:
            absent[example] = ranking_command(example)
            print(f"{example.name} is left out: {error} Here that is `{absent[example]}`.", file=sys.stderr)
    if not found:
        return 1
    sections: dict[str, list[str]] = {}
    for one in found:
        sections.setdefault(one.example.name, []).append(section(one))
    sections |= {one.name: [f"## {one.name}\n\nNot ranked. `{make}` does it.\n"] for one, make in absent.items()}
    out = given.out or OUT
    kept = {} if given.out else sections_of(out, set(EXAMPLES) - sections.keys())
    trained = RESULTS / "equal_time.json"
    last = [texts.equal_time(read_object(trained))] if trained.is_file() and not given.out else []
    with atomic_path(out) as path:
        path.write_text("\n".join([INTRODUCTION, *_in_order(sections | kept), *last]), encoding="utf-8")
    print(
        texts.table(
            texts.SHORT_HEADS, [row for one in found for row in texts.short_rows(one.example.name, one.board)], 2
        )
    )
    bars = [one for each in found for one in bars_of(each)]
    bars += [bar(f"{example.name}, rankers", 0, ">= 1", False) for example in absent]
    name, folder = (given.out.stem, given.out.parent) if given.out else ("leaderboard", None)
    datasets = {example.name: [as_json(one) for one in found if one.example == example] for example in chosen}
    if kept:
        before = read_object(RESULTS / "leaderboard.json")
        bars += [one for one in before["bars"] if one["name"].split(",")[0] in kept]
        datasets |= {name: [one for one in before["datasets"] if one["example"] == name] for name in kept}
    return record(name, given.seed, bars, script="leaderboard", folder=folder, datasets=_in_order(datasets))


def sections_of(path: Path, names: set[str]) -> dict[str, list[str]]:
    """What the results say of some examples; one that they do not have is left out."""
    written = re.split(r"^(?=## )", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:] if path.is_file() else []
    found: dict[str, list[str]] = {}
    for text in written:
        if (name := text.splitlines()[0].removeprefix("## ")) in names:
            found.setdefault(name, []).append(f"{text.rstrip()}\n")
    return found


def _in_order(of_example: Mapping[str, Sequence[Any]]) -> list[Any]:
    """All of them in one list, example by example, in the order of EXAMPLES."""
    known = [name for name in EXAMPLES if name in of_example]
    others = [name for name in of_example if name not in EXAMPLES]
    return [one for name in (*known, *others) for one in of_example[name]]


def named(arguments: Sequence[str]) -> list[Example]:
    """The requested examples, each once, with all its runs."""
    runs: dict[str, list[Path]] = {}
    for argument in arguments:
        name, _, run = argument.partition("=")
        if not (ROOT / "examples" / f"{name}.yaml").is_file():
            sys.exit(
                f"{argument}: expected EXAMPLE or EXAMPLE=RUN with a configuration of examples/, found no {name}.yaml."
            )
        runs.setdefault(name, []).append(Path(run) if run else ROOT / "runs" / name)
    return [Example(name, tuple(paths)) for name, paths in runs.items()]


def work_out(example: Example, seed: int) -> Iterator[Found]:
    """One for each data that the example's runs hold: one, unless they were prepared otherwise."""
    for dataset in read_datasets(example.runs, texts.METRIC, SPLIT):
        ranked = {ranker.slug for ranker in dataset.rankers}
        chosen = [name for name in get_args(BaselineName) if name not in needless(dataset)]
        missing = tuple(name for name in chosen if slug_of(name) not in ranked)
        board = leaderboard(dataset, seed)
        yield Found(example, dataset, board, slicing(dataset, seed), missing, UNTRAINED in ranked)


def needless(dataset: Dataset) -> tuple[BaselineName, ...]:
    """Baselines that this data has nothing for: not ranked, or ranking as popularity does."""
    without: list[BaselineName] = [] if has_coordinates(dataset.histories.items) else ["nearest"]
    if any(ranker.protocol.get("repeats") == "excluded" for ranker in dataset.rankers):
        without += ["own counts", "own counts by hour of week"]
    return tuple(without)


def ranking_command(example: Example, baselines: Sequence[str] = ()) -> str:
    """What ranks the test split: model and quick baselines, or these baselines."""
    chosen = [word for name in baselines for word in ("--baseline", name)]
    return shlex.join(["whereupon", "evaluate", example.config, *(["--baselines-only"] if chosen else []), *chosen])


def section(found: Found) -> str:
    """All that RESULTS.md says of one example."""
    dataset, config = found.dataset, found.example.config
    head = headline(dataset, found.board)
    parts = [f"## {found.example.name}\n", f"{head['sentence']}\n", *(f"- {caveat}\n" for caveat in head["caveats"])]
    if found.missing:
        command = ranking_command(found.example, found.missing)
        parts.append(f"Not ranked: {', '.join(found.missing)}. Rank them by `{command}`.\n")
    if not found.has_untrained:
        command = f"{ranking_command(found.example)} --no-adapter"
        parts.append(f"Not ranked: the model without fine-tuning. Rank it by `{command}`.\n")
    parts += [texts.board_table(found.board), "### How each line was made\n", texts.made(dataset, config)]
    if text := texts.beyond(dataset):
        parts += ["### Beyond accuracy\n", text]
    if found.slices:
        parts += [f"### {texts.METRIC} by part\n", texts.slices(dataset, found.slices)]
    if text := texts.context(dataset, config):
        parts.append(text)
    return "\n".join(parts)


def bars_of(found: Found) -> list[dict[str, Any]]:
    """Whether the table is what it should be: everybody there, everybody tested, every line to be made again."""
    name, rows, reference = found.example.name, found.board.rows, found.dataset.reference
    models = sum(row.ranker.kind == "model" and row.ranker.slug != UNTRAINED for row in rows)
    own = [row.metrics[texts.METRIC] for row in rows]
    unsure = sum(one is None or not one.has_interval for one in own)
    untested = sum(
        row.ranker is not reference and (row.against is None or np.isnan(row.against.p_holm)) for row in rows
    )
    lost = sum(not row.ranker.facts.get("command") or "seed" not in row.ranker.facts for row in rows)
    return [
        bar(f"{name}, fine-tuned models", models, ">= 1", models >= 1),
        bar(f"{name}, the model without fine-tuning", int(found.has_untrained), "1", found.has_untrained),
        bar(f"{name}, baselines not ranked", len(found.missing), "0", not found.missing),
        bar(f"{name}, rankers without interval", unsure, "0", not unsure),
        bar(f"{name}, rankers not tested against {found.dataset.reference_role}", untested, "0", not untested),
        bar(f"{name}, lines without command or seed", lost, "0", not lost),
    ]


def as_json(found: Found) -> dict[str, Any]:
    """The leaderboard in full precision."""
    dataset = found.dataset
    return {
        "example": found.example.name, "split": dataset.split, "num_events": len(dataset.row_E),
        "num_users": len(np.unique(dataset.user_E)), "num_items": dataset.histories.items.height,
        "data_hash": dataset.histories.data_hash, "catalogue_hash": dataset.histories.catalogue_hash,
        "best_baseline": dataset.reference.name if dataset.reference.is_baseline else None,
        "num_tests": found.board.num_tests,
        "rankers": [_row(row, found.example.config) for row in found.board.rows], "not_ranked": found.missing,
    }  # fmt: skip


def _row(row: Row, config: str) -> dict[str, Any]:
    facts = {name: row.ranker.facts.get(name) for name in ("kind", "seed", "wall_s")}
    facts |= {"settings": texts.own_settings(row.ranker), "command": texts.command_of(row.ranker, config)}
    metrics = {name: _numbers(one) for name, one in row.metrics.items() if one}
    difference = _numbers(row.against) if row.against else None
    return {"name": row.ranker.name, **facts, "metrics": metrics, "per_user": row.per_user, "difference": difference}


def _numbers(one: Estimate) -> dict[str, float | None]:
    return finite({name: value for name, value in vars(one).items() if not name.startswith("num_")})


if __name__ == "__main__":
    sys.exit(main())
