"""Answers of the server: the questions of a `Recommender`, searched by vLLM with a limit on searches at once."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from starlette.exceptions import HTTPException

from ...arrays import Int32
from ...catalogue import Trie
from ...decode import SearchResult, run_async
from ...decode.search import SLACK
from ...decode.vllm_engine import Limits
from ...errors import PromptError, UnknownUserError
from ...recommend.context import RequestContext
from ...recommend.recommender import Answer, Plan, Question, Recommender, Request, exact_plan
from ...recommend.selection import RequestFilters
from ...recommend.versions import CatalogueVersion
from ..settings import ServeConfig
from . import metrics
from .concurrency import ConcurrencyLimit
from .schemas import Context, Recommendation, RecommendationRequest, Recommendations

# How far (in nats) below the k-th best entry a node is expanded ahead of need. Nothing where a prompt does not end on a
# cache block: a node then costs about as much as a round, as what stands behind the last whole block is read again.
UNALIGNED_SLACK = 0.0


class Engine(Protocol):
    """What reads prompts: see `decode.vllm_engine.VllmEngine`."""

    def read(self, tokens_L: Int32, trie: Trie) -> Any: ...


@dataclass(frozen=True, eq=False)
class Service:
    """All that requests need."""

    config: ServeConfig
    recommender: Recommender
    engine: Engine
    limit: ConcurrencyLimit
    limits: Limits

    @property
    def name(self) -> str:
        """Of model and catalogue."""
        return self.config.name

    async def recommend(
        self, request: RecommendationRequest, version: CatalogueVersion | None = None, after_last: bool = False
    ) -> Recommendations:
        """Rank items of one version of the catalogue, else of the current one, for a user at a moment.

        Without a time the moment is now or, with `after_last`, right after the user's last event. Raises WhereuponError
        or HTTPException for what cannot be answered.
        """
        k = self.checked_k(request.k or self.config.decode.k, "k")
        version = version or await self.recommender.catalogues.fresh()
        budget = self.budget(request.max_expansions)
        async with self.limit.request():
            question = await asyncio.to_thread(self._question, request, version, None if after_last else _now())
            answer = Answer(question, await self.search("recommendations", question, exact_plan(k), budget), k)
        return Recommendations(
            **self.about(answer), data=[Recommendation(**row) for row in answer.rows()],
            num_events=question.prompt.num_events, prompt_tokens=len(question.prompt.tokens_L),
        )  # fmt: skip

    async def search(self, kind: str, question: Question, plan: Plan, budget: int) -> SearchResult:
        """Run one search, once it is its turn."""
        tokens_L, trie = question.prompt.tokens_L, question.version.trie
        need, seen = len(tokens_L) + int(trie.length_N.max()), self.limits.max_tokens
        if need > seen:
            raise PromptError(f"The model sees {seen} tokens but prompt and title may have {need}; shorten the prompt.")
        async with self.limit.search():
            reading, began = self.engine.read(tokens_L, trie), time.perf_counter()
            slack = SLACK if len(tokens_L) % self.limits.block_tokens == 0 else UNALIGNED_SLACK
            (result,) = await run_async(reading, question.search(plan, budget, slack))
            metrics.SECONDS.observe(time.perf_counter() - began)
        metrics.SEARCHES.labels(kind, str(result.exact).lower()).inc()
        metrics.EXPANSIONS.observe(result.num_expansions)
        metrics.ROUNDS.observe(reading.num_rounds)
        metrics.PROMPT_TOKENS.inc(len(tokens_L))
        metrics.REQUESTED_TOKENS.inc(reading.num_tokens)
        metrics.CACHED_TOKENS.inc(reading.num_cached_tokens)
        return result

    def about(self, answer: Answer) -> dict[str, Any]:
        """What an answer says of itself: the fields of `schemas.Answer`."""
        return {
            "catalogue": self.name, "version": answer.question.version.name, "exact": answer.result.exact,
            "missing_probability": answer.missing_probability,
            "num_candidates": answer.question.selection.num_allowed, "reason": answer.reason,
        }  # fmt: skip

    def checked_k(self, k: int, name: str) -> int:
        """`k` itself. Raises HTTPException 400 beyond what the server allows."""
        limit = self.config.serve.max_k
        if not 1 <= k <= limit:
            raise HTTPException(400, f"{name} should be between 1 and {limit}, not {k}.")
        return k

    def budget(self, asked: int | None) -> int:
        """How many nodes a search may expand."""
        limit = self.config.serve.max_expansions
        return min(asked or self.config.decode.max_expansions or limit, limit)

    def _question(self, request: RecommendationRequest, version: CatalogueVersion, default_at: str | None) -> Question:
        """Read the user's history and make the prompt; takes milliseconds of a thread."""
        limit, given = self.config.serve.max_events, request.events
        if len(given or ()) > limit:
            raise HTTPException(413, f"At most {limit} events go into one request, not {len(given or ())}; send fewer.")
        context, wanted = _context(request.context, default_at), request.filters
        filters = RequestFilters(
            wanted.near_km, wanted.category or (), wanted.unseen, wanted.open_now, wanted.only, wanted.exclude
        )
        try:
            return self.recommender.question(Request(request.user_id, given, context, filters), version)
        except UnknownUserError:  # whose sentence names users of similar ids, which are nobody's business here
            message = f"No events of user {request.user_id!r} are known here; correct the id, or send events along."
            raise HTTPException(404, message) from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _context(context: Context, default_at: str | None) -> RequestContext:
    """The moment as the command line would say it."""
    place = None if context.latitude is None else f"{context.latitude:f},{context.longitude:f}"
    return RequestContext(context.at or default_at, context.weather, place, context.columns)
