"""What is in run folders: rankers and their answers, on the same events; one `Dataset` for each data and split.

Shapes: E = events that all rankers of a dataset answered, K = items of a ranking.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from ...arrays import Float64, Int32, Int64
from ...errors import DataError
from ...files import read_object
from ...histories import Histories, read_histories
from ...histories.candidates import EvaluatedSplit
from ..metrics import METRICS, Metric, evaluate_rankings, micro
from ..rankings import ABLATION, Rankings, orphans_in, read_rankings, slugs_in


@dataclass(frozen=True, eq=False)
class Ranked:
    """One ranker's answers, in `folder` of a run, and the value of each by the metrics that it has: float64 [E]."""

    slug: str
    name: str
    run: Path
    folder: Path
    rankings: Rankings = field(repr=False)
    facts: Mapping[str, Any] = field(repr=False)
    value_E: Mapping[str, Float64] = field(repr=False)

    @property
    def kind(self) -> str:
        return str(self.facts.get("kind", "model"))

    @property
    def is_baseline(self) -> bool:
        return self.kind == "baseline"

    @property
    def protocol(self) -> Mapping[str, Any]:
        """The task and protocol by its facts."""
        found = self.facts.get("protocol")
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Dataset:
    """One section of the report: what several rankers, of one run or more, said of the same events.

    `name` is that of the data's recipe, or of the run folder; `split` a folder within `evaluation`, such as "test", or
    "test-500" for a sample; `row_E` int64 [E], rows of `histories.events`, ascending. `rankers` come best first by
    `metric` (its canonical name), at least one; `ablations` are variants of a ranker with something taken from it;
    `notes` are sentences on what is missing.
    """

    name: str
    split: str
    histories: Histories = field(repr=False)
    row_E: Int64 = field(repr=False)
    metric: str
    rankers: Sequence[Ranked]
    ablations: Sequence[Ranked] = ()
    notes: Sequence[str] = ()

    @property
    def user_E(self) -> Int32:
        """int32 [E], whose event it is."""
        return self.histories.user_idx_N[self.row_E]

    @property
    def part(self) -> EvaluatedSplit:
        """The split that the events are of, whether or not they are a sample of it."""
        return "valid" if self.split.split("-")[0] == "valid" else "test"

    @property
    def runs(self) -> list[Path]:
        return list(dict.fromkeys(ranker.run for ranker in self.rankers))

    @property
    def reference(self) -> Ranked:
        """The best baseline, against which all others are tested; the best of all where there is none."""
        return next((ranker for ranker in self.rankers if ranker.is_baseline), self.rankers[0])

    @property
    def reference_role(self) -> str:
        """What the reference is, in words."""
        return "the best baseline" if self.reference.is_baseline else "the best ranker"

    @property
    def contender(self) -> Ranked:
        """The best ranker that is no baseline; where there is none, the best of all."""
        return next((ranker for ranker in self.rankers if not ranker.is_baseline), self.rankers[0])

    @property
    def opponent(self) -> Ranked | None:
        """What the contender is shown against: the best baseline, or the second where it is that itself."""
        if self.reference is not self.contender:
            return self.reference
        return self.rankers[1] if len(self.rankers) > 1 else None

    @property
    def depth(self) -> int:
        """Down to which place every ranking is known."""
        return min(ranker.rankings.k for ranker in self.rankers)


def read_datasets(runs: Sequence[Path], metric: str = "nDCG@10", split: str | None = None) -> list[Dataset]:
    """All rankers of the runs, grouped by data, catalogue and split, ordered by the metric of this canonical name.

    `split` is a folder within `evaluation`; None: "test", or the only one there is.

    Raises:
        DataError: a folder is no run, was not evaluated, or has nothing left that belongs to its histories.
    """
    found: dict[tuple[str, str, str], tuple[Histories, list[Ranked], list[str]]] = {}
    for run in dict.fromkeys(runs):
        folder, histories = evaluation_folder_of(run, split), read_histories(run)
        key = (histories.data_hash, histories.catalogue_hash, folder.name)
        _, ranked, notes = found.setdefault(key, (histories, [], []))
        _read_all(folder, histories, metric, ranked, notes)
    return [_dataset(*parts, split_name, metric) for (_, _, split_name), parts in found.items()]


def evaluation_folder_of(run: Path, split: str | None) -> Path:
    """Where the rankings of a run are. Raises DataError: none there, or several and none is called "test"."""
    folder = run / "evaluation"
    names = sorted(path.name for path in folder.glob("*") if slugs_in(path))
    if not names:
        raise DataError(f"{run} should be a run folder with rankings in evaluation/; run `whereupon evaluate`.")
    chosen = split or ("test" if "test" in names else names[0] if len(names) == 1 else None)
    if chosen not in names:
        wanted = f"should hold the split {chosen!r} but holds" if chosen else "holds several splits, none of them test:"
        raise DataError(f"{folder} {wanted} {', '.join(names)}; choose one by --split.")
    return folder / str(chosen)


def read_ranked(run: Path, folder: Path, slug: str, metrics: Iterable[str]) -> Ranked:
    """One ranker as it stands in its folder, with the metrics known of it: none beyond the depth that was kept."""
    rankings, facts = read_rankings(folder, slug)
    deepest = rankings.k if (rankings.rank_E == 0).any() else np.inf
    parsed = [Metric.parse(name) for name in dict.fromkeys(metrics)]
    has_log_probs = rankings.log_prob_E is not None
    known = [m.name for m in parsed if m.depth <= deepest and (has_log_probs or not m.needs_log_probs)]
    name = str(facts.get("name", slug))
    return Ranked(slug, name, run, folder, rankings, facts, evaluate_rankings(rankings, known))


def _read_all(folder: Path, histories: Histories, metric: str, ranked: list[Ranked], notes: list[str]) -> None:
    """Add the rankers of one run; those made from other data than it holds now are left out, with a note."""
    run, before = folder.parent.parent, len(ranked)
    lost = f"in {run.name} have lost their Parquet file, and are left out."
    notes += (f"The rankings {slug!r} {lost}" for slug in orphans_in(folder))
    hashes = {"data_hash": histories.data_hash, "catalogue_hash": histories.catalogue_hash}
    for slug in slugs_in(folder):
        one = read_ranked(run, folder, slug, (*METRICS, metric))
        if any(one.facts.get(name, now) != now for name, now in hashes.items()):
            notes.append(f"{one.name} in {run.name} was ranked on other data than the run holds now, and is left out.")
        elif metric not in one.value_E:
            notes.append(f"{one.name} in {run.name} has no {metric}, {why_without(one, metric)}, and is left out.")
        else:
            ranked.append(one)
    if len(ranked) == before:
        raise DataError(f"{folder} should hold rankings of the run's present data but has none; {' '.join(notes)}")


def why_without(ranked: Ranked, metric: str) -> str:
    """Why rankings are without a metric, as a clause."""
    if Metric.parse(metric).needs_log_probs and ranked.rankings.log_prob_E is None:
        return "which needs log-probabilities"
    return f"as {ranked.rankings.k} items of each ranking were kept (`evaluate.k`)"


def _dataset(histories: Histories, found: list[Ranked], notes: list[str], split: str, metric: str) -> Dataset:
    run = found[0].run
    everyone = _of_one_task(_apart(found, notes), notes)
    rows = [ranker.rankings.row_E for ranker in everyone]
    common_E: Int64 = reduce(lambda a, b: np.intersect1d(a, b, assume_unique=True), rows)
    if not len(common_E):
        raise DataError(f"The rankers of {run} have no event in common; evaluate them on the same events.")
    if (most := max(map(len, rows))) > (num := len(common_E)):
        notes.append(f"Not every ranker answered all {most:,} events: judged on the {num:,} that all of them did.")
    sign = 1 if Metric.parse(metric).lower_is_better else -1
    ordered = sorted((_on(one, common_E) for one in everyone), key=lambda one: sign * micro(one.value_E[metric]))
    recipe = histories.manifest.get("recipe", "tables")
    name = run.name if recipe == "tables" else str(recipe)
    ablations, rankers = ([one for one in ordered if (one.kind == ABLATION) == is_one] for is_one in (True, False))
    if not rankers:
        raise DataError(f"{run} holds nothing but ablations of the {split} split; run `whereupon evaluate` too.")
    return Dataset(name, split, histories, common_E, metric, rankers, ablations, notes)


def _apart(rankers: list[Ranked], notes: list[str]) -> list[Ranked]:
    """Each ranker under a name of its own: what two runs agree in is kept once, what differs bears its run's name."""
    kept: dict[str, Ranked] = {}
    for ranker in rankers:
        same, run = kept.get(ranker.name), ranker.run.name
        if same is None:
            kept[ranker.name] = ranker
        elif all(np.array_equal(getattr(same.rankings, x), getattr(ranker.rankings, x)) for x in ("row_E", "rank_E")):
            notes.append(f"{ranker.name} is the same in {same.run.name} and {run}, and is shown once.")
        else:
            number = sum(other.startswith(f"{ranker.name} ({run})") for other in kept)
            name = f"{ranker.name} ({run})" + (f" {number + 1}" if number else "")
            kept[name] = replace(ranker, name=name)
    return list(kept.values())


def _of_one_task(rankers: list[Ranked], notes: list[str]) -> list[Ranked]:
    """Those that ranked the same task; of different events or candidates, the most common task stays."""
    tasks = [str(ranker.facts["task"]) for ranker in rankers if "task" in ranker.facts]
    common = max(tasks, key=tasks.count, default=None)
    kept = [ranker for ranker in rankers if ranker.facts.get("task", common) == common]
    if others := [ranker.name for ranker in rankers if ranker not in kept]:
        notes.append(f"Left out, as they ranked other events or candidates: {', '.join(others)}.")
    return kept


def _on(ranker: Ranked, row_E: Int64) -> Ranked:
    """The ranker's answers to these events alone."""
    chosen_E = np.searchsorted(ranker.rankings.row_E, row_E)
    values = {name: value_E[chosen_E] for name, value_E in ranker.value_E.items()}
    return replace(ranker, rankings=ranker.rankings.take(chosen_E), value_E=values)


def recorded(run: Path) -> dict[str, Any]:
    """What `run.json` says of each verb; nothing where it is missing or cut off: it is a record, never an input."""
    try:
        found = read_object(run / "run.json")
    except DataError:
        return {}
    return {verb: message for verb, message in found.items() if isinstance(message, dict)}
