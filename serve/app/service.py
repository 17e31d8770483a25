"""Answers of the server: the questions of a `Recommender`, searched by vLLM with a limit on searches at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import polars as pl
from prometheus_client import Counter, Gauge, Histogram
from starlette.exceptions import HTTPException

from ...arrays import Int32
from ...catalogue import Selection, Trie
from ...decode import Searching, SearchResult, run_async
from ...decode.search import SLACK
from ...decode.vllm_engine import Limits, VllmEngine
from ...errors import ModelError, PromptError, UnknownUserError, first_line
from ...recommend.explanation import Explanation
from ...recommend.private_store import known_as
from ...recommend.prompt import Prompt
from ...recommend.recommender import Answer, Plan, Question, Recommender, Request, exact_plan
from ...recommend.versions import CatalogueVersion
from ...recommend.why import Explaining, explaining
from ...recommend.wordings import Wordings
from ..settings import ServeConfig
from .adapters import Adapters, mark_of
from .clients import CLIENT
from .gate import Gate
from .schemas import Forgotten, Recommendation, Recommendations
from .traces import TracedClient, note, step
from .turns import FullError, Turns

# Shown beside vLLM's own figures under /metrics.
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60)
_COUNTS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 100, 200, 500, 1000, 5000)

SEARCHES = Counter("whereupon_searches", "Finished searches.", ["kind", "exact"])
ABANDONED = Counter("whereupon_searches_abandoned", "Searches given up: the client left, or the model failed.")
REFUSED = Counter("whereupon_requests_refused", "Requests refused because too many were running or waiting.")
TIMED_OUT = Counter("whereupon_requests_timed_out", "Requests given up because their work took too long.")
RUNNING = Gauge("whereupon_searches_running", "Searches that run now.")
WAITING = Gauge("whereupon_requests_waiting", "Requests that wait for their turn.")
CLIENTS_WAITING = Gauge("whereupon_clients_waiting", "Clients that these requests are from.")
SECONDS = Histogram("whereupon_search_seconds", "From the prompt to the ranking.", buckets=_SECONDS)
ROUNDS = Histogram("whereupon_search_rounds", "Rounds of the model for one search.", buckets=_COUNTS)
EXPANSIONS = Histogram("whereupon_search_expansions", "Expanded nodes of the trie for one search.", buckets=_COUNTS)
PROMPT_TOKENS = Counter("whereupon_prompt_tokens", "Tokens of the searches' prompts.")
REQUESTED_TOKENS = Counter("whereupon_requested_tokens", "Tokens that searches gave to the model, prefixes included.")
CACHED_TOKENS = Counter("whereupon_cached_tokens", "Of those, tokens that the prefix cache had already.")
ITEMS = Gauge("whereupon_catalogue_items", "Items of the catalogue that is served.")
EDITS = Counter("whereupon_catalogue_edits", "Versions of the catalogue that this server wrote.")
ADAPTER_CHANGES = Counter("whereupon_adapter_changes", "Times that another version of the adapter was taken over.")


class ConcurrencyLimit:
    """At most `searches` requests are at work and as many searches run; others wait, and each client that waits has a
    turn after the other (see `turns`).

    A request may have any number of searches. At most as many requests wait as work; where more come, those of the
    client that has most waiting are refused. None waits for longer than `wait_s`. Nothing is computed for what is
    refused. Work on a request is given up after `timeout_s`.
    """

    def __init__(self, searches: int, wait_s: float, timeout_s: float) -> None:
        self.searches, self.wait_s, self.timeout_s = searches, wait_s, timeout_s
        self._requests, self._searches = Turns(searches, searches), Turns(searches)
        RUNNING.set_function(lambda: self._searches.num_taken)
        WAITING.set_function(lambda: len(self._requests.waiting))
        CLIENTS_WAITING.set_function(lambda: self._requests.waiting.num_clients)

    @property
    def is_full(self) -> bool:
        """Whether as many requests wait as can."""
        return len(self._requests.waiting) >= self.searches

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Around all the work of a request.

        Raises HTTPException 429 where too many requests of its client wait, or it has waited for too long; 503 where
        its work takes too long.
        """
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._requests.one(CLIENT.get(), self.wait_s))
            except FullError:
                _refuse(f"{self.searches} requests wait already, which is the most; ask again in a moment.")
            except TimeoutError:
                _refuse(f"The request has waited for {self.wait_s:g} s, which is the most; ask again in a moment.")
            await stack.enter_async_context(self._deadline())
            yield

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.timeout_s) as deadline:
                yield
        except TimeoutError:
            if not deadline.expired():  # somebody else's
                raise
            TIMED_OUT.inc()
            message = f"The request took more than {self.timeout_s:g} s and was given up; ask for less, or later."
            raise HTTPException(503, message, {"Retry-After": "5"}) from None

    @asynccontextmanager
    async def search(self) -> AsyncIterator[None]:
        """Around one search of a request."""
        async with self._searches.one(CLIENT.get()):
            try:
                yield
            except BaseException:
                ABANDONED.inc()
                raise


def _refuse(message: str) -> NoReturn:
    REFUSED.inc()
    raise HTTPException(429, message, {"Retry-After": "1"})


@dataclass(eq=False)
class Service:
    """All that requests need. `recommender` and `engine` are of one version of the adapter, and change together, while
    no request is at work (`change_to`); within `request` they stay."""

    config: ServeConfig
    recommender: Recommender
    client: Any  # vLLM's EngineClient
    limit: ConcurrencyLimit
    limits: Limits
    engine: VllmEngine = field(init=False)
    adapters: Adapters = field(init=False)
    gate: Gate = field(init=False, default_factory=Gate)

    @classmethod
    async def load(cls, config: ServeConfig, client: Any) -> Service:
        """Load all that a server needs beside the model, and search once.

        What the model does for the first time takes seconds (kernels are compiled), and no user should wait for it.
        Raises WhereuponError for what is missing or does not belong together.
        """
        mark = mark_of(config.run)
        recommender = await asyncio.to_thread(Recommender.load, config, keeps_events=True)
        settings = config.serve
        limit = ConcurrencyLimit(settings.max_searches, settings.max_wait_s, settings.request_timeout_s)
        service = cls(config, recommender, client, limit, Limits.of(client))
        service.adapters = Adapters(service, mark)
        await service.adapters.check_weights()
        version = recommender.catalogues.current
        ITEMS.set(version.items.height)
        tokens_L = np.concatenate([version.encoder.preamble, version.trie.row_tokens(0)])
        everything = Selection(np.ones(version.trie.num_items, bool), "")
        question = Question(version, Prompt.of_tokens(tokens_L.tolist()), everything)
        await service.search("warm-up", question, exact_plan(10), 100)
        await service.adapters.catch_up()  # what was chosen since: a replica never answers with less than the others
        return service

    def __post_init__(self) -> None:
        self._use(self.recommender)

    def _use(self, recommender: Recommender) -> None:
        traced = TracedClient(self.client) if self.config.serve.traces else self.client
        self.recommender, self.engine = recommender, VllmEngine(traced, recommender.card["temperature"])

    @property
    def name(self) -> str:
        """Of model and catalogue."""
        return self.config.name

    @property
    def adapter(self) -> str:
        """The version of the adapter that answers."""
        assert self.recommender.adapter is not None, "answers need one"
        return self.recommender.adapter.name

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Around all the work of a request. Raises HTTPException: see `ConcurrencyLimit.request`."""
        async with self.limit.request(), self.gate.request():
            yield

    async def change_to(self, recommender: Recommender, weights: Path) -> None:
        """Answer with another version of the adapter, whose merged weights are in a folder, between two requests.

        vLLM's own routes finish what they have begun, too. Raises ModelError where vLLM cannot load the weights; then
        those before are loaded again.
        """
        async with self.gate.between_requests():
            before = self.client.model_config.model
            if before != str(weights):
                await self.client.pause_generation(mode="wait")  # which empties the prefix cache
                try:
                    await self._load_weights(str(weights), before)
                finally:
                    await self.client.resume_generation()
            self._use(recommender)
            ITEMS.set(recommender.catalogues.current.items.height)
        ADAPTER_CHANGES.inc()

    async def _load_weights(self, folder: str, before: str) -> None:
        try:
            await self.client.collective_rpc("whereupon_take_weights", args=(folder,))
        except Exception as error:
            await self.client.collective_rpc("whereupon_take_weights", args=(before,))
            raise ModelError(f"vLLM cannot load the weights in {folder} ({first_line(error)}); see its log.") from error
        self.client.model_config.model = folder

    def close(self) -> None:
        """Give up the connections to the event store, and the weights on disk."""
        self.recommender.close()
        self.adapters.close()

    def named(self, catalogue: str) -> Service:
        """Itself. Raises HTTPException 404 unless it is of that catalogue."""
        if catalogue != self.name:
            raise HTTPException(404, f"There is no catalogue {str(catalogue)[:100]!r} here; known is {self.name!r}.")
        return self

    async def is_alive(self) -> bool:
        """Whether the model answers."""
        try:
            await self.client.check_health()
        except Exception:  # whatever it is that ails the engine, it does not answer
            return False
        return True

    async def check_ready(self) -> None:
        """Raise HTTPException 503 where a request that came now would not be answered, StoreError without a store."""
        if not await self.is_alive():
            raise HTTPException(503, "The model does not answer; start the server again.")
        if self.limit.is_full:
            raise HTTPException(503, "All turns are taken; send requests elsewhere for a moment.", {"Retry-After": "1"})
        store = self.recommender.store
        assert store is not None, "a server opens one"
        await asyncio.to_thread(store.of_user, "", 1)

    async def recommend(
        self, request: Request, k: int | None, most: int | None = None, version: CatalogueVersion | None = None, *,
        explain: bool = False,
    ) -> Recommendations:  # fmt: skip
        """Rank items of a version of the catalogue, else of the current one; `most`: how many nodes may be expanded.

        Raises WhereuponError or HTTPException for what cannot be answered.
        """
        k = self.checked_k(k or self.config.decode.k, "k")
        self._check_events(request)
        budget = self.budget(most)
        async with self.request():
            version = version or await self.recommender.catalogues.fresh()
            question = await asyncio.to_thread(self._question, request, version)
            answer = Answer(question, await self.search("recommendations", question, exact_plan(k), budget), k)
            why = await self._explained(answer) if explain else None
            return Recommendations(
                **self.about(answer), data=[Recommendation(**row) for row in answer.rows()],
                num_events=question.prompt.num_events, prompt_tokens=len(question.prompt.tokens_L),
                explanation=why,
            )  # fmt: skip

    async def question(self, request: Request) -> Question:
        """A request made ready, from the current version of the catalogue; the model is not called. Within `request`.

        Raises WhereuponError or HTTPException for what cannot be answered.
        """
        self._check_events(request)
        version = await self.recommender.catalogues.fresh()
        return await asyncio.to_thread(self._question, request, version)

    def _check_events(self, request: Request) -> None:
        limit, given = self.config.serve.max_events, len(request.events or ())
        if given > limit:
            raise HTTPException(413, f"At most {limit} events go into one request, not {given}; send fewer.")

    async def forget(self, user_id: str) -> Forgotten:
        """Delete what is stored of a person, and use nothing of what is prepared from now on.

        The prefix cache of the model is emptied, since it holds prompts. Raises StoreError: nothing was deleted, though
        prepared events are not used any more; asking again is safe.
        """
        recommender, store = self.recommender, self.recommender.store
        assert store is not None, "a server opens one"
        user_id = known_as(recommender.privacy, user_id)
        await asyncio.to_thread(recommender.forgotten.add, user_id)
        deleted = await asyncio.to_thread(store.forget, user_id)
        await self.client.reset_prefix_cache()
        prepared = recommender.histories.events.filter(pl.col("user_id") == user_id)
        learnt = prepared.filter(pl.col("split") != "test").height
        return Forgotten(events=deleted, prepared_events=prepared.height, adapter_may_know=bool(learnt))

    async def search(self, kind: str, question: Question, plan: Plan, budget: int | None) -> SearchResult:
        """Run the search of one question, once it is its turn."""
        texts, trie = [question.prompt.tokens_L], question.version.trie

        def search_of(slack: float) -> Searching:
            with step("rankers"):  # what they say is changed into masses of the trie's nodes
                return question.search(plan, budget, slack)

        (result,) = await self._search(kind, texts, trie, search_of)
        return result

    async def _search(
        self, kind: str, texts: Sequence[Int32], trie: Trie, search_of: Callable[[float], Searching]
    ) -> list[SearchResult]:  # fmt: skip
        """Run one search for all of some texts, made for a slack (see `searching`), once it is its turn."""
        need, seen = max(map(len, texts)) + int(trie.length_I.max()), self.limits.max_tokens
        if need > seen:
            raise PromptError(f"The model sees {seen} tokens but prompt and title may have {need}; shorten the prompt.")
        async with self.limit.search():
            reading, began = self.engine.read(texts, trie), time.perf_counter()
            # Where a prompt does not end on a cache block, no node is expanded ahead of need: it costs as much as a
            # round, as what stands behind the last whole block is read again.
            slack = 0.0 if any(len(text_L) % self.limits.block_tokens for text_L in texts) else SLACK
            with step("search", kind=kind) as span:
                results = await run_async(reading, search_of(slack))
                note(span, rounds=reading.num_rounds, exact=all(result.exact for result in results))
            SECONDS.observe(time.perf_counter() - began)
        for result in results:
            SEARCHES.labels(kind, str(result.exact).lower()).inc()
            EXPANSIONS.observe(result.num_expansions)
        ROUNDS.observe(reading.num_rounds)
        PROMPT_TOKENS.inc(sum(map(len, texts)))
        REQUESTED_TOKENS.inc(reading.num_tokens)
        CACHED_TOKENS.inc(reading.num_cached_tokens)
        return results

    async def _explained(self, answer: Answer) -> Explanation:
        """Why: the wordings of a step are one search; vLLM's prefix cache has what they share."""
        recommender, trie = self.recommender, answer.question.version.trie
        found = explaining(
            answer, recommender.catalogues.blend, recommender.histories, self.config.serve.explain_seconds
        )
        results: list[SearchResult] | None = None
        while True:
            asked = await asyncio.to_thread(_next, found, results)
            if isinstance(asked, Explanation):
                return asked
            search_of = partial(asked.search, trie, self.config.serve.max_expansions)
            results = await self._search("explanations", asked.texts, trie, search_of)

    def about(self, answer: Answer) -> dict[str, Any]:
        """What an answer says of itself, by the fields of `schemas.Recommendations`."""
        return {
            "catalogue": self.name, "version": answer.question.version.name, "adapter": self.adapter,
            "exact": answer.result.exact,
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

    def _question(self, request: Request, version: CatalogueVersion) -> Question:
        try:
            with step("prompt") as span:
                question = self.recommender.question(request, version)
                note(span, events=question.prompt.num_events, tokens=len(question.prompt.tokens_L))
                return question
        except UnknownUserError:  # whose sentence names users of similar ids, which must not be shown here
            message = f"No events of user {request.user_id!r} are known here; correct the id, or send events along."
            raise HTTPException(404, message) from None


def _next(found: Explaining, results: list[SearchResult] | None) -> Wordings | Explanation:
    """The next wordings to score, or the end; a StopIteration could not leave a thread."""
    try:
        return found.send(results)  # type: ignore[arg-type]  # a generator is started by None
    except StopIteration as end:
        explanation: Explanation = end.value
        return explanation
