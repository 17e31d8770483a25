"""What each part adds: the parts of the log-odds of true items, where the rankings have them (`eval.parts`).

Shapes: E = events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from markupsafe import Markup

from ...arrays import Bool, Float64
from ...rankers.parts import GATE, MODEL, NORMALISER
from ..metrics import VISITS
from ..parts import other_items, read_parts
from ..slices import first_visits
from ..wording import signed
from . import pictures as svg
from .runs import Dataset, Ranked
from .sections import Part
from .statistics import FEW_DRAWS, Difference, among, differences

EVERYTHING: Final = "all events"
TOTAL: Final = "together"
MEANINGS: Final = {
    GATE: "whether the item is one that the user chose before or a new one",
    NORMALISER: "what the rankers' scores are divided by, which differs between items chosen before and new ones",
    MODEL: "what the language model changed",
}


def added_parts(dataset: Dataset, seed: int) -> list[Part]:
    """For each ranker whose log-odds are known by parts: their means over all events, first visits and repeats.

    `groups` are those of the events, with how many; `rows` are name and estimates (`Difference` from 0) by group, the
    last row is the sum; `panels` are a picture for each group, all on one scale; `meanings` explain what is no ranker.
    All tests of a ranker's parts are corrected together.
    """
    found = []
    for ranker in dataset.rankers:
        if (parts := _parts_of(dataset, ranker)) is not None:
            found.append(_added(dataset, ranker, parts, seed))
    return found


def explained(dataset: Dataset, position: int, parts: tuple[Ranked, Mapping[str, Float64]] | None) -> Part | None:
    """The parts of one event's log-odds; None where they are not known.

    `other` is the item that the true one is held against, `rows` are part and value, `total` is their sum.
    """
    if parts is None or np.isnan(parts[1][MODEL][position]):
        return None
    ranker, value_E = parts
    item_E = dataset.histories.item_idx_N[dataset.row_E[[position]]].astype(np.int64)
    [other], _ = other_items(ranker.rankings.take(np.array([position])), item_E)
    rows = [(name, float(one_E[position])) for name, one_E in value_E.items()]
    kept = [(name, value) for name, value in rows if name != NORMALISER or abs(value) >= 5e-4]
    return {"ranker": ranker, "other": str(dataset.histories.items["title"][int(other)]), "rows": kept,
            "total": sum(value for _, value in rows)}  # fmt: skip


def first_with_parts(dataset: Dataset) -> tuple[Ranked, Mapping[str, Float64]] | None:
    """The best ranker whose log-odds are known by parts, and these."""
    for ranker in dataset.rankers:
        if (parts := _parts_of(dataset, ranker)) is not None:
            return ranker, parts
    return None


def _parts_of(dataset: Dataset, ranker: Ranked) -> dict[str, Float64] | None:
    parts = read_parts(ranker.folder, ranker.slug, dataset.row_E)
    return parts if parts and MODEL in parts and not np.isnan(parts[MODEL]).all() else None


def _added(dataset: Dataset, ranker: Ranked, parts: Mapping[str, Float64], seed: int) -> Part:
    total_E: Float64 = np.sum(list(parts.values()), axis=0)
    known_E = ~np.isnan(total_E)
    groups = _groups(dataset, known_E)
    shown = {**parts, TOTAL: total_E}
    keys = [(name, group) for name in shown for group in groups]
    cells = differences(keys, lambda key: among(shown[key[0]], groups[key[1]]), dataset.user_E, seed, FEW_DRAWS)
    rows = [(name, [cells[name, group] for group in groups]) for name in shown]
    ends = [0.0, *(end for one in cells.values() for end in _ends(one))]
    margin = 0.06 * (max(ends) - min(ends) or 0.1)
    ends_of = (min(ends) - margin if min(ends) < 0 else 0.0, max(ends) + margin)
    counts = {group: int(mask_E.sum()) for group, mask_E in groups.items()}
    panels = [
        (group, _draw(group, [(name, row[at]) for name, row in rows], *ends_of)) for at, group in enumerate(counts)
    ]
    meanings = {name: MEANINGS[name] for name in parts if name in MEANINGS}
    return {"ranker": ranker, "groups": counts, "rows": rows, "panels": panels, "meanings": meanings,
            "num_unknown": int((~known_E).sum())}  # fmt: skip


def _groups(dataset: Dataset, known_E: Bool) -> dict[str, Bool]:
    """Which events: all of known parts, and first visits and repeats where there are both."""
    is_first_E = first_visits(dataset.histories)[dataset.row_E]
    apart = {name: known_E & (is_first_E == is_first) for name, is_first in VISITS.items()}
    return {EVERYTHING: known_E, **(apart if all(mask_E.any() for mask_E in apart.values()) else {})}


def _ends(one: Difference) -> list[float]:
    return [end for end in (one.mean, one.low, one.high) if np.isfinite(end)]


def _draw(group: str, rows: list[tuple[str, Difference]], low: float, high: float) -> Markup:
    """Bars from 0 to either side, a row each."""
    each = [(name, (one,), signed(one.mean)) for name, one in rows]
    said = f"Mean parts of the log-odds of true items, {group}: {'; '.join(f'{name} {note}' for name, _, note in each)}"
    left = 6.6 * max(len(name) for name, _ in rows) + 14
    return svg.rows(each, low, high, left=left, width=left + 240, said=said, as_bars=True)
