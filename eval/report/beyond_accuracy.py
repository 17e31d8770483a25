"""What else the rankers do: variety, novelty, popularity, distance; a table, since nobody competes for these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..beyond import beyond
from ..wording import count
from .runs import Dataset, Ranked

__all__ = ["BeyondAccuracy", "beyond_accuracy"]

K = 10
NAMES = {  # in the order of the table, with what each means; what the data does not have is left out
    f"coverage@{K}": "share of the catalogue in anybody's first 10",
    f"Gini@{K}": "how unequally the items are shown; 0 all alike",
    f"novelty@{K}": "self-information of the items shown, in bits",
    f"popularity-lift@{K}": "popularity of what is shown over that of what the user had chosen, minus 1",
    f"category-diversity@{K}": "share of a list's pairs of different category",
    f"km-diversity@{K}": "mean distance between a list's items, in km",
    "mean-km": "mean distance from the first item to the true one, in km",
    "median-km": "its median",
    "within-1km": "share within a kilometre of the truth",
}


@dataclass(frozen=True)
class BeyondAccuracy:
    """`columns` are name and meaning; rows a ranker each, in the order of the leaderboard; `notes` are sentences."""

    columns: Sequence[tuple[str, str]]
    rows: Sequence[tuple[Ranked, Mapping[str, float]]]
    notes: Sequence[str] = ()


def beyond_accuracy(dataset: Dataset) -> BeyondAccuracy | None:
    """None where rankings hold fewer than ten items."""
    if dataset.depth < K:
        return None
    rows = [(one, beyond(one.rankings, dataset.histories, dataset.part, K)) for one in dataset.rankers]
    known = {name for _, metrics in rows for name, value in metrics.items() if value == value}
    silent = {one.name: int((one.rankings.item_EK[:, 0] < 0).sum()) for one in dataset.rankers}
    said = "no item at all for {} of the events, which are in no mean."
    notes = [f"{name}: {said.format(count(num))}" for name, num in silent.items() if num]
    return BeyondAccuracy([(name, meaning) for name, meaning in NAMES.items() if name in known], rows, notes)
