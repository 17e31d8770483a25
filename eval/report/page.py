"""`whereupon report`: one HTML file that needs nothing else, from the rankings in run folders."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ... import __version__
from ...console import say
from ...errors import ConfigError, DataError
from ...files import atomic_path
from ..metrics import Metric
from ..rankings import typed_command
from ..wording import count, duration, p_value, plain, share, signed
from .ablation import Ablations, ablations
from .beyond_accuracy import BeyondAccuracy, beyond_accuracy
from .curves import Curves, recall_curves
from .examples import Examples, examples
from .headline import Headline, headline
from .hit_map import HitMap, hit_map
from .leaderboard import Leaderboard, leaderboard
from .over_time import OverTime, over_time
from .provenance import Provenance, provenance
from .reliability_curve import Reliability, reliability
from .runs import Dataset, read_datasets
from .slicing import Slices, slicing
from .statistics import FEWEST_EVENTS, LEVEL_TEXT
from .style import CONTENDER, OPPONENT, key

__all__ = ["Section", "metric_named", "render", "report", "section_of"]

TEMPLATES: Final = Path(__file__).parents[1] / "templates"


@dataclass(frozen=True)
class Section:
    """All that the page shows of one dataset. `id` is the anchor of its heading."""

    id: str
    dataset: Dataset
    board: Leaderboard
    headline: Headline
    curves: Curves
    slices: Slices
    ablations: Sequence[Ablations]
    reliability: Sequence[Reliability]
    over_time: OverTime | None
    map: HitMap | None
    examples: Examples
    beyond: BeyondAccuracy | None
    provenance: Provenance

    @property
    def parts(self) -> list[tuple[str, str]]:
        """Anchor and name of the parts that are there."""
        found: list[tuple[str, str, object]] = [
            ("leaderboard", "Leaderboard", True), ("curves", "Recall curves", True),
            ("slices", "Slices", self.slices.panels or self.slices.num_thin),
            ("ablation", "What the context is worth", self.ablations),
            ("calibration", "Calibration", self.reliability), ("time", "Over time", self.over_time),
            ("map", "Map", self.map), ("examples", "Examples", True), ("beyond", "Beyond accuracy", self.beyond),
            ("provenance", "How to reproduce", True),
        ]  # fmt: skip
        return [(anchor, name) for anchor, name, there in found if there]


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
    size = len(text.encode())
    shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
    say(f"{out}: {shown} in {time.perf_counter() - began:.1f} s")
    return out


def metric_named(name: str) -> str:
    """The canonical name of a metric. Raises ConfigError where there is none."""
    try:
        return Metric.parse(name).name
    except ValueError as error:
        raise ConfigError(f"{error}.") from None


def section_of(dataset: Dataset, anchor: str, seed: int) -> Section:
    """Everything worked out for one dataset."""
    board = leaderboard(dataset, seed)
    groups, notes = ablations(dataset, seed)
    told = headline(dataset, board)
    return Section(
        id=anchor, dataset=dataset, board=board,
        headline=replace(told, caveats=(*told.caveats, *notes)),
        curves=recall_curves(dataset), slices=slicing(dataset, seed), ablations=groups,
        reliability=reliability(dataset, seed), over_time=over_time(dataset, seed), map=hit_map(dataset),
        examples=examples(dataset, seed), beyond=beyond_accuracy(dataset), provenance=provenance(dataset),
    )  # fmt: skip


def render(sections: Sequence[Section], metric: str, seed: int) -> str:
    """The page."""
    names = list(dict.fromkeys(f"{section.dataset.name}, {section.dataset.split}" for section in sections))
    environment = _environment()
    shared: Mapping[str, Any] = {
        "sections": sections, "metric": metric, "seed": seed, "level": LEVEL_TEXT, "version": __version__,
        "title": names[0] if len(names) == 1 else f"{len(names)} datasets: {'; '.join(names)}",
        "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "command": typed_command(),
        "fewest_events": FEWEST_EVENTS, "keys": {"contender": key(CONTENDER), "opponent": key(OPPONENT)},
        "lower_is_better": Metric.parse(metric).lower_is_better,
    }  # fmt: skip
    environment.globals.update(shared)
    environment.globals["m"] = environment.get_template("macros.html.j2").module
    environment.globals["guesses"] = environment.get_template("guesses.html.j2").module.guesses  # type: ignore[attr-defined]
    return environment.get_template("report.html.j2").render()


def _environment() -> Environment:
    """Templates that escape whatever is no markup, and in which an unknown name is an error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "plain": plain, "signed": signed, "share": share, "p": p_value, "count": count, "duration": duration,
        "score": lambda value: f"{value:.3g}",
    }  # fmt: skip
    return environment
