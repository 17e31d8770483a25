"""`whereupon report`: one HTML file that needs nothing else, from the rankings in run folders."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ...console import say
from ...errors import ConfigError, DataError
from ...files import atomic_path
from ..metrics import Metric
from ..pages import page_environment
from ..rankings import typed_command
from .ablation import ablations
from .examples import examples
from .headline import headline
from .hit_map import hit_map
from .parts import added_parts
from .pictures import CONTENDER, OPPONENT, key
from .provenance import provenance
from .runs import Dataset, read_datasets
from .sections import Part, beyond_accuracy, leaderboard, over_time, recall_curves, reliability, slicing
from .statistics import FEWEST_EVENTS, LEVEL_TEXT

PARTS: Final = {  # anchor and name of each, in order; what a dataset does not have is left out
    "leaderboard": "Leaderboard", "curves": "Recall curves", "slices": "Slices", "adds": "What each part adds",
    "ablation": "What the context is worth", "calibration": "Calibration", "time": "Over time", "map": "Map",
    "examples": "Examples", "beyond": "Beyond accuracy", "provenance": "How to reproduce",
}  # fmt: skip


def report(
    runs: Sequence[Path], out: Path, *, metric: str = "nDCG@10", split: str | None = None, seed: int = 7
) -> Path:
    """Write the report of some run folders to the HTML file `out`; runs of the same data and split share a section.

    `metric` orders rankers and is sliced; `split` is a folder within `evaluation` (None: "test", or the only one there
    is); `seed` is that of intervals, tests and examples.

    Raises:
        ConfigError: there is no such metric.
        DataError: a folder is no run, or was not evaluated; `out` is a folder.
    """
    if out.is_dir():
        raise DataError(f"{out} is a folder; name the HTML file to write, such as {out / 'report.html'}.")
    began = time.perf_counter()
    name = metric_named(metric)
    datasets = read_datasets(runs, name, split)
    sections = [section_of(dataset, f"data-{number}", seed) for number, dataset in enumerate(datasets, start=1)]
    text = render(sections, name, seed)
    with atomic_path(out) as path:
        path.write_text(text, encoding="utf-8")
    say(f"{out}: {len(text.encode()) / 1e3:,.0f} kB in {time.perf_counter() - began:.1f} s")
    return out


def metric_named(name: str) -> str:
    """The canonical name of a metric. Raises ConfigError where there is none."""
    try:
        return Metric.parse(name).name
    except ValueError as error:
        raise ConfigError(f"{error}.") from None


def section_of(dataset: Dataset, anchor: str, seed: int) -> Part:
    """All that the page shows of one dataset, by the names of `PARTS`; `anchor` is the id of its heading."""
    board = leaderboard(dataset, seed)
    groups, notes = ablations(dataset, seed)
    found = headline(dataset, board)
    section = {
        "id": anchor, "dataset": dataset, "headline": found, "caveats": [*found["caveats"], *notes],
        "leaderboard": board, "curves": recall_curves(dataset),
        "slices": slicing(dataset, seed), "adds": added_parts(dataset, seed), "ablation": groups,
        "calibration": reliability(dataset, seed), "time": over_time(dataset, seed), "map": hit_map(dataset),
        "examples": examples(dataset, seed), "beyond": beyond_accuracy(dataset), "provenance": provenance(dataset),
    }  # fmt: skip
    return {**section, "parts": {name: PARTS[name] for name in PARTS if section[name]}}


def render(sections: Sequence[Part], metric: str, seed: int) -> str:
    """The page. Templates escape whatever is no markup, and an unknown name in them is an error."""
    environment = page_environment()
    names = list(dict.fromkeys(f"{section['dataset'].name}, {section['dataset'].split}" for section in sections))
    environment.globals |= {
        "sections": sections, "metric": metric, "seed": seed, "level": LEVEL_TEXT, "kicker": "Evaluation report",
        "title": names[0] if len(names) == 1 else f"{len(names)} datasets: {'; '.join(names)}",
        "command": typed_command(),
        "fewest_events": FEWEST_EVENTS, "keys": {"contender": key(CONTENDER), "opponent": key(OPPONENT)},
        "lower_is_better": Metric.parse(metric).lower_is_better,
    }  # fmt: skip
    environment.globals["m"] = environment.get_template("macros.html.j2").module
    return environment.get_template("report.html.j2").render()
