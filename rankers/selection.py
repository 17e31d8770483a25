"""Which rankers a stack is made of, and with what weights: fitted to validation events.

Greedy forward selection: the ranker that lowers the log-loss most joins, until none lowers it by `MIN_GAIN`. The
log-loss is cross-validated over two halves of the users, so that a ranker that only fits noise does not join; final
weights are fitted to all events. The two parts of a stack, items chosen before and new ones, choose apart.

Shapes: E = validation events, D = those of one part, J = their alternatives end to end, K = rankers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..arrays import Bool, Float64, Int64
from ..decode.segments import Segments
from ..histories import Histories
from .fitting import ChoiceSets, fit_weights, likelihood
from .popular import popular_shares
from .protocol import Dense, Sparse
from .settings import BaselineName
from .stack import Part, Says, named, past_items

MIN_GAIN: Final = 0.003
"""Nats per event by which a ranker must lower the cross-validated log-loss."""
MAX_EVENTS: Final = 2_000
"""Validation events of a part that weights are fitted to, drawn by the seed."""
_RIDGE = 1e-3  # on weights of features that are scaled to a standard deviation of 1
_MAX_CELLS = 60_000_000  # alternatives times rankers held at once


@dataclass(frozen=True)
class Step:
    """A ranker that joined, and the cross-validated log-loss of a part from then on, in nats per event."""

    name: BaselineName
    log_loss: float


@dataclass(frozen=True)
class Selected:
    """What was chosen for a part: weights (above 0), the steps, each ranker's log-loss alone, and by how many events.

    `uniform` is the log-loss of saying nothing.
    """

    weights: Mapping[BaselineName, float]
    steps: Sequence[Step]
    alone: Mapping[BaselineName, float]
    uniform: float
    num_events: int


def select(
    part: Part, answers: Mapping[BaselineName, Dense | Sparse], histories: Histories, row_E: Int64, seed: int,
    *, all_of_them: bool = False,
) -> Selected:  # fmt: skip
    """Choose rankers and weights for one part by validation events `row_E`; `all_of_them`: weigh all, choose none.

    Events whose item belongs to the other part are passed over. Where no event is left, the first ranker alone has a
    weight of 1.
    """
    names = list(answers)
    sets, row_D = choice_sets(part, answers, histories, row_E, seed)
    if not len(row_D):
        return Selected({names[0]: 1.0}, [], {}, 0.0, 0)
    scale_K = np.array([_spread(feature_J, sets.ptr_D1) for feature_J in sets.feature_KJ])
    sets = ChoiceSets((sets.feature_KJ / scale_K[:, None]).astype(np.float32), *_without_features(sets))
    halves = _halves(sets, histories.user_idx_N[row_D])
    uniform = float(np.log(np.diff(sets.ptr_D1)).mean())
    alone = {name: _cross_validated(halves, [k], uniform) for k, name in enumerate(names)}
    steps, chosen, now = [], list(range(len(names))) if all_of_them else [], uniform
    while not all_of_them and len(chosen) < len(names):
        rest = [k for k in range(len(names)) if k not in chosen]
        losses = [alone[names[k]] if not chosen else _cross_validated(halves, [*chosen, k], uniform) for k in rest]
        best = int(np.argmin(losses))
        if losses[best] > now - MIN_GAIN and chosen:
            break
        chosen, now = [*chosen, rest[best]], losses[best]
        steps.append(Step(names[chosen[-1]], now))
    theta, _ = _fitted(sets, chosen)
    weights = {names[k]: float(weight / scale_K[k]) for k, weight in zip(chosen, theta, strict=True) if weight > 0}
    return Selected(weights or {names[chosen[0]]: 1.0}, steps, alone, uniform, len(row_D))


def choice_sets(
    part: Part, answers: Mapping[BaselineName, Dense | Sparse], histories: Histories, row_E: Int64, seed: int
) -> tuple[ChoiceSets, Int64]:  # fmt: skip
    """The events of one part as choices among its items, features K as `answers` are in order; and their rows [D]."""
    item_N, num_items = histories.item_idx_N.astype(np.int64), histories.items.height
    past_query_X, past_item_X = past_items(histories, row_E)
    known_E = np.isin(np.arange(len(row_E)) * num_items + item_N[row_E], past_query_X * num_items + past_item_X)
    row_D = row_E[known_E if part == "again" else ~known_E]
    per_event = num_items if part == "new" else int(np.diff(np.searchsorted(past_query_X, np.arange(len(row_E) + 1))).mean() + 1)
    most = max(100, min(MAX_EVENTS, _MAX_CELLS // (min(per_event, 20_000) * len(answers))))
    if len(row_D) > most:
        row_D = np.sort(np.random.default_rng(seed).choice(row_D, most, replace=False))
    share_I = popular_shares(histories, "valid")
    says = [Says.of(one, row_D, share_I, name) for name, one in answers.items()]
    query_X, item_X = past_items(histories, row_D)
    if part == "new":
        all_query_X, all_item_X = named(says, len(row_D), num_items)
        key_X = np.union1d(all_query_X * num_items + all_item_X, np.arange(len(row_D)) * num_items + item_N[row_D])
        query_X, item_X = np.divmod(np.setdiff1d(key_X, query_X * num_items + item_X, assume_unique=True), num_items)
    feature_KX = np.stack([one.at(query_X, item_X).astype(np.float32) for one in says])
    ptr_D1 = np.searchsorted(query_X, np.arange(len(row_D) + 1)).astype(np.int64)
    taken_D = np.flatnonzero(item_X == item_N[row_D][query_X]).astype(np.int64)
    return ChoiceSets(feature_KX, ptr_D1, taken_D, len(row_D)), row_D


def _without_features(sets: ChoiceSets) -> tuple[Int64, Int64, int]:
    return sets.ptr_D1, sets.taken_D, sets.num_events


def _spread(feature_J: Float64, ptr_D1: Int64) -> float:
    """Root of the mean square of a feature around each choice's mean, 1 where it says nothing."""
    edges = Segments(ptr_D1)
    centred_J = feature_J - edges.spread(edges.total(feature_J) / edges.count_X)
    return float(np.sqrt(np.mean(centred_J.astype(np.float64) ** 2))) or 1.0


def _halves(sets: ChoiceSets, user_D: Int64) -> list[tuple[ChoiceSets, ChoiceSets]]:
    """To fit on and to judge by: the users of even and of odd number, and the reverse."""
    _, number_D = np.unique(user_D, return_inverse=True)
    even_D: Bool = number_D % 2 == 0
    return [(sets.part(one), sets.part(~one)) for one in (even_D, ~even_D) if one.any() and not one.all()]


def _fitted(sets: ChoiceSets, feature_F: list[int]) -> tuple[Float64, float]:
    num = len(feature_F)
    bounds = np.zeros(num), np.full(num, np.inf)
    return fit_weights(sets.take(feature_F), np.full(num, 1.0 / num), *bounds, ridge=_RIDGE)


def _cross_validated(halves: list[tuple[ChoiceSets, ChoiceSets]], feature_F: list[int], uniform: float) -> float:
    """Mean log-loss, in nats per event, of weights that were fitted to the other half of the users."""
    if not halves:
        return uniform
    losses = [
        (likelihood(judged.take(feature_F), _fitted(fitted, feature_F)[0])[0], judged.num_events)
        for fitted, judged in halves
    ]
    return float(np.average([loss for loss, _ in losses], weights=[num for _, num in losses]))
