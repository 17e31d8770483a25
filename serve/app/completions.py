"""`/v1/completions` with a catalogue: n distinct titles of it, best first, in the format of OpenAI's API."""

from __future__ import annotations

import asyncio
import json
import math
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response, StreamingResponse

from ...catalogue import Filters, Selection, select_items
from ...decode import beam_searching, sampling
from ...decode.vllm_engine import together
from ...errors import PromptError
from ...recommend.prompt import Prompt
from ...recommend.recommender import Answer, Plan, Question, exact_plan
from ...recommend.versions import CatalogueVersion
from .service import Service

MAX_PROMPTS = 64
_OWN = ("catalogue", "max_expansions")


class Completion(BaseModel):
    """What a completion over a catalogue goes by; other fields of a request mean nothing here and are let be."""

    model_config = ConfigDict(extra="ignore")

    prompts: list[list[int]] = Field(min_length=1, max_length=MAX_PROMPTS)
    n: int = 1
    temperature: float = Field(0.0, ge=0, le=100)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = None
    use_beam_search: bool = False
    logprobs: int | None = None
    stream: bool = False
    xargs: dict[str, Any]


async def complete(service: Service, version: CatalogueVersion, request: Completion) -> Response:
    """The answer to a completion request. Raises WhereuponError, or HTTPException, for what cannot be answered."""
    service.named(request.xargs["catalogue"])
    service.checked_k(request.n, "n")
    highest = max((max(prompt, default=-1) for prompt in request.prompts), default=-1)
    if highest >= service.limits.num_tokens or not all(request.prompts):
        raise PromptError(
            f"A prompt should hold token ids below {service.limits.num_tokens}, and at least one; correct it."
        )
    if request.stream and (request.n > 1 or len(request.prompts) > 1):
        raise PromptError("A stream gives a single choice of a single prompt; set n to 1, or stream to false.")
    selection = await asyncio.to_thread(_selection, version, request.xargs)
    budget = service.budget(_budget(request.xargs))
    plan = _plan(request)
    questions = [Question(version, Prompt.of_tokens(prompt), selection) for prompt in request.prompts]
    results = await together([service.search("completions", question, plan, budget) for question in questions])
    answers = [Answer(question, result, request.n) for question, result in zip(questions, results, strict=True)]
    choices = [choice for answer in answers for choice in _choices(answer, request.logprobs is not None)]
    for index, choice in enumerate(choices):
        choice["index"] = index
    num_prompt = sum(map(len, request.prompts))
    num_title = sum(int(version.trie.length_N[version.trie.row_of_item_N[r.item_idx_K]].sum()) for r in results)
    body = {
        "id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(time.time()),
        "model": service.name, "choices": choices,
        "whereupon": _about(service, answers),
        "usage": {"prompt_tokens": num_prompt, "completion_tokens": num_title, "total_tokens": num_prompt + num_title},
    }  # fmt: skip
    return StreamingResponse(_stream(body), media_type="text/event-stream") if request.stream else JSONResponse(body)


def _selection(version: CatalogueVersion, xargs: dict[str, Any]) -> Selection:
    """The items that the flat filters of a request leave."""
    values = {name: value for name, value in xargs.items() if name not in _OWN}
    filters = Filters.read(values)
    if filters.unseen:
        raise PromptError(
            "Which items are new to a user is known to /v1/recommendations only; leave `unseen` out here."
        )
    return select_items(version.facts, filters)


def _budget(xargs: dict[str, Any]) -> int | None:
    found = xargs.get("max_expansions")
    if found is not None and (not isinstance(found, int) or found < 1):
        raise PromptError(f"max_expansions should be a whole number of at least 1, not {str(found)[:40]!r}.")
    return found


def _plan(request: Completion) -> Plan:
    """Exact search, a beam of width n, or distinct samples, as OpenAI's fields say."""
    n = request.n
    if request.use_beam_search:
        return lambda trie, subset, change, budget, slack: beam_searching(
            trie, 1, n, width=n, subset=subset, reweighting=change
        )
    if request.temperature > 0:
        rng = np.random.default_rng(request.seed)
        return lambda trie, subset, change, budget, slack: sampling(
            trie, 1, n, rng, temperature=max(request.temperature, 0.01), top_p=request.top_p, max_expansions=budget,
            subset=subset, reweighting=change,
        )  # fmt: skip
    return exact_plan(n)


def _choices(answer: Answer, with_logprobs: bool) -> list[dict[str, Any]]:
    return [
        {
            "index": 0, "text": row["title"], "finish_reason": "stop", "stop_reason": None,
            "logprobs": _logprobs(row["title"], log_prob) if with_logprobs else None,
            "item_id": row["item_id"], "probability": math.exp(log_prob),
        }
        for row, log_prob in zip(answer.rows(), answer.result.log_prob_K.tolist(), strict=True)
    ]  # fmt: skip


def _logprobs(title: str, log_prob: float) -> dict[str, Any]:
    """OpenAI's form, with the title as one token: what is certain within it has no probability of its own."""
    return {"tokens": [title], "token_logprobs": [log_prob], "top_logprobs": [{title: log_prob}], "text_offset": [0]}


def _about(service: Service, answers: list[Answer]) -> dict[str, Any]:
    """What holds of the answers to all prompts."""
    each = [service.about(answer) for answer in answers]
    worst = max(each, key=lambda about: about["missing_probability"])
    return {**worst, "exact": all(about["exact"] for about in each)}


async def _stream(body: dict[str, Any]) -> AsyncIterator[str]:
    """One chunk with the whole title, which is decided at once."""
    yield f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
    yield "data: [DONE]\n\n"
