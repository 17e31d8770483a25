"""Small causal networks over item ids: the hidden state of each event of a window, from it and what stands before it.

Scores are inner products with the items' own input embeddings (tied, as in both papers' better variants), and a softmax
over the whole catalogue makes them probabilities.

Shapes: W = windows, L = events of a window, D = hidden size, X = any number of hidden states, I = items.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .sequences_windows import NUM_GAPS

__all__ = ["GRU4Rec", "Inputs", "Network", "SASRec"]


@dataclass(frozen=True)
class Inputs:
    """What a network reads of W windows; all int64.

    Attributes:
        item_WL: the item of each event.
        moment_WL3: hour, day and gap of each event.
        asked_WL3: those of the event that follows, which is asked for.
        place_WL: how many events of the window stand behind each event; 0 for the last, and in the padding.
    """

    item_WL: Tensor
    moment_WL3: Tensor
    asked_WL3: Tensor
    place_WL: Tensor


class _Moment(nn.Module):
    """Hour of the day, day of the week and time since the previous event, each an embedding, added up."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(size, hidden) for size in (24, 7, NUM_GAPS))

    def forward(self, moment_WL3: Tensor) -> Tensor:
        parts = [embedding(moment_WL3[..., i]) for i, embedding in enumerate(self.embeddings)]
        return torch.stack(parts).sum(0)


class Network(nn.Module):
    """What both networks share: embeddings of items, and scores from hidden states.

    Args:
        known_I: bool, the items of training events. Others are read as zero: their embedding was never trained as an
            input, and would be noise.
        hidden: D.
    """

    known_I: Tensor

    def __init__(self, known_I: Tensor, hidden: int) -> None:
        super().__init__()
        self.items = nn.Embedding(len(known_I), hidden)
        self.register_buffer("known_I", known_I.float())

    def read(self, item_WL: Tensor) -> Tensor:
        """Embedding of each event's item: float32 [W, L, D]."""
        read_WLD: Tensor = self.items(item_WL) * self.known_I[item_WL].unsqueeze(-1)
        return read_WLD

    def scores(self, hidden_XD: Tensor) -> Tensor:
        """Logits of all items: float32 [X, I]."""
        return hidden_XD @ self.items.weight.T


class SASRec(Network):
    """Self-attention over the events so far: Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018.

    Places are counted from the last event backwards, as in the paper, whose windows are filled from the right: counted
    from the first, those of histories longer than any in training would never have been trained.

    With `timed` each event is read with the moment of its own and of the one that is asked for, so that attention can
    look for events like the one to come.
    """

    def __init__(
        self, known_I: Tensor, length: int, hidden: int, layers: int, heads: int, dropout: float, timed: bool
    ) -> None:  # fmt: skip
        super().__init__(known_I, hidden)
        self.positions = nn.Embedding(length, hidden)
        self.own_moment = _Moment(hidden) if timed else None
        self.asked_moment = _Moment(hidden) if timed else None
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(hidden, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        _start_small(self, hidden)

    def forward(self, inputs: Inputs) -> Tensor:
        """Hidden states: float32 [W, L, D]."""
        hidden_WLD = self.read(inputs.item_WL) + self.positions(inputs.place_WL)
        if self.own_moment is not None and self.asked_moment is not None:
            hidden_WLD = hidden_WLD + self.own_moment(inputs.moment_WL3) + self.asked_moment(inputs.asked_WL3)
        hidden_WLD = self.dropout(hidden_WLD)
        for block in self.blocks:
            hidden_WLD = block(hidden_WLD)
        normed_WLD: Tensor = self.norm(hidden_WLD)
        return normed_WLD


class _Block(nn.Module):
    """Causal self-attention and two pointwise layers, each normed before and added to what it read."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.attention_norm, self.pointwise_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.project, self.join = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.pointwise = nn.Sequential(
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, hidden)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden_WLD: Tensor) -> Tensor:
        shape = (*hidden_WLD.shape[:2], self.heads, -1)
        parts = self.project(self.attention_norm(hidden_WLD)).chunk(3, dim=-1)
        query, key, value = (part.reshape(shape).transpose(1, 2) for part in parts)
        rate = self.rate if self.training else 0.0
        seen = functional.scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=True)
        hidden_WLD = hidden_WLD + self.dropout(self.join(seen.transpose(1, 2).reshape(hidden_WLD.shape)))
        added_WLD: Tensor = self.dropout(self.pointwise(self.pointwise_norm(hidden_WLD)))
        return hidden_WLD + added_WLD


class GRU4Rec(Network):
    """Gated recurrent units over the events so far: Hidasi et al., "Session-based Recommendations with Recurrent Neural
    Networks", ICLR 2016; tied embeddings and softmax after Hidasi and Karatzoglou, CIKM 2018."""

    def __init__(self, known_I: Tensor, hidden: int, layers: int, dropout: float) -> None:
        super().__init__(known_I, hidden)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(hidden, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        _start_small(self, hidden)

    def forward(self, inputs: Inputs) -> Tensor:
        """Hidden states: float32 [W, L, D]."""
        hidden_WLD: Tensor = self.gru(self.dropout(self.read(inputs.item_WL)))[0]
        return self.dropout(hidden_WLD)  # type: ignore[no-any-return]


def _start_small(network: Network, hidden: int) -> None:
    """Items of about unit length, so that tied scores start out near uniform; places and moments at zero, so that one
    that never occurs in training says nothing."""
    for module in network.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=hidden**-0.5 if module is network.items else 0.0)
