"""Stages after the first training: a true item against those that the model itself ranks highest, all scored exactly.

`softmax_dpo` compares it with each of them; `policy_gradient` draws orders of all of them, and rewards by its place.

All titles of a window are passed through the model at once: behind the text lie the titles that were not chosen, each
of which sees the text up to its event and itself, as in a search.

Shape legend: R rows of a batch, T padded tokens of a row, P decisions on the ways of all titles, E events, G candidates
of an event: the true item first, then its negatives; S drawn orders of an event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..decode.architecture import SLIDING, has_layer_types, sliding_window
from ..decode.transformers_engine import split_model
from .branches import Branches, States, nats_of
from .settings import PreferenceSettings
from .tensors import OfTensors


@dataclass(frozen=True)
class PreferenceBatch(OfTensors):
    """Rows of texts with branches behind them, as int64 tensors.

    Of each token in `tokens_RT`: `place_RT` its position in what it continues, `seen_RT` how many tokens of the text it
    may see, `branch_RT` the branch it is on (0 the text, -1 padding). Decisions stand at flat positions r * T + t, with
    their edges in `branches`; `owner_P` is the candidate that they belong to, e * G + g. `reference_EG` float32: the
    candidates' log-probabilities by the model at the start.
    """

    tokens_RL: Tensor
    place_RT: Tensor
    seen_RT: Tensor
    branch_RT: Tensor
    position_P: Tensor
    owner_P: Tensor
    branches: Branches
    reference_EG: Tensor
    num_titles: int


def preference_loss(
    model: Any, batch: PreferenceBatch, temperature: float, objective: str, settings: PreferenceSettings
) -> Tensor:  # fmt: skip
    """The mean of `softmax_dpo` or of `policy_gradient` over the events of a batch."""
    log_prob_EG = candidate_log_probs(model, batch, temperature)
    if objective == "softmax_dpo":
        return softmax_dpo(log_prob_EG, batch.reference_EG, settings.beta).mean()
    order_ESG = drawn_orders(log_prob_EG.detach(), settings.orders)
    return policy_gradient(log_prob_EG, batch.reference_EG, order_ESG, settings.beta).mean()


def softmax_dpo(log_prob_EG: Tensor, reference_EG: Tensor, beta: float) -> Tensor:
    """float32 [E]: -log sigmoid(-log sum over negatives of exp(beta * (change of it - change of the true item))).

    A change is that of the log-probability since the start (Softmax-DPO, arXiv 2406.09215; the same as `dpo_loss` of
    its authors' code, chenyuxin1999/S-DPO). It is computed as the equal cross-entropy of the true item among all
    candidates, by their changes. Two things differ: the authors draw the negatives at random, and their probabilities
    are of tokens among the whole vocabulary; here they are of titles among the catalogue.
    """
    return -(beta * (log_prob_EG - reference_EG)).log_softmax(1)[:, 0]


def drawn_orders(log_prob_EG: Tensor, num: int) -> Tensor:
    """int64 [E, S, G]: `num` orders of the candidates, each drawn without replacement by their probabilities.

    Log-probabilities plus Gumbel noise, sorted (arXiv 1903.06059); the noise is of torch's own random numbers.
    """
    uniform_ESG = torch.rand(len(log_prob_EG), num, log_prob_EG.shape[1], device=log_prob_EG.device)
    tiny = torch.finfo(uniform_ESG.dtype).tiny
    gumbel_ESG = -(-uniform_ESG.clamp_min(tiny).log()).clamp_min(tiny).log()
    return (log_prob_EG[:, None] + gumbel_ESG).argsort(-1, descending=True)


def policy_gradient(log_prob_EG: Tensor, reference_EG: Tensor, order_ESG: Tensor, beta: float) -> Tensor:
    """float32 [E]: -mean over orders of (advantage * log-probability of the order) + beta * divergence from the start.

    The reward of an order is the nDCG of the true item in it; the advantage is the reward less the event's mean reward,
    divided by its standard deviation (GRPO, arXiv 2402.03300). Each order is used in the step in which it was drawn, so
    that no ratio has to be clipped. An order is drawn item by item (Plackett and Luce); what comes after the true item
    changes no reward and is left out. GRPO estimates the divergence from drawn tokens and divides by the length of the
    answer; here it is exact, of the candidates and of all other items together, and nothing is divided by a length.
    """
    rank_ES = (order_ESG == 0).int().argmax(-1)
    reward_ES = 1 / (rank_ES + 2).log2()
    advantage_ES = (reward_ES - reward_ES.mean(1, keepdim=True)) / (reward_ES.std(1, correction=0, keepdim=True) + 1e-6)
    score_ESG = log_prob_EG[:, None].expand(order_ESG.shape).gather(-1, order_ESG)
    left_ESG = score_ESG.flip(-1).logcumsumexp(-1).flip(-1)  # of what is not drawn yet
    is_before_ESG = torch.arange(order_ESG.shape[-1], device=order_ESG.device) <= rank_ES[:, :, None]
    log_prob_ES = ((score_ESG - left_ESG) * is_before_ESG).sum(-1)
    now, before = _with_rest(log_prob_EG), _with_rest(reference_EG)
    return beta * (now.exp() * (now - before)).sum(1) - (advantage_ES * log_prob_ES).mean(1)


def _with_rest(log_prob_EG: Tensor) -> Tensor:
    """[E, G + 1]: the candidates, and the rest of the catalogue as one item."""
    rest_E1 = (1 - log_prob_EG.exp().sum(1, keepdim=True)).clamp_min(1e-6).log()
    return torch.cat([log_prob_EG, rest_E1], 1)


def candidate_log_probs(model: Any, batch: PreferenceBatch, temperature: float) -> Tensor:
    """float32 [E, G]: exact log-probabilities of the candidates among all titles of the catalogue."""
    backbone, output = split_model(model)
    hidden_RTH: Tensor = backbone(
        input_ids=batch.tokens_RL, position_ids=batch.place_RT, attention_mask=_masks(model, batch), use_cache=False
    ).last_hidden_state
    states = States(hidden_RTH.flatten(0, 1)[batch.position_P], output, temperature)
    nats_P = nats_of(states, batch.branches)
    total = torch.zeros(batch.reference_EG.numel(), device=nats_P.device).index_add(0, batch.owner_P, nats_P)
    return -total.view_as(batch.reference_EG)


def _masks(model: Any, batch: PreferenceBatch) -> Tensor | dict[str, Tensor]:
    """What is added to attention scores, [R, 1, T, T]; one for each kind of layer, as in `TransformersReading`."""
    branch_RT, number_T = batch.branch_RT, torch.arange(batch.branch_RT.shape[1], device=batch.branch_RT.device)
    in_text = (branch_RT == 0)[:, None, :] & (number_T < batch.seen_RT[:, :, None])
    in_branch = (branch_RT[:, :, None] == branch_RT[:, None, :]) & (number_T <= number_T[:, None])
    mask, window = in_text | in_branch, sliding_window(model.config)
    slid = mask
    if window:
        slid = mask & (batch.place_RT[:, :, None] - batch.place_RT[:, None, :] < window)
    dtype = model.get_input_embeddings().weight.dtype
    if not has_layer_types(model.config):
        return _bias(slid, dtype)
    return {"full_attention": _bias(mask, dtype), SLIDING: _bias(slid, dtype)}


def _bias(mask_RTT: Tensor, dtype: torch.dtype) -> Tensor:
    bias = torch.zeros(mask_RTT.shape, dtype=dtype, device=mask_RTT.device)
    return bias.masked_fill_(~mask_RTT, torch.finfo(dtype).min)[:, None]
