"""What time, place and weather are worth: the same ranker with each of them removed, shuffled, or never learnt."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Final

import numpy as np
from markupsafe import Markup

from ...errors import DataError
from ...prompts import CONTEXT_KINDS
from ..ablation_table import MEANINGS
from ..rankings import ABLATION, ablated_folder
from ..significance import paired
from ..wording import signed
from .pictures import rows
from .runs import Dataset, Ranked, read_datasets
from .sections import Part
from .statistics import differences, estimates

HOW: Final = {str(how): meaning for how, meaning in MEANINGS.items()}
COUNTED: Final = "left out of what is counted, with the settings of the whole"  # who counts reads no prompts


def ablations(dataset: Dataset, seed: int) -> tuple[list[Part], list[str]]:
    """One group for each ranker that was ablated, and a sentence on each ablation that is left out.

    Where nothing of the whole split was ablated, those of its largest sample are shown: then `sample` are its events
    and users. All tests of a dataset are corrected together. `changed_share` of a variant is the share of events whose
    own line in the prompt became another; None where it was not counted.
    """
    sample = None if dataset.ablations else _sample(dataset)
    source = sample or dataset
    whole_of, notes = _wholes(source)
    if not whole_of:
        return [], notes
    metric, user_E, wholes = source.metric, source.user_E, list(dict.fromkeys(whole_of.values()))
    found = estimates([*wholes, *whole_of], lambda one: one.value_E[metric], user_E, seed)
    tests = differences(whole_of, lambda one: paired(one.value_E[metric], whole_of[one].value_E[metric]), user_E, seed)
    size = (len(sample.row_E), len(np.unique(sample.user_E))) if sample else None
    groups = []
    for whole in wholes:
        own = sorted((one for one in whole_of if whole_of[one] is whole), key=_place)
        variants: list[Part] = [
            {"ranker": one, "what": one.facts.get("ablated", "unknown"), "how": one.facts.get("how", "unknown"),
             "changed_share": one.facts.get("changed_share"), "estimate": found[one], "against": tests[one]}
            for one in own
        ]  # fmt: skip
        ways = {one["how"]: COUNTED if whole.is_baseline else HOW.get(one["how"], one["how"]) for one in variants}
        groups.append({"whole": whole, "estimate": found[whole], "variants": variants, "sample": size, "ways": ways,
                       "has_changed_shares": any(one["changed_share"] is not None for one in variants),
                       "picture": _draw(metric, variants)})  # fmt: skip
    return groups, notes


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


def _wholes(dataset: Dataset) -> tuple[dict[Ranked, Ranked], list[str]]:
    """The ranker that each ablation is of; a sentence on those whose ranker is not there as it was."""
    by_slug = {(ranker.run, ranker.slug): ranker for ranker in dataset.rankers}
    whole_of, notes = {}, []
    for variant in dataset.ablations:
        whole = by_slug.get((variant.run, str(variant.facts.get("of"))))
        keys = {variant.facts.get("of_key"), whole.facts.get("key")} if whole else set()
        if whole is None:
            notes.append(f"{variant.name} is an ablation of {variant.facts.get('of')}, which is not among the rankers.")
        elif len(keys) > 1 and None not in keys:
            notes.append(f"{variant.name} is an ablation of an earlier {whole.name}, and is left out.")
        else:
            whole_of[variant] = whole
    return whole_of, notes


def _place(variant: Ranked) -> list[int]:
    """Where it stands in a table; what has no place comes last."""
    what, how = variant.facts.get("ablated"), variant.facts.get("how")
    return [[*CONTEXT_KINDS, what].index(what), [*HOW, how].index(how)]


def _draw(metric: str, variants: Sequence[Part]) -> Markup:
    """Differences from the whole, a row each; the line at 0 is the whole."""
    tests = [variant["against"] for variant in variants]
    names = [f"{variant['what']} {variant['how']}" for variant in variants]
    each = [(name, (one,), signed(one.mean)) for name, one in zip(names, tests, strict=True)]
    ends = [0.0, *(end for one in tests for end in (one.mean, one.low, one.high) if isfinite(end))]
    margin = 0.06 * (max(ends) - min(ends) or 0.01)
    title = f"difference in {metric} from the whole"
    said = f"{title}: {'; '.join(f'{name} {note}' for name, _, note in each)}"
    left = 7.0 * max(map(len, names)) + 14
    return rows(each, min(ends) - margin, max(ends) + margin, left=left, width=400, title=title, said=said)
