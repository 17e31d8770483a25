"""The vLLM engine: branching nodes are scored by one-token requests that share the prompt's prefix cache.

A node's request is the prompt and the tokens down to the node, allowed to continue with the node's edges only; vLLM's
`processed_logprobs` are then the edges' log-probabilities, renormalised. All nodes of a round, of all searches that
run at once, are batched by vLLM itself. Needs a server with --logprobs-mode processed_logprobs, a large
--max-logprobs and prefix caching; works with either of vLLM's model runners, as nothing of it runs inside the engine.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from ..arrays import Float32, Int32, Int64
from ..catalogue import Trie
from ..errors import ModelError
from .protocol import Scored
from .reweighting import Reweighting

T = TypeVar("T")


class Client(Protocol):
    """What is needed of vLLM's `EngineClient`."""

    def generate(self, prompt: Any, sampling_params: Any, request_id: str) -> AsyncGenerator[Any, None]: ...


@dataclass(frozen=True)
class Limits:
    """What a running vLLM can do: tokens seen at once, different tokens, and tokens in a block of its prefix cache."""

    max_tokens: int
    num_tokens: int
    block_tokens: int

    @classmethod
    def of(cls, client: Any) -> Limits:
        """Those of an `EngineClient`."""
        model = client.model_config
        return cls(model.max_model_len, model.get_vocab_size(), client.vllm_config.cache_config.block_size)


class VllmEngine:
    """Scores the titles of tries with the model behind `client`; `temperature` divides the logits, as in training."""

    def __init__(self, client: Client, temperature: float = 1.0) -> None:
        self.client, self.temperature = client, temperature
        self._number = itertools.count()

    def read(self, texts: Sequence[Int32], trie: Trie) -> VllmReading:
        """Texts (int32) at whose ends a title of `trie` is predicted; none is read before a score is needed."""
        return VllmReading(self, trie, [text_L.tolist() for text_L in texts], f"whereupon-{next(self._number)}")


@dataclass
class VllmReading:
    """See `AsyncReading`. The numbers count what it has cost so far; tokens include those of prefixes."""

    engine: VllmEngine
    trie: Trie
    texts: list[list[int]]
    name: str
    num_rounds: int = field(default=0, init=False)
    num_requests: int = field(default=0, init=False)
    num_tokens: int = field(default=0, init=False)
    num_cached_tokens: int = field(default=0, init=False)

    async def score(self, query_X: Int64, node_X: Int64, parent_X: Int64) -> Scored:
        """See `Reading.score`. Where it is cancelled or one request fails, the others are given up too."""
        self.num_rounds += 1
        log_prob_J = np.concatenate(
            await together([self._edges(*one) for one in zip(query_X.tolist(), node_X.tolist(), strict=True)])
        )
        scored_J = Reweighting(self.engine.temperature).scores(self.trie, query_X, node_X, log_prob_J)
        return Scored(scored_J, np.zeros(len(node_X), np.int64))  # a request names its whole path: no handle is needed

    async def _edges(self, query: int, node: int) -> Float32:
        """float32: log-probabilities of a node's edges behind a text. Raises ModelError: see `_in_order`."""
        from vllm import SamplingParams

        trie = self.trie
        token_J = trie.child_token_C[trie.child_ptr_B1[node] : trie.child_ptr_B1[node + 1]]
        path = trie.row_tokens(int(trie.row_lo_B[node]))[: trie.depth_B[node]]
        params = SamplingParams(
            max_tokens=1, temperature=0.0, allowed_token_ids=token_J.tolist(), logprobs=len(token_J),
            flat_logprobs=True, detokenize=False,
        )  # fmt: skip
        self.num_requests += 1
        request_id = f"{self.name}-{self.num_requests}"
        prompt = {"prompt_token_ids": [*self.texts[query], *path.tolist()]}
        (output,) = [output async for output in self.engine.client.generate(prompt, params, request_id)]
        self.num_tokens += len(prompt["prompt_token_ids"])
        self.num_cached_tokens += output.num_cached_tokens or 0
        flat = output.outputs[0].logprobs
        return _in_order(token_J, np.array(flat.token_ids), np.array(flat.logprobs, np.float32))


async def together(each: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, run at once; where one fails or all are cancelled, none is left running."""
    tasks = [asyncio.create_task(one) for one in each]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _in_order(token_J: Int32, token_M: Int64, log_prob_M: Float32) -> Float32:
    """float32 [J]: of the tokens that vLLM names (some of them twice), the log-probabilities of `token_J`."""
    place_M = np.searchsorted(token_J, token_M)
    fits_M = token_J[np.minimum(place_M, len(token_J) - 1)] == token_M
    log_prob_J = np.full(len(token_J), np.nan, np.float32)
    log_prob_J[place_M[fits_M]] = log_prob_M[fits_M]
    if not np.isfinite(log_prob_J).all():
        raise ModelError(
            "vLLM gives scores that are not finite, or not for all continuations: expected a server started by "
            "`whereupon serve`, and complete model weights."
        )
    return log_prob_J
