"""LightGCN: vectors of users and items, smoothed over the graph of who chose what; needs torch.

He, Deng, Wang, Li, Zhang and Wang, "LightGCN: simplifying and powering graph convolution network for recommendation",
SIGIR 2020. A layer passes vectors along the edges, each edge weighted by 1 / sqrt(degree of the user * degree of the
item); what counts is the mean over the layers, the untouched vectors included. The graph is that of the train split.

A user of the train split has a vector of their own, as in the paper, and goes on choosing. So a user's vector has two
parts: the own one before any layer, and one more step from the items of the history, which is the mean of the items'
vectors over the layers that a user reads, weighted like edges. New users have only the second. In training, it leaves
out the item that is predicted. As with EASE, the history fades by age. An item of the history also adds to its own
score by a weight that is tuned. The loss is BPR, as in the paper: Rendle, Freudenthaler, Gantner and Schmidt-Thieme,
"BPR: Bayesian personalized ranking from implicit feedback", UAI 2009.

Shapes: U = users with an edge, I = items, P = edges (distinct pairs of user and item), D = hidden size, Q = queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from ..arrays import Float64, Int64
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from .clock import DAY_S
from .protocol import Arrays, Dense, Family, Fitting, Floats, UnfitDataError, require
from .sequences import Watched
from .user_history import FadedHistory, LastFit


@dataclass(frozen=True)
class GraphSettings:
    """A graph network and its training; a family's grid names the fields that differ from these defaults.

    Attributes:
        hidden, layers: size of a vector, and how often vectors are passed along the edges.
        edge_half_life_days: an edge counts half when its last event was so long before the last of the train split;
            None: all edges count alike.
        penalty: weight of the squared length of the vectors of a batch, as in the paper.
        learning_rate, batch_size: of Adam; a batch has so many edges.
        max_epochs, patience: training ends after so many epochs, or when so many in a row brought nothing better.
        epochs_unwatched: how many epochs where there is no validation event to stop by.
        half_life_events, self_weight: see `FadedHistory`.
    """

    hidden: int = 64
    layers: int = 2
    edge_half_life_days: float | None = None
    penalty: float = 1e-3
    learning_rate: float = 5e-3
    batch_size: int = 2048
    max_epochs: int = 100
    patience: int = 12
    epochs_unwatched: int = 30
    half_life_events: float | None = None
    self_weight: float = 0.0


@dataclass(frozen=True)
class Graph:
    """Edges between users and items: `user_P`, `item_P` int64, `weight_P` float64 above 0.

    Users are numbered among those who have an edge, so that random vectors do not depend on who comes later. See
    `graph_users`.
    """

    user_P: Int64
    item_P: Int64
    weight_P: Float64
    num_users: int
    num_items: int

    @classmethod
    def of(cls, histories: Histories, half_life_days: float | None) -> Graph:
        """The pairs of the train split, each of the age of its last event."""
        row_N = np.flatnonzero(histories.split_N == 0)
        user_N, item_N = histories.user_idx_N[row_N].astype(np.int64), histories.item_idx_N[row_N]
        key_P, at_N = np.unique(user_N * histories.items.height + item_N, return_inverse=True)
        time_P = np.full(len(key_P), np.iinfo(np.int64).min)
        np.maximum.at(time_P, at_N, histories.time_s_N[row_N])
        weight_P = np.ones(len(key_P))
        if half_life_days is not None:
            weight_P = np.exp2((time_P - time_P.max()) / (half_life_days * DAY_S))
        user_P, item_P = np.divmod(key_P, histories.items.height)
        known_U, user_P = np.unique(user_P, return_inverse=True)
        return cls(user_P, item_P, np.maximum(weight_P, 1e-6), len(known_U), histories.items.height)

    @property
    def degree_I(self) -> Float64:
        """Sum of the weights of each item's edges: float64 [I]."""
        degree_I: Float64 = np.bincount(self.item_P, self.weight_P, minlength=self.num_items).astype(np.float64)
        return degree_I

    @property
    def normed_P(self) -> Float64:
        """Weights over the roots of both degrees: float64 [P]."""
        degree_U = np.bincount(self.user_P, self.weight_P, minlength=self.num_users)
        normed_P: Float64 = self.weight_P / np.sqrt(degree_U[self.user_P] * self.degree_I[self.item_P])
        return normed_P


def graph_users(histories: Histories) -> list[str]:
    """The ids of the users of a `Graph`, in its order: those who have an event of the train split."""
    return [histories.user_ids[user] for user in np.unique(histories.user_idx_N[histories.split_N == 0]).tolist()]


def positions(user_ids: Sequence[str], histories: Histories) -> Int64:
    """int64 [users of these histories]: where each stands among `user_ids`, -1 for one who does not."""
    position = {user_id: at for at, user_id in enumerate(user_ids)}
    return np.array([position.get(user_id, -1) for user_id in histories.user_ids], np.int64)


@dataclass(frozen=True)
class GraphVectors:
    """What a trained graph says of items and of its users.

    Attributes:
        read_ID: float32 [I, D], what an item of the history adds to a user's vector, with the root of the item's
            degree; 0 for items without an edge.
        vector_ID: float32 [I, D], what the user's vector is multiplied with.
        own_UD: float32 [U, D], the part of a user's vector that does not come from items.
    """

    read_ID: Floats
    vector_ID: Floats
    own_UD: Floats

    def scores_of(self, past_QI: Float64) -> Float64:
        """See `ItemModel`: what the items of the history add."""
        total_Q1 = past_QI.sum(axis=1, keepdims=True)
        user_QD = (past_QI @ self.read_ID) / np.sqrt(np.where(total_Q1 > 0, total_Q1, 1.0))
        score_QI: Float64 = user_QD @ self.vector_ID.T
        return score_QI

    def own_scores(self, position_Q: Int64) -> Floats:
        """What own vectors add, float32 [Q, I]; `position_Q` int64 [Q] is a user of the graph, -1 for no such user."""
        own_QD, known_Q = np.zeros((len(position_Q), self.vector_ID.shape[1]), np.float32), position_Q >= 0
        own_QD[known_Q] = self.own_UD[position_Q[known_Q]]
        score_QI: Floats = own_QD @ self.vector_ID.T
        return score_QI

    def arrays(self) -> Arrays:
        """The fields."""
        return dict(vars(self))


@dataclass(frozen=True)
class GraphRanker:
    """Scores items by the history, see `FadedHistory`, and by a user's own vector; `user_ids` are those of `own_UD`."""

    vectors: GraphVectors
    user_ids: Sequence[str]
    half_life_events: float | None
    self_weight: float

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        """See `Ranker.on`."""
        by_history = FadedHistory(self.vectors, self.half_life_events, self.self_weight).on(histories, split, known)
        position_U = positions(self.user_ids, histories)

        def scores(row_Q: Int64) -> Floats:
            own_QI = self.vectors.own_scores(position_U[histories.user_idx_N[row_Q]])
            return (by_history.scores(row_Q) + own_QI).astype(np.float32)

        return Dense(scores)

    def arrays(self) -> Arrays:
        """See `Fitted.arrays`."""
        return self.vectors.arrays()


_trained: Final[LastFit[GraphVectors]] = LastFit()


def _light_gcn(fitting: Fitting) -> GraphRanker:
    """Whatever the split, trained on train and stopped by valid. Raises ModelError where the training diverges."""
    one = GraphSettings(**fitting.settings)
    require("torch", "train", "LightGCN")
    if not (fitting.histories.split_N == 0).any():
        raise UnfitDataError(
            "LightGCN should learn from training events but found none; raise histories.split.train and run "
            "`whereupon prepare` again."
        )

    def fit() -> GraphVectors:
        from .light_gcn_training import train

        return train(fitting.histories, of_fit, fitting.seed, Watched.of(fitting.histories, fitting.repeats))

    of_fit = replace(one, half_life_events=None, self_weight=0.0)
    vectors = _trained.get(fitting.histories, (of_fit, fitting.seed, fitting.repeats), fit)
    return GraphRanker(vectors, graph_users(fitting.histories), one.half_life_events, one.self_weight)


def _restored(settings: Mapping[str, Any], arrays: Arrays, known: Histories, split: EvaluatedSplit) -> GraphRanker:
    one = GraphSettings(**settings)
    return GraphRanker(GraphVectors(**arrays), graph_users(known), one.half_life_events, one.self_weight)


def _grid(*half_lives_days: float | None) -> list[dict[str, Any]]:
    # What takes time to fit changes least often: see `LastFit`.
    return [
        {"edge_half_life_days": days, "layers": layers, "half_life_events": events, "self_weight": weight}
        for days in half_lives_days for layers in (1, 2)
        for events in (None, 30.0, 10.0, 3.0) for weight in (0.0, 0.1, 1.0, 10.0)
    ]  # fmt: skip


FAMILIES: Final = (
    Family("LightGCN", _grid(None), _light_gcn, _restored),
    Family("LightGCN + time", _grid(90.0, 14.0), _light_gcn, _restored),
)
