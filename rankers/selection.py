"""Which rankers a stack is made of, and with what weights: fitted to validation events.

Greedy forward selection: the ranker that lowers the log-loss most joins, until none lowers it by `MIN_GAIN`. The
log-loss is cross-validated over two halves of the users, so that a ranker that only fits noise does not join; final
weights are fitted to all events. The parts of a stack choose apart. Whether there is a gate between two parts or one
pool of all items is decided by the same log-loss.

Shapes: E = validation events, D = those of one part, J = their alternatives end to end, K = rankers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..arrays import Bool, Float32, Float64, Int64
from ..decode.segments import Segments
from ..histories import Histories
from .fitting import ChoiceSets, fit_weights, likelihood
from .gate import Gate
from .popular import log_popular_shares
from .protocol import Dense, Sparse
from .settings import BaselineName
from .stack import SURE, Says, named, past_items

MIN_GAIN: Final = 0.02
"""Nats per event by which a ranker must lower the cross-validated log-loss."""
MAX_EVENTS: Final = 2_000
"""Validation events of a part that weights are fitted to, drawn by the seed."""
_RIDGE = 1e-3  # on weights of features that are scaled to a standard deviation of 1
_MAX_ALTERNATIVES = 1_500_000  # of all events together
_TRIED = 3  # rankers at each step: those that promise most

Pool = Literal["again", "new", "all"]
Answers = Mapping[BaselineName, "Dense | Sparse"]


@dataclass(frozen=True)
class Step:
    """A ranker that joined, and the cross-validated log-loss of a part from then on, in nats per event."""

    name: str
    log_loss: float


@dataclass(frozen=True)
class Selected:
    """What was chosen for a part: weights (above 0), the steps, each ranker's log-loss alone, and by how many events.

    `uniform` is the log-loss of saying nothing, `log_loss` that of the choice, cross-validated. `share_new`, of
    a gate: how many of its events had a new item.
    """

    weights: Mapping[str, float]
    steps: Sequence[Step]
    alone: Mapping[str, float]
    uniform: float
    log_loss: float
    num_events: int
    share_new: float = 0.0


def select(
    pool: Pool, answers: Answers, histories: Histories, row_E: Int64, seed: int, *, all_of_them: bool = False
) -> Selected:
    """Choose rankers and weights of one pool by validation events `row_E`; `all_of_them`: weigh all, choose none.

    Events whose item the pool does not hold are passed over. Where no event is left, the first ranker alone has a
    weight of 1.
    """
    names = list[str](answers)
    sets, row_D = choice_sets(pool, answers, histories, row_E, seed)
    if not len(row_D):
        return Selected({names[0]: 1.0}, [], {}, 0.0, 0.0, 0)
    return _greedy(names, sets, histories.user_idx_N[row_D], list(range(len(names))) if all_of_them else [])


def select_gate(gate: Gate, answers: Answers, histories: Histories, row_E: Int64) -> Selected:
    """Choose whose log-odds the gate pools, "history" for its own, and "bias" for what is added to all."""
    item_N, num_items, rows = histories.item_idx_N.astype(np.int64), histories.items.height, np.arange(len(row_E))
    past_query_X, past_item_X = past_items(histories, row_E)
    is_new_E = ~np.isin(rows * num_items + item_N[row_E], past_query_X * num_items + past_item_X)
    log_share_I = log_popular_shares(histories, "valid")
    odds: dict[str, Float64] = {"bias": np.ones(len(row_E)), "history": gate.log_odds(histories, row_E)}
    if not len(row_E) or is_new_E.all() or not is_new_E.any():
        return Selected({"history": 1.0}, [], {}, 0.0, 0.0, len(row_E), float(is_new_E.any()))
    for name, one in answers.items():
        says = Says.of(one, row_E, log_share_I, name)
        if says.is_log_prob:
            odds[name] = says.log_odds_new(len(row_E), past_query_X, past_item_X)
    feature_KJ = np.zeros((len(odds), 2 * len(row_E)), np.float32)
    feature_KJ[:, 1::2] = np.stack(list(odds.values())).clip(-SURE, SURE)
    sets = ChoiceSets(feature_KJ, 2 * np.arange(len(row_E) + 1), 2 * rows + is_new_E, len(row_E))
    found = _greedy(list(odds), sets, histories.user_idx_N[row_E], [0, 1], free=[0])
    return replace(found, share_new=float(is_new_E.mean()))


def choice_sets(
    pool: Pool, answers: Answers, histories: Histories, row_E: Int64, seed: int
) -> tuple[ChoiceSets, Int64]:
    """The events of one pool as choices among its items, features K as `answers` are in order; and their rows [D]."""
    item_N, num_items = histories.item_idx_N.astype(np.int64), histories.items.height
    past_query_X, past_item_X = past_items(histories, row_E)
    known_E = np.isin(np.arange(len(row_E)) * num_items + item_N[row_E], past_query_X * num_items + past_item_X)
    row_D = row_E if pool == "all" else row_E[known_E if pool == "again" else ~known_E]
    per_event = 1 + len(past_item_X) // max(1, len(row_E)) if pool == "again" else num_items
    most = max(100, min(MAX_EVENTS, _MAX_ALTERNATIVES // min(per_event, 20_000)))
    if len(row_D) > most:
        row_D = np.sort(np.random.default_rng(seed).choice(row_D, most, replace=False))
    log_share_I = log_popular_shares(histories, "valid")
    says = [Says.of(one, row_D, log_share_I, name) for name, one in answers.items()]
    query_X, item_X = past_items(histories, row_D)
    if pool != "again":
        past_X = query_X * num_items + item_X if pool == "new" else query_X[:0]
        all_query_X, all_item_X = named(says, len(row_D), num_items)
        key_X = np.union1d(all_query_X * num_items + all_item_X, np.arange(len(row_D)) * num_items + item_N[row_D])
        query_X, item_X = np.divmod(np.setdiff1d(key_X, past_X, assume_unique=True), num_items)
    feature_KX = np.stack([one.at(query_X, item_X).astype(np.float32) for one in says])
    ptr_D1 = np.searchsorted(query_X, np.arange(len(row_D) + 1)).astype(np.int64)
    taken_D = np.flatnonzero(item_X == item_N[row_D][query_X]).astype(np.int64)
    return ChoiceSets(feature_KX, ptr_D1, taken_D, len(row_D)), row_D


def _greedy(
    names: Sequence[str], sets: ChoiceSets, user_D: NDArray[np.int32], chosen: list[int], free: Sequence[int] = ()
) -> Selected:
    """Let rankers join those that are `chosen` from the start; weights of `free` ones may be below 0."""
    scale_K = np.array([_spread(feature_J, sets.ptr_D1) for feature_J in sets.feature_KJ])
    sets = replace(sets, feature_KJ=(sets.feature_KJ / scale_K[:, None]).astype(np.float32))
    halves = _halves(sets, user_D)
    uniform = float(np.log(np.diff(sets.ptr_D1)).mean())

    def loss_of(some: list[int]) -> float:
        return _cross_validated(halves, some, uniform, free)

    alone = {name: loss_of([k]) for k, name in enumerate(names)}
    now, steps = loss_of(chosen) if chosen else uniform, []
    all_chosen = len(chosen) == len(names)
    while not all_chosen and len(chosen) < len(names):
        rest = [k for k in range(len(names)) if k not in chosen]
        rest = _promising(sets, chosen, rest, free) if chosen else rest
        losses = [alone[names[k]] if not chosen else loss_of([*chosen, k]) for k in rest]
        if not losses:
            break
        best = int(np.argmin(losses))
        if losses[best] > now - MIN_GAIN and chosen:
            break
        chosen, now = [*chosen, rest[best]], losses[best]
        steps.append(Step(names[chosen[-1]], now))
    theta = _fitted(sets, chosen, free)
    weights = {names[k]: float(weight / scale_K[k]) for k, weight in zip(chosen, theta, strict=True) if weight}
    return Selected(weights or {names[chosen[0]]: 1.0}, steps, alone, uniform, now, sets.num_events)


def _promising(sets: ChoiceSets, chosen: list[int], rest: list[int], free: Sequence[int]) -> list[int]:
    """Those of the rest that would lower the loss most by a quadratic expansion at the weights of the chosen ones."""
    theta = np.zeros(len(sets.feature_KJ))
    theta[chosen] = _fitted(sets, chosen, free)
    _, slope, curve = likelihood(sets, theta)
    inverse = np.linalg.pinv(curve[np.ix_(chosen, chosen)])
    gain = {}
    for k in rest:
        across = curve[k, chosen]
        left = max(float(curve[k, k] - across @ inverse @ across), 1e-9)
        gain[k] = 0.5 * min(float(slope[k]), 0.0) ** 2 / left
    return sorted((k for k in rest if gain[k] > 0), key=lambda k: -gain[k])[:_TRIED]


def _spread(feature_J: Float32, ptr_D1: Int64) -> float:
    """Root of the mean square of a feature around each choice's mean, 1 where it says nothing."""
    edges = Segments(ptr_D1)
    centred_J = feature_J - edges.spread(edges.total(feature_J) / edges.count_X)
    return float(np.sqrt(np.mean(centred_J.astype(np.float64) ** 2))) or 1.0


def _halves(sets: ChoiceSets, user_D: NDArray[np.int32]) -> list[tuple[ChoiceSets, ChoiceSets]]:
    """To fit on and to judge by: the users of even and of odd number, and the reverse."""
    _, number_D = np.unique(user_D, return_inverse=True)
    even_D: Bool = number_D % 2 == 0
    return [(sets.part(one), sets.part(~one)) for one in (even_D, ~even_D) if one.any() and not one.all()]


def _fitted(sets: ChoiceSets, some: list[int], free: Sequence[int]) -> Float64:
    num = len(some)
    lower_F = np.array([-np.inf if k in free else 0.0 for k in some])
    return fit_weights(sets.take(some), np.full(num, 1.0 / num), lower_F, np.full(num, np.inf), ridge=_RIDGE)[0]


def _cross_validated(
    halves: list[tuple[ChoiceSets, ChoiceSets]], some: list[int], uniform: float, free: Sequence[int]
) -> float:
    """Mean log-loss, in nats per event, of weights that were fitted to the other half of the users."""
    if not halves:
        return uniform
    losses = [likelihood(judged.take(some), _fitted(fitted, some, free))[0] for fitted, judged in halves]
    return float(np.average(losses, weights=[judged.num_events for _, judged in halves]))
