"""The exact parts of the log-odds of two items under the distribution of model and stack.

log p(one item) - log p(another item) is a sum of

- `gate`: the difference of the log-probabilities of the two items' parts, chosen before and new; 0 if in one part;
- a part for each ranker of the stack: weight * what it says of the one item, minus the same of the other one;
- `normaliser`: the difference of what the two parts' masses are divided by; 0, but for rounding, if in one part;
- `model`: the rest, which is what the language model changed.

Weights are those of the ranker in the stack times that of the stack in the pool (`pooling.Pools`).

Shapes: Q = questions, 2 = the two items of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from ..arrays import Float64, Int64
from ..decode.reweighting import AgainOrNew

GATE: Final = "gate"
NORMALISER: Final = "normaliser"
MODEL: Final = "model"


def stack_parts(
    change: AgainOrNew, pair_Q2: Int64, said: Mapping[str, Float64]
) -> Iterator[tuple[str, Float64]]:  # fmt: skip
    """All parts but the model's, by name: float64 [Q].

    Args:
        change: that of the Q questions.
        pair_Q2: the two items of each, as the trie counts them.
        said: float64 [Q, 2] by ranker, what `BoundStack.said` gives for the two items; without it, all that the rankers
            add is in the normaliser.
    """
    query_Q = np.arange(len(pair_Q2))
    part_Q2 = np.stack([change.is_new(item_Q) for item_Q in pair_Q2.T], axis=1).astype(np.int64)
    share_Q2 = change.log_share_Q2[query_Q[:, None], part_Q2]
    yield GATE, np.where(part_Q2[:, 0] == part_Q2[:, 1], 0.0, _odds(share_Q2))
    weights, log_total_2Q, log_mass_22Q = np.zeros(2), np.zeros((2, len(pair_Q2))), np.zeros((2, 2, len(pair_Q2)))
    for part, pool in enumerate(change.pools):
        assert pool.prior is not None
        weights[part] = pool.weight
        log_total_2Q[part] = _log(pool.prior.totals())
        log_mass_22Q[part] = [_log(pool.prior.of_item(query_Q, item_Q)) for item_Q in pair_Q2.T]
    weight_Q2 = weights[part_Q2]
    mass_Q2 = np.stack([log_mass_22Q[part_Q2[:, at], at, query_Q] for at in (0, 1)], axis=1)
    total_Q2 = log_total_2Q[part_Q2, query_Q[:, None]]
    rest_Q = _odds(weight_Q2 * (mass_Q2 - total_Q2))
    for name, said_Q2 in said.items():
        added_Q = _odds(weight_Q2 * said_Q2)
        rest_Q = rest_Q - added_Q
        yield name, added_Q
    yield NORMALISER, rest_Q


def _odds(value_Q2: Float64) -> Float64:
    with np.errstate(invalid="ignore"):  # of a part that is impossible
        odds_Q: Float64 = value_Q2[:, 0] - value_Q2[:, 1]
    return odds_Q


def _log(mass: Float64) -> Float64:
    with np.errstate(divide="ignore"):
        log_mass: Float64 = np.log(mass)
    return log_mass
