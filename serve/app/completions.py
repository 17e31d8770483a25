"""`/v1/completions` with a catalogue: n distinct titles of it, best first, in the format of OpenAI's API."""

from __future__ import annotations

import asyncio
import json
import math
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from starlette.responses import JSONResponse, Response, StreamingResponse

from ...catalogue import Filters, Selection, select_items
from ...decode import beam_searching, sampling
from ...decode.vllm_engine import together
from ...errors import DataError, PromptError
from ...recommend.prompt import Prompt
from ...recommend.recommender import Answer, Plan, Question, Request, exact_plan
from ...recommend.versions import CatalogueVersion
from .service import Service

if TYPE_CHECKING:
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest

MAX_PROMPTS = 64
_OWN = ("catalogue", "max_expansions")


async def complete(
    service: Service, version: CatalogueVersion, request: CompletionRequest, prompts: list[list[int]]
) -> Response:
    """The answer to a completion request that names a catalogue. Raises WhereuponError or HTTPException.

    Fields that mean nothing here are ignored. Without a temperature of its own, a request wants the exact ranking.
    """
    xargs = request.vllm_xargs or {}
    service.named(xargs["catalogue"])
    service.checked_k(request.n, "n")
    _check(service, request, prompts)
    selection = await asyncio.to_thread(_selection, version, xargs)
    budget, plan = service.budget(xargs.get("max_expansions")), _plan(request)
    query = await asyncio.to_thread(_query, service, version, request.user)
    questions = [Question(version, Prompt.of_tokens(prompt, query), selection) for prompt in prompts]
    results = await together([service.search("completions", question, plan, budget) for question in questions])
    answers = [Answer(question, result, request.n) for question, result in zip(questions, results, strict=True)]
    choices = [choice for answer in answers for choice in _choices(answer, request.logprobs is not None)]
    num_prompt = sum(map(len, prompts))
    num_title = sum(int(version.trie.length_I[version.trie.row_of_item_I[r.item_idx_K]].sum()) for r in results)
    about = [service.about(answer) for answer in answers]
    worst = max(about, key=lambda one: one["missing_probability"])
    body = {
        "id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(time.time()),
        "model": service.name, "choices": [{"index": index, **choice} for index, choice in enumerate(choices)],
        "whereupon": {**worst, "exact": all(one["exact"] for one in about)},
        "usage": {"prompt_tokens": num_prompt, "completion_tokens": num_title, "total_tokens": num_prompt + num_title},
    }  # fmt: skip
    if request.stream:  # one chunk with the whole title, which is decided at once
        chunks = iter([f"data: {json.dumps(body, ensure_ascii=False)}\n\n", "data: [DONE]\n\n"])
        return StreamingResponse(chunks, media_type="text/event-stream")
    return JSONResponse(body)


def _query(service: Service, version: CatalogueVersion, user: str | None) -> pl.DataFrame | None:
    """What the run's stack of rankers looks at: the history of the user that OpenAI's `user` names, if there is one."""
    if not user or service.recommender.config.priors == "none":
        return None
    try:
        return service.recommender.question(Request(user), version).prompt.query
    except DataError:  # to OpenAI, a user may be called anything
        return None


def _check(service: Service, request: CompletionRequest, prompts: list[list[int]]) -> None:
    if not 0 <= (request.temperature or 0) <= 100 or not 0 < (1 if request.top_p is None else request.top_p) <= 1:
        raise PromptError("temperature should be between 0 and 100, and top_p above 0 and at most 1; correct them.")
    highest = max((max(prompt, default=-1) for prompt in prompts), default=-1)
    if highest >= service.limits.num_tokens or not all(prompts):
        raise PromptError(
            f"A prompt should hold token ids below {service.limits.num_tokens}, and at least one; correct it."
        )
    budget = (request.vllm_xargs or {}).get("max_expansions", 1)
    if not isinstance(budget, int) or budget < 1:
        raise PromptError(f"max_expansions should be a whole number of at least 1, not {str(budget)[:40]!r}.")
    if request.stream and (request.n > 1 or len(prompts) > 1):
        raise PromptError("A stream gives a single choice of a single prompt; set n to 1, or stream to false.")


def _selection(version: CatalogueVersion, xargs: dict[str, Any]) -> Selection:
    """The items that the flat filters of a request leave."""
    filters = Filters.read({name: value for name, value in xargs.items() if name not in _OWN})
    if filters.unseen:
        raise PromptError(
            "Which items are new to a user is known to /v1/recommendations only; leave `unseen` out here."
        )
    return select_items(version.facts, filters)


def _plan(request: CompletionRequest) -> Plan:
    """Exact search, a beam of width n, or distinct samples, as OpenAI's fields say."""
    n, temperature, top_p = request.n, request.temperature, 1.0 if request.top_p is None else request.top_p
    if request.use_beam_search:
        return lambda trie, subset, change, budget, slack: beam_searching(
            trie, 1, n, width=n, subset=subset, reweighting=change
        )
    if temperature:
        rng = np.random.default_rng(request.seed)
        return lambda trie, subset, change, budget, slack: sampling(
            trie, 1, n, rng, temperature=max(temperature, 0.01), top_p=top_p, max_expansions=budget,
            subset=subset, reweighting=change,
        )  # fmt: skip
    return exact_plan(n)


def _choices(answer: Answer, with_logprobs: bool) -> Iterator[dict[str, Any]]:
    """In OpenAI's form, with the title as one token: what is certain within it has no probability of its own."""
    for row, log_prob in zip(answer.rows(), answer.result.log_prob_K.tolist(), strict=True):
        title = row["title"]
        logprobs = {"tokens": [title], "token_logprobs": [log_prob], "top_logprobs": [{title: log_prob}],
                    "text_offset": [0]}  # fmt: skip
        yield {"text": title, "finish_reason": "stop", "stop_reason": None, "item_id": row["item_id"],
               "logprobs": logprobs if with_logprobs else None, "probability": math.exp(log_prob)}  # fmt: skip
