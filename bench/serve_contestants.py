"""What is compared over HTTP: whereupon, a beam search in the client, a greedy completion, and one token.

All send token ids with the same HTTP client, and no answer is parsed further than it needs be.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any

import httpx
from serve_load import Answer, K
from serve_questions import Task

NUM_LOGPROBS = 20  # the most that a server gives by default
TERMINATOR = "\n"

Node = dict[int, Any]


class Completions:
    """`/v1/completions` of one server; raises RuntimeError for an answer that is none."""

    def __init__(self, client: httpx.AsyncClient, model: str) -> None:
        self.client, self.model = client, model

    async def __call__(self, prompt: list[int], **fields: Any) -> dict[str, Any]:
        body = {"model": self.model, "prompt": prompt, "temperature": 0, **fields}
        response = await self.client.post("/v1/completions", json=body)
        if response.status_code != 200:
            raise RuntimeError(f"/v1/completions answers {response.status_code}: {response.text[:500]}")
        found: dict[str, Any] = response.json()
        return found


class Whereupon:
    """Ten titles of the catalogue from one request."""

    def __init__(self, complete: Completions, task: Task, catalogue: str) -> None:
        self.complete, self.catalogue = complete, catalogue
        self.title_of = dict(zip(task.item_ids, task.titles, strict=True))

    async def __call__(self, prompt: list[int]) -> Answer:
        body = await self.complete(prompt, n=K, vllm_xargs={"catalogue": self.catalogue})
        choices = sorted(body["choices"], key=lambda choice: int(choice["index"]))
        return Answer([self._item(choice) for choice in choices], [math.log(c["probability"]) for c in choices])

    def _item(self, choice: dict[str, Any]) -> str | None:
        """Its id, if the text is that item's title to the letter."""
        item_id = str(choice["item_id"])
        return item_id if self.title_of.get(item_id) == choice["text"] else None


class OneToken:
    """Reading the prompt and naming one token: no request to a model is shorter."""

    def __init__(self, complete: Completions) -> None:
        self.complete = complete

    async def __call__(self, prompt: list[int]) -> Answer:
        await self.complete(prompt, max_tokens=1)
        return Answer([])


class Greedy:
    """One title as the model writes it, unconstrained, up to the end of its line."""

    def __init__(self, complete: Completions, task: Task) -> None:
        self.complete, self.max_tokens = complete, max(map(len, task.title_tokens))
        self.item_of = dict(zip(task.titles, task.item_ids, strict=True))

    async def __call__(self, prompt: list[int]) -> Answer:
        body = await self.complete(prompt, max_tokens=self.max_tokens, stop=[TERMINATOR])
        return Answer([self.item_of.get(body["choices"][0]["text"].strip())])


@dataclass(frozen=True)
class Beam:
    """A beginning of titles: its log-probability, its tokens, and what may follow (nothing behind a whole title)."""

    log_prob: float
    path: tuple[int, ...]
    node: Node


class ClientBeams:
    """Beam search over the catalogue in the client, one token a call: what one writes today.

    All beams of a step are requested at once; tokens that leave no choice cost no call; the children of a node are
    renormalised among those that the server names; whole titles stay in the beam until ten of them fill it.
    """

    def __init__(self, complete: Completions, task: Task, width: int = K) -> None:
        self.complete, self.width, self.root = complete, width, _nested(task.title_tokens)
        self.item_of = {
            tuple(tokens): item_id for tokens, item_id in zip(task.title_tokens, task.item_ids, strict=True)
        }

    async def __call__(self, prompt: list[int]) -> Answer:
        beams, num_calls, num_lost = [_forced(Beam(0.0, (), self.root))], 0, 0
        while any(beam.node for beam in beams):
            open_beams = [beam for beam in beams if beam.node]
            scored = await asyncio.gather(*(self._scores(prompt, beam) for beam in open_beams))
            num_calls += len(open_beams)
            grown = [beam for beam in beams if not beam.node]
            for beam, log_probs in zip(open_beams, scored, strict=True):
                children = _children(beam, log_probs)
                num_lost += len(beam.node) - len(children)
                grown += children
            beams = sorted(grown, key=lambda beam: -beam.log_prob)[: self.width]
        items: list[str | None] = [self.item_of.get(beam.path) for beam in beams]
        return Answer(items, [beam.log_prob for beam in beams], num_calls, num_lost)

    async def _scores(self, prompt: list[int], beam: Beam) -> dict[int, float]:
        """Log-probabilities of the tokens that the server names."""
        body = await self.complete(
            [*prompt, *beam.path], max_tokens=1, logprobs=NUM_LOGPROBS, return_tokens_as_token_ids=True
        )
        (named,) = body["choices"][0]["logprobs"]["top_logprobs"]
        return {int(token.removeprefix("token_id:")): log_prob for token, log_prob in named.items()}


def _children(beam: Beam, log_probs: dict[int, float]) -> list[Beam]:
    """The beam with each token that was named and may follow."""
    named = {token: log_probs[token] for token in beam.node if token in log_probs}
    if not named:
        return []
    highest = max(named.values())
    total = highest + math.log(sum(math.exp(one - highest) for one in named.values()))
    return [
        _forced(Beam(beam.log_prob + one - total, (*beam.path, token), beam.node[token]))
        for token, one in named.items()
    ]


def _forced(beam: Beam) -> Beam:
    """The beam after all tokens that leave no choice."""
    path, node = beam.path, beam.node
    while len(node) == 1:
        ((token, node),) = node.items()
        path = (*path, token)
    return Beam(beam.log_prob, path, node)


def _nested(titles: list[list[int]]) -> Node:
    """The trie as dictionaries of dictionaries: token to what may follow it."""
    root: Node = {}
    for title in titles:
        node = root
        for token in title:
            node = node.setdefault(token, {})
    return root
