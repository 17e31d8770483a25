"""Routes for what a question depends on, for people who look into it: users, context, history and prompt."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import Annotated

from fastapi import APIRouter, Query

from ...histories.weather import WEATHER_COLUMNS
from ...recommend.context import places_in_prompts
from ...recommend.reading import past_rows, read_pieces
from ...recommend.recommender import Question, Recommender
from . import schemas
from .http_errors import OpenAIErrorRoute, documented
from .routes import Loaded
from .schemas import QuestionRequest, QuestionShown

MAX_USERS = 100
MAX_SHOWN_EVENTS = 200

question_router = APIRouter(route_class=OpenAIErrorRoute)


@question_router.get("/v1/context", tags=["recommendations"], responses=documented())
async def context(service: Loaded) -> schemas.ContextCard:
    """What a request may say of its context."""
    histories, settings = service.recommender.histories, service.config.prompts
    columns = histories.events.columns
    return schemas.ContextCard(
        weather="weather" not in settings.leave_out and any(name in columns for name in WEATHER_COLUMNS),
        place=places_in_prompts(histories),
        columns=[name for name in histories.manifest.get("context_columns", []) if name in columns],
        latest=histories.events["time"].max(), default_k=service.config.decode.k,
    )  # fmt: skip


@question_router.get("/v1/users", tags=["users"], responses=documented(403))
async def users(
    service: Loaded,
    starting: Annotated[str, Query(max_length=200, description="How their ids begin.")] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_USERS, description="Most users to list.")] = 20,
) -> schemas.UserList:
    """Users of the histories and of stored events whose ids begin so."""
    found = await asyncio.to_thread(_starting, service.recommender, starting, limit + 1)
    return schemas.UserList(data=found[:limit], has_more=len(found) > limit)


@question_router.post("/v1/questions", tags=["recommendations"], responses=documented(403, 404, 413, 429))
async def show_question(service: Loaded, body: QuestionRequest) -> QuestionShown:
    """The history and the prompt of a request for recommendations; the model is not called."""
    async with service.request():
        question = await service.question(body.request())
        return await asyncio.to_thread(_shown, service.recommender, question)


def _starting(recommender: Recommender, beginning: str, most: int) -> list[str]:
    ids = recommender.user_ids
    first = bisect_left(ids, beginning)
    return [user for user in ids[first : first + most] if user.startswith(beginning)]


def _shown(recommender: Recommender, question: Question) -> QuestionShown:
    prompt, place = question.prompt, question.place or (None, None)
    assert prompt.query is not None, "a question of a Recommender has one"
    pieces = [
        schemas.PromptPiece(
            kind=piece.kind, num_tokens=piece.num_tokens,
            fields=[schemas.FieldText(field=field, text=text) for field, text in piece.fields],
        )
        for piece in read_pieces(question, recommender.tokenizer)
    ]  # fmt: skip
    past = past_rows(question, recommender.histories, MAX_SHOWN_EVENTS)
    return QuestionShown(
        version=question.version.name, at=prompt.query["local_time"][-1].isoformat(timespec="seconds"),
        latitude=place[0], longitude=place[1], num_candidates=question.selection.num_allowed,
        num_events=prompt.num_events, events=[schemas.KnownEvent(**row) for row in past],
        prompt=pieces, prompt_tokens=len(prompt.tokens_L), budget_tokens=recommender.config.prompts.budget_tokens,
    )  # fmt: skip
