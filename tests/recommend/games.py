"""The value function of an explanation, wording by wording, and what other libraries make of it.

Shapes: G = groups, S = 2**G sets of them by their bits, K = items of the answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from whereupon.arrays import Float64
from whereupon.catalogue import Subset
from whereupon.decode.search import search
from whereupon.recommend import Recommender
from whereupon.recommend.recommender import Answer
from whereupon.recommend.why import _only, _values
from whereupon.recommend.wordings import EVENT_GROUPS, Worded


def value_function(recommender: Recommender, answer: Answer) -> Float64:
    """float64 [S, K]: every wording read by itself from its first token, and nothing shared."""
    worded, value_S = Worded(answer.question), []
    engine, k = recommender._engine(answer.question.version.trie), len(answer.result.item_idx_K)
    subset = Subset.of(engine.trie, _only(answer).allowed_I)
    for bits in range(1 << len(worded.groups)):
        gone = [group for bit, group in enumerate(worded.groups) if not bits >> bit & 1]
        text_L, query = worded.past_without([group for group in gone if group in EVENT_GROUPS])
        text_L = np.concatenate([text_L, worded.last_line([group for group in gone if group not in EVENT_GROUPS])])
        change, reading = answer.question.version.change_of(query), engine.read(text_L, np.array([len(text_L) - 1]))
        (result,) = search(reading, engine.trie, k, subset=subset, reweighting=change)
        value_S.append(_values(result, answer))
    return np.array(value_S)


def _of_sets(value_SK: Float64, member_XG: Any) -> Float64:
    """float64 [X, K]: the values of sets that are given by ones and zeros."""
    bits_G = 1 << np.arange(member_XG.shape[1])
    found: Float64 = value_SK[(np.asarray(member_XG) > 0.5).astype(int) @ bits_G]
    return found


def captum_values(value_SK: Float64) -> Float64 | None:
    """float64 [G, K] by captum's ShapleyValues, which goes through all orders; None: it is not installed."""
    try:
        import torch
        from captum.attr import ShapleyValues
    except ImportError:
        return None
    num = len(value_SK).bit_length() - 1
    explainer = ShapleyValues(lambda member_XG: torch.from_numpy(_of_sets(value_SK, member_XG.numpy())))
    whole, nothing = torch.ones(1, num, dtype=torch.float64), torch.zeros(1, num, dtype=torch.float64)
    found = [explainer.attribute(whole, baselines=nothing, target=item)[0].numpy() for item in range(value_SK.shape[1])]
    return np.stack(found, axis=1)


def shap_values(value_SK: Float64) -> Float64 | None:
    """float64 [G, K] by shap's KernelExplainer over all sets; None: it is not installed."""
    try:
        import shap
    except ImportError:
        return None
    num = len(value_SK).bit_length() - 1
    explainer = shap.KernelExplainer(lambda member_XG: _of_sets(value_SK, member_XG), np.zeros((1, num)))
    found = explainer.shap_values(np.ones((1, num)), nsamples=1 << num + 1, l1_reg=False, silent=True)
    return np.asarray(found, np.float64).reshape(num, -1)
