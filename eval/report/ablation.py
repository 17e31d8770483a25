"""What time, place and weather are worth: the same ranker with each of them removed, shuffled, or never learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from typing import Final

import numpy as np
from markupsafe import Markup

from ...errors import DataError
from ...prompts import CONTEXT_KINDS
from ..ablation_table import MEANINGS
from ..rankings import ABLATION, ablated_folder
from ..wording import signed, span
from .runs import Dataset, Ranked, read_datasets, was_replaced
from .statistics import Difference, Estimate, differences, estimates, paired
from .style import CONTENDER, twice
from .svg import Scale, labels, picture, rule, text, text_width, ticks, x_axis

__all__ = ["Ablations", "Variant", "ablations"]

HOW: Final[Mapping[str, str]] = {str(how): meaning for how, meaning in MEANINGS.items()}
COUNTED: Final = "left out of what is counted, with the settings of the whole"  # who counts reads no prompts


@dataclass(frozen=True)
class Variant:
    """A ranker without something; `against` is its metric less that of the whole ranker.

    `changed_share` is the share of events whose own line in the prompt became another; None where nobody counted.
    """

    ranker: Ranked
    what: str
    how: str
    changed_share: float | None
    estimate: Estimate
    against: Difference


@dataclass(frozen=True)
class Ablations:
    """The variants of one ranker, and the ranker itself; `sample`: events and users, if not all were asked about."""

    whole: Ranked
    estimate: Estimate
    variants: Sequence[Variant]
    picture: Markup
    sample: tuple[int, int] | None = None

    @property
    def ways(self) -> list[tuple[str, str]]:
        """Each way of taking away that occurs, and what it means."""
        ways = dict.fromkeys(variant.how for variant in self.variants)
        return [(how, COUNTED if self.whole.is_baseline else HOW.get(how, how)) for how in ways]

    @property
    def has_changed_shares(self) -> bool:
        return any(variant.changed_share is not None for variant in self.variants)


def ablations(dataset: Dataset, seed: int) -> tuple[list[Ablations], list[str]]:
    """One group for each ranker that was ablated, and a sentence on each ablation that is left out.

    Where nothing of the whole split was ablated, those of its largest sample are shown. All tests of a dataset are
    corrected together.
    """
    sample = None if dataset.ablations else _sample(dataset)
    groups, notes = _groups(sample or dataset, seed)
    size = (len(sample.row_E), len(np.unique(sample.user_E))) if sample else None
    return [replace(group, sample=size) for group in groups], notes


def _sample(dataset: Dataset) -> Dataset | None:
    """The rankings of the largest sample of the dataset's events that was ablated, where it is of the same data."""
    found = [one for folder in {ranker.folder for ranker in dataset.rankers} if (one := ablated_folder(folder))]
    name = max(((limit, folder.name) for folder, limit in found if limit), default=(0, ""))[1]
    runs = [run for run in dataset.runs if name and (run / "evaluation" / name / f"{ABLATION}.json").is_file()]
    try:
        read = read_datasets(runs, dataset.metric, name)
    except DataError:  # made of data that is not there any more
        return None
    ours = dataset.histories
    same = [one for one in read if one.histories.data_hash == ours.data_hash]
    return next((one for one in same if one.histories.catalogue_hash == ours.catalogue_hash), None)


def _groups(dataset: Dataset, seed: int) -> tuple[list[Ablations], list[str]]:
    """See `ablations`, of those of the dataset itself."""
    by_slug = {(ranker.run, ranker.slug): ranker for ranker in dataset.rankers}
    pairs, notes = [], []
    for variant in dataset.ablations:
        whole = by_slug.get((variant.run, str(variant.facts.get("of"))))
        if whole is None:
            notes.append(f"{variant.name} is an ablation of {variant.facts.get('of')}, which is not among the rankers.")
        elif was_replaced(variant.facts.get("of_key"), whole.facts.get("key")):
            notes.append(f"{variant.name} is an ablation of an earlier {whole.name}, and is left out.")
        else:
            pairs.append((variant, whole))
    if not pairs:
        return [], notes
    metric, wholes = dataset.metric, list(dict.fromkeys(whole for _, whole in pairs))
    everyone = [*wholes, *(variant for variant, _ in pairs)]
    found = estimates(((one, one.value_E[metric]) for one in everyone), dataset.user_E, seed)
    against = ((variant, paired(variant.value_E[metric], whole.value_E[metric])) for variant, whole in pairs)
    tests = differences(against, dataset.user_E, seed)
    groups = []
    for whole in wholes:
        variants = [_variant(one, found[one], tests[one]) for one, of in pairs if of is whole]
        variants.sort(key=lambda one: (_place(one.what, CONTEXT_KINDS), _place(one.how, tuple(HOW))))
        picture = twice(partial(_draw, metric, variants))
        groups.append(Ablations(whole, found[whole], variants, picture))
    return groups, notes


def _variant(ranker: Ranked, estimate: Estimate, against: Difference) -> Variant:
    what, how = (str(ranker.facts.get(name, "unknown")) for name in ("ablated", "how"))
    return Variant(ranker, what, how, ranker.facts.get("changed_share"), estimate, against)


def _place(name: str, order: Sequence[str]) -> int:
    """Where it stands in the order; what is not in it comes last."""
    return order.index(name) if name in order else len(order)


def _draw(metric: str, variants: Sequence[Variant], width: float) -> Markup:
    """Differences from the whole as points with whiskers, a row each; the line at 0 is the whole."""
    names = [f"{variant.what} {variant.how}" for variant in variants]
    left, right, top, step = max(map(text_width, names)) + 20, width - 14, 26.0, 26.0
    bottom = top + step * len(variants)
    ends = [end for v in variants for end in (v.against.mean, v.against.low, v.against.high) if isfinite(end)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    margin = 0.06 * (high - low or 0.01)
    x = Scale(low - margin, high + margin, left, right)
    at = ticks(x.low, x.high, 5 if width > 500 else 3)
    parts = [text(left, 12, f"difference in {metric} from the whole", class_="axis-title")]
    parts += [x_axis(x, at, labels(at), top, bottom), rule(x(0), top - 4, x(0), bottom, "zero")]
    for row, (variant, name) in enumerate(zip(variants, names, strict=True)):
        y, one = top + step * (row + 0.5), variant.against
        parts.append(text(left - 12, y + 4, name, "end"))
        tip = f"{name}: {signed(one.mean)} ({span(one.low, one.high, sign=True)})"
        parts.append(CONTENDER.estimate(one, x, y, tip))
    said = "; ".join(f"{name} {signed(v.against.mean)}" for name, v in zip(names, variants, strict=True))
    return picture(width, bottom + 26, parts, f"difference in {metric} from the whole: {said}")
