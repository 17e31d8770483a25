"""What a search needs of a language model: read a text once, then score branching nodes of the trie below it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..arrays import Float32, Int32, Int64

FROM_PROMPT = -1


@dataclass(frozen=True)
class Scored:
    """Scores of X nodes: `log_prob_J` float32, the log-probabilities of their edges end to end in the order of the
    nodes (each node's sum to 1), and `state_X` int64, the handles under which deeper nodes continue."""

    log_prob_J: Float32
    state_X: Int64


class Reading(Protocol):
    """A text that has been read once, with Q positions in it at which a title is predicted."""

    @property
    def num_queries(self) -> int: ...

    def score(self, query_X: Int64, node_X: Int64, parent_X: Int64) -> Scored:
        """Score the edges of branching nodes in one round of the model.

        `query_X` int64 [X] which question, `node_X` which node of the trie, `parent_X` the handle of the node above it
        (FROM_PROMPT for the topmost). Tokens between the two nodes are forced and run in the same round.
        """
        ...


class AsyncReading(Protocol):
    """Texts at whose ends a title is predicted, read by a model that serves many at once."""

    async def score(self, query_X: Int64, node_X: Int64, parent_X: Int64) -> Scored:
        """See `Reading.score`."""
        ...


class Engine(Protocol):
    """A language model bound to one catalogue."""

    def read(self, tokens_L: Int32, position_Q: Int64) -> Reading:
        """Read `tokens_L`; question q continues the text after the token at `position_Q[q]`, seeing nothing later."""
        ...
