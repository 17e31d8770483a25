"""The model's distribution tempered and blended with a prior over items, node by node.

At a branching node, log-linear pooling: an edge's new log-probability is log_prob / temperature + weight * log(prior
mass below the edge), renormalised at the node. What comes out is again a distribution over the catalogue in which no
child is more probable than its parent, so every search stays exact. With weight 0 and temperature 1 it is the model's.

Shape legend: I items, X nodes, J their edges end to end, M own items of a question (or of all), Y those below a node.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Float32, Float64, Int32, Int64
from ..catalogue import Trie
from .segments import Segments

Own = tuple[Int64, Float64]

TEMPERATURES = (0.01, 100.0)


class ItemPrior:
    """Masses of items, the same for all questions but for a few items of each; the mass of any rows in O(1).

    `base_I` float64 [I] by item index, above 0; `own`: for each question items (int64 [M]) and masses (float64 [M], at
    least 0) to be added to theirs, or None. Scale is free. Raises ValueError for masses that are none.
    """

    def __init__(self, trie: Trie, base_I: Float64, own: Sequence[Own] | None = None) -> None:
        base_I = np.asarray(base_I, np.float64)
        if base_I.shape != (trie.num_items,) or not (np.isfinite(base_I).all() and (base_I > 0).all()):
            raise ValueError(
                f"a prior needs a finite mass above 0 for each of the {trie.num_items} items, not {told(base_I)}"
            )
        self._before_I1 = np.concatenate([np.zeros(1), np.cumsum(base_I[trie.item_of_row_I])])
        if not (np.diff(self._before_I1) > 0).all():
            raise ValueError(
                f"the prior's masses of {base_I.min():g} to {base_I.max():g} are too far apart to be told in float64; "
                "smooth them"
            )
        self.trie = trie
        self._set_own(own)

    def with_own(self, own: Sequence[Own] | None) -> ItemPrior:
        """The same base with other questions' own masses; costs nothing per item of the catalogue."""
        other = copy.copy(self)
        other._set_own(own)
        return other

    @property
    def num_queries(self) -> int | None:
        """How many questions it was made for; None for any."""
        return self._num_queries

    def masses(self, query_X: Int64, node_X: Int64) -> Float64:
        """float64 [J]: the prior mass below every edge of nodes `node_X`, for the questions `query_X`."""
        trie, edges = self.trie, Segments.of_edges(self.trie, node_X)
        lo_J, hi_J = edges.rows(trie, node_X)
        mass_J: Float64 = self._before_I1[hi_J] - self._before_I1[lo_J]
        if len(self._own_key_M):
            self._add_own(mass_J, query_X, node_X, edges, lo_J)
        return mass_J

    def of_items(self) -> Float64:
        """float64 [Q, I]: the mass of every item, by item index, for each question it was made for (one for any)."""
        trie, num_queries = self.trie, 1 if self._num_queries is None else self._num_queries
        mass_QI = np.tile(np.diff(self._before_I1), (num_queries, 1))  # I: rows of the trie, at first
        np.add.at(mass_QI, np.divmod(self._own_key_M, trie.num_items), self._own_mass_M)
        return mass_QI[:, trie.row_of_item_I]

    def _add_own(self, mass_J: Float64, query_X: Int64, node_X: Int64, edges: Segments, lo_J: Int32) -> None:
        """The few own items below the nodes, each at the edge that leads to it."""
        trie, scale = self.trie, self.trie.num_items
        begin_X = np.searchsorted(self._own_key_M, query_X * scale + trie.row_lo_B[node_X])
        count_X = np.searchsorted(self._own_key_M, query_X * scale + trie.row_hi_B[node_X]) - begin_X
        owner_Y = np.repeat(np.arange(len(node_X)), count_X)
        own_Y = np.arange(len(owner_Y)) + np.repeat(begin_X - np.cumsum(count_X) + count_X, count_X)
        key_J = edges.spread(np.arange(len(node_X)) * scale) + lo_J
        row_Y = self._own_key_M[own_Y] - query_X[owner_Y] * scale
        edge_Y = np.searchsorted(key_J, owner_Y * scale + row_Y, side="right") - 1
        np.add.at(mass_J, edge_Y, self._own_mass_M[own_Y])

    def _set_own(self, own: Sequence[Own] | None) -> None:
        """Flat arrays keyed by question and row, sorted."""
        self._num_queries = None if own is None else len(own)
        key, mass = [np.zeros(0, np.int64)], [np.zeros(0)]
        for query, (item_M, mass_M) in enumerate(own or ()):
            item_M, mass_M = np.asarray(item_M, np.int64), np.asarray(mass_M, np.float64)
            if item_M.shape != mass_M.shape or not (np.isfinite(mass_M).all() and (mass_M >= 0).all()):
                raise ValueError(f"own masses need a finite mass of at least 0 for each item, not {told(mass_M)}")
            if len(item_M) and not 0 <= item_M.min() <= item_M.max() < self.trie.num_items:
                raise ValueError(f"own masses of items {item_M.min()} to {item_M.max()} of {self.trie.num_items}")
            key.append(self.trie.row_of_item_I[item_M].astype(np.int64) + query * self.trie.num_items)
            mass.append(mass_M)
        keys, masses = np.concatenate(key), np.concatenate(mass)
        order = np.argsort(keys, kind="stable")
        self._own_key_M, self._own_mass_M = keys[order], masses[order]


@dataclass(frozen=True)
class Reweighting:
    """How the model's edge log-probabilities are changed: see the module's docstring.

    Raises ValueError for a temperature outside of 0.01 to 100, a negative weight, or a weight without a prior.
    """

    temperature: float = 1.0
    weight: float = 0.0
    prior: ItemPrior | None = None

    def __post_init__(self) -> None:
        low, high = TEMPERATURES
        if not low <= self.temperature <= high:
            raise ValueError(f"temperature must be between {low} and {high}, not {self.temperature}")
        if not 0 <= self.weight < np.inf or (self.weight and self.prior is None):
            what = "a weight needs a prior" if self.weight > 0 else "weight must be at least 0"
            raise ValueError(f"{what}, not {self.weight}")

    def checked(self, num_queries: int) -> Reweighting:
        """Itself. Raises ValueError if the prior was made for another number of questions."""
        made_for = self.prior.num_queries if self.prior else None
        if made_for not in (None, num_queries):
            raise ValueError(f"the prior has own masses for {made_for} questions but {num_queries} are asked")
        return self

    def apply(self, trie: Trie, query_X: Int64, node_X: Int64, log_prob_J: Float32) -> Float32:
        """float32 [J]: the model's log-probabilities of the edges of `node_X`, changed for the questions `query_X`."""
        if self.temperature == 1 and not self.weight:
            return log_prob_J
        score_J = log_prob_J / np.float32(self.temperature)
        if self.weight and self.prior:
            score_J += (self.weight * np.log(self.prior.masses(query_X, node_X))).astype(np.float32)
        return Segments.of_edges(trie, node_X).log_softmax(score_J)


def told(mass: Float64) -> str:
    """Masses in an error message."""
    return f"{mass.min():g} to {mass.max():g} for {len(mass)}" if mass.size else "none"
