"""The vLLM engine: branching nodes are scored by one-token requests that share the prompt's prefix cache.

A node's request is the prompt and the tokens down to the node. The logits of the node's edges come beside its one token
(see `edge_logits`). They are made log-probabilities here. vLLM itself batches all nodes of a round, of all searches
that run at once. Needs a vLLM with our logits processor (`edge_logits.PROCESSOR`) and prefix caching.
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
from .edge_logits import EdgeFiles
from .protocol import Scored
from .reweighting import Reweighting
from .segments import Segments

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
        self.files = EdgeFiles()
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
        logits = await together([self._edges(*one) for one in zip(query_X.tolist(), node_X.tolist(), strict=True)])
        log_prob_J = Segments.of_edges(self.trie, node_X).log_softmax(np.concatenate(logits))
        scored_J = Reweighting(self.engine.temperature).scores(self.trie, query_X, node_X, log_prob_J)
        return Scored(scored_J, np.zeros(len(node_X), np.int64))  # a request names its whole path: no handle is needed

    async def _edges(self, query: int, node: int) -> Float32:
        """float32 [J]: logits of a node's edges behind a text. Raises ModelError: see `LogitsFile.read`."""
        from vllm import SamplingParams

        trie = self.trie
        token_J = trie.child_token_C[trie.child_ptr_B1[node] : trie.child_ptr_B1[node + 1]]
        path = trie.row_tokens(int(trie.row_lo_B[node]))[: trie.depth_B[node]]
        prompt = {"prompt_token_ids": [*self.texts[query], *path.tolist()]}
        self.num_requests += 1
        request_id = f"{self.name}-{self.num_requests}"
        with self.engine.files.wanted(token_J) as (wanted, file):
            params = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, extra_args=wanted.extra_args)
            (output,) = [output async for output in self.engine.client.generate(prompt, params, request_id)]
            logit_J = file.read()
        self.num_tokens += len(prompt["prompt_token_ids"])
        self.num_cached_tokens += output.num_cached_tokens or 0
        return logit_J


async def together(each: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, run at once; where one fails or all are cancelled, none is left running."""
    tasks = [asyncio.create_task(one) for one in each]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
