"""Metrics beyond accuracy: variety, novelty, popularity, and the distance of the first item from the true one.

Popularity is the number of events that an item had in earlier splits than the predicted one, of all users; an item
that had none is novel, not impossible. Only the first k items of each list count; of a shorter list, those there are.

An item without category or coordinates takes part in no pair; an event without any known pair, list or distance counts
in no mean. Where no item has a category, or coordinates, the metrics that need them are left out.

Shapes: E = events, N = rows of the histories, I = items, K = items of a list, the first k only.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float64, Int32, Int64
from ..catalogue.item_facts import Names
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.distance import PlacesOnSphere, has_coordinates
from ..histories.questions import SPLIT_CODES, num_previous
from .metrics import macro, micro
from .rankings import Rankings

NEAR_KM: Final = 1.0


def list_metrics(rankings: Rankings, histories: Histories, split: EvaluatedSplit, k: int = 10) -> dict[str, float]:
    """What one ranker's answers to events of `split` are like, by name; NaN over nothing.

    The micro means of `list_metrics_per_event`, `coverage@k`, `Gini@k`, `popularity-lift@k` and `median-km`.

    Raises:
        ValueError: k is below 1 or above what the rankings hold.
    """
    per_event, item_EK = list_metrics_per_event(rankings, histories, split, k), rankings.item_EK[:, :k]
    count_I, popularity_E = earlier_counts(histories, split), per_event[f"popularity@{k}"]
    metrics = {f"coverage@{k}": coverage(item_EK, len(count_I)), f"Gini@{k}": gini(item_EK, len(count_I))}
    if "mean-km" in per_event:
        known_X = per_event["mean-km"][~np.isnan(per_event["mean-km"])]
        metrics["median-km"] = float(np.median(known_X)) if known_X.size else float("nan")
    metrics[f"popularity-lift@{k}"] = popularity_lift(popularity_E, rankings.row_E, histories, count_I)
    return metrics | {name: micro(value_E) for name, value_E in per_event.items()}


def list_metrics_per_event(
    rankings: Rankings, histories: Histories, split: EvaluatedSplit, k: int
) -> dict[str, Float64]:
    """Each event's own value, float64 [E], NaN where unknown; names that the items have no data for are left out.

    `novelty@k`: mean self-information -log2 p(item) of the list in bits (Vargas and Castells, "Rank and relevance in
    novelty and diversity metrics for recommender systems", RecSys 2011). `popularity@k`: mean popularity of the list,
    the event's share in ARP (Yin et al., "Challenging the long tail recommendation", VLDB 2012).
    `category-diversity@k`: share of the list's pairs that differ in category; `km-diversity@k`: their mean distance
    (Smyth and McClave, "Similarity vs. diversity", ICCBR 2001). `mean-km`: distance from the first item to the true
    one; `within-1km`: 1 where that is at most a kilometre, else 0.

    Raises:
        ValueError: see `list_metrics`.
    """
    if not 1 <= k <= rankings.k:
        raise ValueError(f"k should be from 1 to the {rankings.k} items that the rankings hold, not {k}")
    item_EK, items, count_I = rankings.item_EK[:, :k], histories.items, earlier_counts(histories, split)
    # One is added to each count, so that an item without any event is as novel as can be, and not infinitely so.
    surprise_I = np.log2(count_I.sum() + len(count_I)) - np.log2(count_I + 1)
    found = {f"novelty@{k}": _listed_mean(item_EK, surprise_I)}
    found[f"popularity@{k}"] = _listed_mean(item_EK, count_I.astype(np.float64))
    if "category" in items.columns and (codes := Names.of(items["category"])).names:
        code_I = np.append(codes.code_I, -1)  # that of item -1, which is none
        found[f"category-diversity@{k}"] = _pair_mean(code_I[item_EK], _differ)
    if has_coordinates(items):
        places = PlacesOnSphere.of(items)
        found[f"km-diversity@{k}"] = _pair_mean(item_EK, places.km)
        found["mean-km"] = distance_E = places.km(item_EK[:, 0], histories.item_idx_N[rankings.row_E])
        found["within-1km"] = np.where(np.isnan(distance_E), np.nan, distance_E <= NEAR_KM)
    return found


def earlier_counts(histories: Histories, split: EvaluatedSplit) -> Int64:
    """Number of events of each item in splits earlier than `split`: int64 [I]."""
    earlier_N = histories.split_N < SPLIT_CODES[split]
    return np.bincount(histories.item_idx_N[earlier_N], minlength=histories.items.height).astype(np.int64)


def coverage(item_EK: Int32, num_items: int) -> float:
    """Catalogue coverage: share of all items that stand in at least one list; 0 without events, NaN without items.

    It grows with the number of events. Source: Ge, Delgado-Battenfeld and Jannach, "Beyond accuracy", RecSys 2010.
    """
    return np.unique(item_EK[item_EK >= 0]).size / num_items if num_items else float("nan")


def gini(item_EK: Int32, num_items: int) -> float:
    """Gini coefficient of how often items are shown, all items of the catalogue included; NaN if nothing is shown.

    0: all equally often; 1 - 1 / num_items: always the same one. Source: Fleder and Hosanagar, "Blockbuster culture's
    next rise or fall", Management Science 55(5), 2009.
    """
    shown_I = np.sort(np.bincount(item_EK[item_EK >= 0], minlength=num_items)).astype(np.float64)
    if not shown_I.sum():
        return float("nan")
    place_I = np.arange(1, num_items + 1)
    return float(((2 * place_I - num_items - 1) * shown_I).sum() / (num_items * shown_I.sum()))


def popularity_lift(popularity_E: Float64, row_E: Int64, histories: Histories, count_I: Int64) -> float:
    """By how much more popular things are shown than the users' own histories hold: 0.5 is half as popular again.

    The mean over users of the mean popularity of what they were shown (`popularity_E`: of each list), divided by that
    of their own earlier events, less 1. Source: the group average popularity (GAP) of Abdollahpouri, Mansoury, Burke
    and Mobasher, "The unfairness of popularity bias in recommendation", RMSE workshop at RecSys 2019, with all users as
    the group. Events without a history or a list are left out; NaN if none is left or none of their items was popular.
    """
    popularity_N1 = np.append(0.0, np.cumsum(count_I[histories.item_idx_N], dtype=np.float64))
    user_E = histories.user_idx_N[row_E]
    num_E = num_previous(histories)[row_E].astype(np.float64)
    past_E = (popularity_N1[row_E] - popularity_N1[histories.offset_U1[user_E]]) / np.where(num_E > 0, num_E, np.nan)
    both_E = ~np.isnan(past_E) & ~np.isnan(popularity_E)
    shown, past = (macro(x_E[both_E], user_E[both_E]) for x_E in (popularity_E, past_E))
    return shown / past - 1 if past > 0 else float("nan")


def _listed_mean(item_EK: Int32, value_I: Float64) -> Float64:
    """Mean value of each list's items: float64 [E]; NaN for an empty list."""
    listed_EK = item_EK >= 0
    total_E = np.where(listed_EK, value_I[item_EK], 0.0).sum(axis=1)
    return _divided(total_E, listed_EK.sum(axis=1))


def _pair_mean(code_EK: Int32, apart: Callable[[Int32, Int32], Float64]) -> Float64:
    """Mean over each list's pairs of known distance: float64 [E]; NaN without any."""
    total_E, num_E = np.zeros((2, len(code_EK)))
    for i, j in combinations(range(code_EK.shape[1]), 2):
        apart_E = apart(code_EK[:, i], code_EK[:, j])
        known_E = ~np.isnan(apart_E)
        total_E += np.where(known_E, apart_E, 0.0)
        num_E += known_E
    return _divided(total_E, num_E)


def _differ(code_E: Int32, other_E: Int32) -> Float64:
    """1 where two codes differ, 0 where they do not, NaN where either is -1, unknown."""
    return np.where((code_E < 0) | (other_E < 0), np.nan, code_E != other_E)


def _divided(total_E: Float64, num_E: NDArray[np.number]) -> Float64:
    mean_E: Float64 = np.divide(total_E, num_E, out=np.full(len(total_E), np.nan), where=num_E > 0)
    return mean_E
