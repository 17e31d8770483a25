"""The model's distribution tempered and blended with a prior over items, node by node.

At a branching node, log-linear pooling: an edge's new log-probability is log_prob / temperature + weight * log(prior
mass below the edge), renormalised at the node. The result is again a distribution over the catalogue in which no child
is more probable than its parent. So every search stays exact. With weight 0 and temperature 1 it is the model's.

A mixture of two such pools is a distribution too. One pool gives probability only to items that the user has chosen
before, the other only to new items. A search keeps for each entry its probability in either pool.

Shape legend: I items, X nodes, J their edges end to end, M own items of a question (or of all), Y those below a node, P
parts of a mixture.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float32, Float64, Int32, Int64, ragged
from ..catalogue import Trie
from .segments import Segments

Own = tuple[Int64, Float64]

TEMPERATURES = (0.01, 100.0)
_ROUNDING = 1e-9  # of the base; a smaller mass is none
_NOTHING = np.float32(-1e30)  # instead of -inf, of which no difference can be taken


class ItemPrior:
    """Masses of items, the same for all questions but for some items of each; the mass of any rows in O(1).

    `base_I` float64 [I] by item index, above 0, or None: only items of `own` have a mass. `own`: for each question
    items (int64 [M]) and masses (float64 [M]) to be added to theirs, or None; less than 0 takes away from the base.
    Scale is free. Raises ValueError for masses that are none.
    """

    def __init__(self, trie: Trie, base_I: Float64 | None, own: Sequence[Own] | None = None) -> None:
        self.trie, self._before_I1 = trie, None
        if base_I is not None:
            base_I = np.asarray(base_I, np.float64)
            if base_I.shape != (trie.num_items,) or not (np.isfinite(base_I).all() and (base_I > 0).all()):
                raise ValueError(
                    f"a prior needs a finite mass above 0 for each of the {trie.num_items} items, "
                    f"not {mass_range(base_I)}"
                )
            self._before_I1 = np.concatenate([np.zeros(1), np.cumsum(base_I[trie.item_of_row_I])])
            if not (np.diff(self._before_I1) > 0).all():
                raise ValueError(
                    f"the prior's masses of {base_I.min():g} to {base_I.max():g} are too far apart for float64; "
                    "smooth them"
                )
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
        """float64 [J]: the prior mass below every edge of nodes `node_X`, for the questions `query_X`; at least 0."""
        trie, edges = self.trie, Segments.of_edges(self.trie, node_X)
        lo_J, hi_J = edges.rows(trie, node_X)
        base_J: Float64 = self._base(lo_J, hi_J)
        if not len(self._own_key_M):
            return base_J
        mass_J = base_J.copy()
        self._add_own(mass_J, query_X, node_X, edges, lo_J)
        # What is left of a base that was taken away whole is rounding.
        mass_J[mass_J <= _ROUNDING * base_J] = 0.0
        return mass_J

    def of_item(self, query_X: Int64, item_X: Int64) -> Float64:
        """float64 [X]: the mass of one item each, for the questions `query_X`."""
        row_X = self.trie.row_of_item_I[item_X].astype(np.int64)
        base_X = self._base(row_X, row_X + 1)
        first_X, last_X = (
            np.searchsorted(self._own_key_M, query_X * self.trie.num_items + row_X, side) for side in ("left", "right")
        )
        # One by one: differences of a running sum would lose the small masses beside the large ones.
        owner_Y, own_Y = ragged(first_X, last_X - first_X)
        mass_X: Float64 = base_X + np.bincount(owner_Y, self._own_mass_M[own_Y], minlength=len(item_X))
        return np.where(mass_X <= _ROUNDING * base_X, 0.0, mass_X)

    def only_own(self, query_Y: Int64, lo_Y: Int32, hi_Y: Int32) -> Int64:
        """int64 [Y]: of rows `lo_Y` to `hi_Y`, the one that has a mass for a question; -1 where several may have."""
        if self._before_I1 is not None:
            return np.full(len(query_Y), -1)
        begin_Y = query_Y * self.trie.num_items
        first_Y, last_Y = (np.searchsorted(self._own_key_M, begin_Y + row_Y) for row_Y in (lo_Y, hi_Y))
        row_Y = np.full(len(query_Y), -1)
        is_one_Y = last_Y - first_Y == 1
        row_Y[is_one_Y] = self._own_key_M[first_Y[is_one_Y]] - begin_Y[is_one_Y]
        return row_Y

    def totals(self) -> Float64:
        """float64 [Q]: the mass of all items, for each question it was made for (one for any)."""
        num_queries = 1 if self._num_queries is None else self._num_queries
        own_Q = np.bincount(self._own_key_M // self.trie.num_items, self._own_mass_M, num_queries)
        base = 0.0 if self._before_I1 is None else float(self._before_I1[-1])
        return (base + own_Q).astype(np.float64)

    def of_items(self) -> Float64:
        """float64 [Q, I]: the mass of every item, by item index, for each question it was made for (one for any)."""
        trie, num_queries = self.trie, 1 if self._num_queries is None else self._num_queries
        row_I = np.arange(trie.num_items)
        base_I = self._base(row_I, row_I + 1)
        mass_QI = np.tile(base_I, (num_queries, 1))  # I: rows of the trie, at first
        np.add.at(mass_QI, np.divmod(self._own_key_M, trie.num_items), self._own_mass_M)
        mass_QI[mass_QI <= _ROUNDING * base_I] = 0.0
        return mass_QI[:, trie.row_of_item_I]

    def _base(self, lo_J: Int64 | Int32, hi_J: Int64 | Int32) -> Float64:
        if self._before_I1 is None:
            return np.zeros(len(lo_J))
        base_J: Float64 = self._before_I1[hi_J] - self._before_I1[lo_J]
        return base_J

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
            least = 0.0 if self._before_I1 is None else -np.inf
            if item_M.shape != mass_M.shape or not (np.isfinite(mass_M).all() and (mass_M >= least).all()):
                raise ValueError(f"own masses need a finite mass of at least 0 for each item, not {mass_range(mass_M)}")
            if len(item_M) and not 0 <= item_M.min() <= item_M.max() < self.trie.num_items:
                raise ValueError(f"own masses of items {item_M.min()} to {item_M.max()} of {self.trie.num_items}")
            key.append(self.trie.row_of_item_I[item_M].astype(np.int64) + query * self.trie.num_items)
            mass.append(mass_M)
        keys, masses = np.concatenate(key), np.concatenate(mass)
        order = np.argsort(keys, kind="stable")
        self._own_key_M, self._own_mass_M = keys[order], masses[order]


class Change(Protocol):
    """What a search makes of the model's distribution."""

    @property
    def pools(self) -> tuple[Reweighting, Reweighting]:
        """Those of items chosen before and of new ones; twice the same without a mixture."""
        ...

    def checked(self, num_queries: int) -> Change:
        """Itself. Raises ValueError if it was made for another number of questions."""
        ...

    def start(self, num_queries: int) -> Float32:
        """float32 [Q, P]: log-probability of each part of the mixture before anything is decided; P may be 0."""
        ...

    def apply(
        self, trie: Trie, query_X: Int64, node_X: Int64, part_XP: Float32, log_prob_J: Float32
    ) -> tuple[Float32, Float32]:  # fmt: skip
        """The model's log-probabilities of the edges of `node_X`, changed for the questions `query_X`: float32 [J]; and
        the parts of each edge, float32 [J, P], given those of the nodes, from the prompt on."""
        ...

    def alone(self, trie: Trie, query_X: Int64, node_X: Int64, part_JP: Float32) -> tuple[Int64, Int64]:
        """Edges to nodes below which a single item has been chosen before: positions int64 [Y] in J, and its row.

        All of such an edge's first part is the item's, whatever the model says below: there the pool of items chosen
        before has one edge at each node.
        """
        ...


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

    @property
    def pools(self) -> tuple[Reweighting, Reweighting]:
        """See `Change.pools`."""
        return self, self

    def checked(self, num_queries: int) -> Reweighting:
        """See `Change.checked`."""
        made_for = self.prior.num_queries if self.prior else None
        if made_for not in (None, num_queries):
            raise ValueError(f"the prior has own masses for {made_for} questions but the search has {num_queries}")
        return self

    def start(self, num_queries: int) -> Float32:
        """See `Change.start`."""
        return np.zeros((num_queries, 0), np.float32)

    def apply(
        self, trie: Trie, query_X: Int64, node_X: Int64, part_XP: Float32, log_prob_J: Float32
    ) -> tuple[Float32, Float32]:  # fmt: skip
        """See `Change.apply`."""
        score_J = self.scores(trie, query_X, node_X, log_prob_J)
        return score_J, np.zeros((len(score_J), 0), np.float32)

    def alone(self, trie: Trie, query_X: Int64, node_X: Int64, part_JP: Float32) -> tuple[Int64, Int64]:
        """See `Change.alone`."""
        return np.zeros(0, np.int64), np.zeros(0, np.int64)

    def scores(self, trie: Trie, query_X: Int64, node_X: Int64, log_prob_J: Float32) -> Float32:
        """float32 [J]: the pooled log-probabilities; -inf where there is a prior and its mass is 0.

        A node below which the prior has no mass at all gets -inf throughout.
        """
        if self.temperature == 1 and self.prior is None:
            return log_prob_J
        edges = Segments.of_edges(trie, node_X)
        score_J = log_prob_J / np.float32(self.temperature)
        if self.prior is None:
            return edges.log_softmax(score_J)
        mass_J = self.prior.masses(query_X, node_X)
        known_J = mass_J > 0
        if self.weight:
            score_J += (self.weight * np.log(mass_J, out=np.zeros_like(mass_J), where=known_J)).astype(np.float32)
        if known_J.all():
            return edges.log_softmax(score_J)
        pooled_J = edges.log_softmax(np.where(known_J, score_J, _NOTHING))
        return np.where(known_J, pooled_J, np.float32(-np.inf))


@dataclass(frozen=True)
class Shared:
    """The changes of a few requests for more questions, of which question q takes that of request `request_Q[q]`:
    several wordings of one request have one change."""

    change: Change
    request_Q: Int64

    @property
    def pools(self) -> tuple[Reweighting, Reweighting]:
        """See `Change.pools`."""
        return self.change.pools

    def checked(self, num_queries: int) -> Shared:
        """See `Change.checked`."""
        if num_queries != len(self.request_Q):
            raise ValueError(f"changes of {len(self.request_Q)} questions, but the search has {num_queries}")
        return self

    def start(self, num_queries: int) -> Float32:
        """See `Change.start`."""
        return self.change.start(int(self.request_Q.max()) + 1)[self.request_Q]

    def apply(
        self, trie: Trie, query_X: Int64, node_X: Int64, part_XP: Float32, log_prob_J: Float32
    ) -> tuple[Float32, Float32]:  # fmt: skip
        """See `Change.apply`."""
        return self.change.apply(trie, self.request_Q[query_X], node_X, part_XP, log_prob_J)

    def alone(self, trie: Trie, query_X: Int64, node_X: Int64, part_JP: Float32) -> tuple[Int64, Int64]:
        """See `Change.alone`."""
        return self.change.alone(trie, self.request_Q[query_X], node_X, part_JP)


@dataclass(frozen=True)
class AgainOrNew:
    """A mixture: items that the user has chosen before as `again` pools them, all others as `new` does.

    `log_odds_Q` float64 [Q]: of a new item, per question; infinite where one of the two priors has no mass. Both have a
    prior for the same questions, and no item has a mass in both.
    """

    again: Reweighting
    new: Reweighting
    log_odds_Q: Float64

    @property
    def pools(self) -> tuple[Reweighting, Reweighting]:
        """See `Change.pools`."""
        return self.again, self.new

    def checked(self, num_queries: int) -> AgainOrNew:
        """See `Change.checked`."""
        for pool in self.pools:
            pool.checked(num_queries)
        return self

    def start(self, num_queries: int) -> Float32:
        """See `Change.start`: float32 [Q, 2]."""
        return self.log_share_Q2.astype(np.float32)

    @property
    def log_share_Q2(self) -> Float64:
        """float64 [Q, 2]: log-probability that the item is one chosen before, and that it is a new one."""
        return np.stack([-np.logaddexp(0, self.log_odds_Q), -np.logaddexp(0, -self.log_odds_Q)], axis=1)

    def is_new(self, item_Q: Int64) -> NDArray[np.bool_]:
        """bool [Q]: whether one item of each question belongs to the part of new ones."""
        # By the part without a base, in which no rounding is left of what was taken away.
        assert self.again.prior is not None
        is_new_Q: NDArray[np.bool_] = self.again.prior.of_item(np.arange(len(item_Q)), item_Q) == 0
        return is_new_Q

    def apply(
        self, trie: Trie, query_X: Int64, node_X: Int64, part_XP: Float32, log_prob_J: Float32
    ) -> tuple[Float32, Float32]:  # fmt: skip
        """See `Change.apply`."""
        edges = Segments.of_edges(trie, node_X)
        pools = (pool.scores(trie, query_X, node_X, log_prob_J) for pool in self.pools)
        part_J2 = np.stack([edges.spread(part_XP[:, p]) + score_J for p, score_J in enumerate(pools)], axis=1)
        below_J, above_X = np.logaddexp(part_J2[:, 0], part_J2[:, 1]), np.logaddexp(part_XP[:, 0], part_XP[:, 1])
        above_X = np.where(np.isneginf(above_X), np.float32(0), above_X)  # below the impossible, all is
        # Rounding must not make a child likelier than its parent.
        return np.minimum(below_J - edges.spread(above_X), np.float32(0)), part_J2

    def alone(self, trie: Trie, query_X: Int64, node_X: Int64, part_JP: Float32) -> tuple[Int64, Int64]:
        """See `Change.alone`."""
        assert self.again.prior is not None
        edges = Segments.of_edges(trie, node_X)
        is_node_J = trie.child_node_C[edges.shifted(trie.child_ptr_B1[node_X])] >= 0
        position_Y = np.flatnonzero(is_node_J & (part_JP[:, 0] > -np.inf))
        lo_J, hi_J = edges.rows(trie, node_X)
        query_Y = edges.spread(query_X)[position_Y]
        row_Y = self.again.prior.only_own(query_Y, lo_J[position_Y], hi_J[position_Y])
        return position_Y[row_Y >= 0], row_Y[row_Y >= 0]


def mass_range(mass: Float64) -> str:
    """Masses in an error message."""
    return f"{mass.min():g} to {mass.max():g} for {len(mass)}" if mass.size else "none"
