"""Items and nodes that a search has reached, for all questions in flat arrays; for shapes see `frontier`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float32, Int64
from ..catalogue import Trie
from .protocol import FROM_PROMPT
from .segments import Segments

# Below every value that counts; edges at -inf (outside of a nucleus) are below it.
LOWEST = np.finfo(np.float32).min


@dataclass(frozen=True)
class Entries:
    """Items (node -1) and nodes: question, search value, log-probability, node, first row, parent's handle.

    `value` is the log-probability itself in a search for the most probable, and a perturbed one in a sample. `part`
    float32 [A, P] splits the log-probability among the P parts of a mixture (see `reweighting`); P is 0 without one.
    """

    query: Int64
    value: Float32
    log_prob: Float32
    node: Int64
    row: Int64
    state: Int64
    part: Float32

    @classmethod
    def start(cls, trie: Trie, num_queries: int, part_QP: Float32 | None = None) -> Entries:
        """The whole catalogue for every question: the topmost node, or the only item."""
        certain, zeros = np.zeros(num_queries, np.float32), np.zeros(num_queries, np.int64)
        top = zeros if trie.num_nodes else zeros - 1
        part_QP = np.zeros((num_queries, 0), np.float32) if part_QP is None else part_QP
        return cls(np.arange(num_queries), certain, certain, top, zeros, zeros + FROM_PROMPT, part_QP)

    def __len__(self) -> int:
        return len(self.query)

    def take(self, which: slice | Int64 | NDArray[np.bool_]) -> Entries:
        return Entries(*(column[which] for column in self._columns()))

    @staticmethod
    def join(parts: list[Entries]) -> Entries:
        columns = zip(*(part._columns() for part in parts), strict=True)
        return Entries(*(np.concatenate(column) for column in columns))

    def in_order(self) -> Entries:
        """Sorted by question, value from the highest, and row.

        Nodes go before items of the same value: one that is as probable as the k-th item may hide an earlier title.
        """
        bits_A = (self.value + np.float32(0)).view(np.int32)  # + 0: -0.0 and 0.0 are one value
        falling_A = ~(bits_A ^ ((bits_A >> 31) & 0x7FFFFFFF))  # integers that ascend where the floats descend
        key_A = (falling_A.astype(np.int64) << 32) | ((self.node < 0).astype(np.int64) << 31) | self.row
        return self.take(np.lexsort((key_A, self.query)))

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.query, self.value, self.log_prob, self.node, self.row, self.state, self.part


@dataclass(frozen=True)
class Moved:
    """Log-probability, value and parts of each edge of expanded nodes, from the prompt on; see `Entries`.

    `found`: items below these edges whose log-probability is known already, which is no longer among that of the edge.
    """

    log_prob_J: Float32
    value_J: Float32
    part_JP: Float32
    found: Entries | None = None


@dataclass(frozen=True)
class Children:
    """The edges of X nodes scored in one round, made into entries only where they are needed.

    `query_X` ascends. `log_prob_J`, `value_J` and `part_JP` are those of the entries, from the prompt on.
    """

    trie: Trie
    query_X: Int64
    node_X: Int64
    state_X: Int64
    edges: Segments
    log_prob_J: Float32
    value_J: Float32
    part_JP: Float32

    def bounds(self, query_Q: Int64) -> Int64:
        """int64 [Q]: where the edges of the questions begin."""
        return self.edges.ptr_X1[np.searchsorted(self.query_X, query_Q)]

    def entries(self, position_Y: Int64) -> Entries:
        owner_Y = self.edges.owner(position_Y)
        edge_Y = (self.trie.child_ptr_B1[self.node_X] - self.edges.ptr_X1[:-1])[owner_Y] + position_Y
        return Entries(
            self.query_X[owner_Y], self.value_J[position_Y], self.log_prob_J[position_Y],
            self.trie.child_node_C[edge_Y].astype(np.int64), self.trie.child_lo_C[edge_Y].astype(np.int64),
            self.state_X[owner_Y], self.part_JP[position_Y],
        )  # fmt: skip
