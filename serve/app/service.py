"""Answers of the server: prompts made from histories, searched over the current version of the catalogue."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl
from starlette.exceptions import HTTPException

from ...arrays import Int32
from ...catalogue import Selection, Subset, Trie
from ...decode import Reweighting, Searching, SearchResult, run_async, searching
from ...decode.search import SLACK
from ...decode.tokenizer import Tokenizer
from ...decode.vllm_engine import Limits
from ...errors import DataError, PromptError
from ...histories import Histories
from ...rankers.context_prior import Past
from ...recommend.candidates import Wishes, candidates, place_of
from ...recommend.context import Moment, check_told, open_question, tells_places
from ...recommend.live import user_history
from ...recommend.shown import Prompt, prompt_of
from ...recommend.store.event_store import EventStore
from ...recommend.versions import Catalogues, CatalogueVersion
from . import metrics
from .schemas import Context, Recommendation, RecommendationRequest, Recommendations

if TYPE_CHECKING:
    from ..settings import ServeConfig

# How far (in nats) below the k-th best entry a node is expanded ahead of need. Nothing where a prompt does not end on a
# cache block: a node then costs about as much as a round, as what stands behind the last whole block is read again.
UNALIGNED_SLACK = 0.0
# From a trie, the items allowed, the reweighting, the budget and the slack to a search for one question.
Plan = Callable[[Trie, Subset | None, Reweighting | None, int, float], Searching]


class Engine(Protocol):
    """What reads prompts: see `decode.vllm_engine.VllmEngine`."""

    def read(self, tokens_L: Int32, trie: Trie) -> Any: ...


@dataclass(frozen=True)
class Asked:
    """A request for recommendations, made ready: the prompt, what may answer, and where the user is."""

    version: CatalogueVersion
    prompt: Prompt
    selection: Selection
    place: tuple[float, float] | None


class Room:
    """Counts searches in and out: at most `limit` at once."""

    def __init__(self, limit: int) -> None:
        self.limit, self._running = limit, 0
        metrics.RUNNING.set_function(lambda: self._running)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Raises HTTPException 429 where there is no room."""
        if self._running >= self.limit:
            metrics.REFUSED.inc()
            message = f"{self.limit} searches are running, which is the most at once; ask again in a moment."
            raise HTTPException(429, message, {"Retry-After": "1"})
        self._running += 1
        try:
            yield
        except BaseException:
            metrics.ABANDONED.inc()
            raise
        finally:
            self._running -= 1


@dataclass(frozen=True, eq=False)
class Service:
    """All that requests need."""

    config: ServeConfig
    name: str
    histories: Histories
    catalogues: Catalogues
    engine: Engine
    store: EventStore
    room: Room
    tokenizer: Tokenizer
    limits: Limits

    async def recommend(
        self, request: RecommendationRequest, version: CatalogueVersion | None = None, after_last: bool = False
    ) -> Recommendations:
        """Rank items of one version of the catalogue, else of the current one, for a user at a moment.

        Without a time the moment is now or, with `after_last`, right after the user's last event. Raises WhereuponError
        or HTTPException for what cannot be answered.
        """
        k = self.checked_k(request.k or self.config.decode.k, "k")
        version = version or await self.catalogues.fresh()
        asked = await asyncio.to_thread(self._ask, request, version, None if after_last else _now())
        plan = exact_plan(k)
        budget = self.budget(request.max_expansions)
        result = await self.search(
            "recommendations", asked.prompt.tokens_L, version, asked.selection, asked.prompt.past, plan, budget
        )
        return Recommendations(
            **self.about(version, asked.selection, result, k), data=_ranked(asked, result),
            num_events=asked.prompt.num_events, prompt_tokens=len(asked.prompt.tokens_L),
        )  # fmt: skip

    async def search(
        self,
        kind: str,
        tokens_L: Int32,
        version: CatalogueVersion,
        selection: Selection,
        past: Past,
        plan: Plan,
        budget: int,
    ) -> SearchResult:
        """Run one search, if there is room for it; `past` are the events before the moment, items as prompts count."""
        trie, change = version.trie, version.reweighter
        need, seen = len(tokens_L) + int(trie.length_N.max()), self.limits.max_tokens
        if need > seen:
            raise PromptError(f"The model sees {seen} tokens but prompt and title may have {need}; shorten the prompt.")
        subset = Subset.of(trie, selection.allowed_N, selection.reason) if selection.reason else None
        reweighting = change.of([past]) if change else None
        with self.room.taken():
            reading, began = self.engine.read(tokens_L, trie), time.perf_counter()
            slack = SLACK if len(tokens_L) % self.limits.block_tokens == 0 else UNALIGNED_SLACK
            (result,) = await run_async(reading, plan(trie, subset, reweighting, budget, slack))
            metrics.SECONDS.observe(time.perf_counter() - began)
        metrics.SEARCHES.labels(kind, str(result.exact).lower()).inc()
        metrics.EXPANSIONS.observe(result.num_expansions)
        metrics.ROUNDS.observe(reading.num_rounds)
        metrics.PROMPT_TOKENS.inc(len(tokens_L))
        metrics.REQUESTED_TOKENS.inc(reading.num_tokens)
        metrics.CACHED_TOKENS.inc(reading.num_cached_tokens)
        return result

    def about(
        self, version: CatalogueVersion, selection: Selection, result: SearchResult, wanted: int
    ) -> dict[str, Any]:
        """What an answer says of itself: the fields of `Answer`."""
        told = [selection.reason or result.reason]
        num = len(result.item_idx_K)
        if result.exact and num < wanted and num == selection.num_allowed:
            told.append(f"{wanted} were asked for, but there are no more than {num}." if num else "Nothing is left.")
        elif selection.reason and result.reason not in told:
            told.append(result.reason)
        return {
            "catalogue": self.name, "version": version.name, "exact": result.exact,
            "missing_probability": 0.0 if result.exact else math.exp(result.missing_log_prob),
            "num_candidates": selection.num_allowed, "reason": " ".join(filter(None, told)),
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

    def _ask(self, request: RecommendationRequest, version: CatalogueVersion, default_at: str | None) -> Asked:
        """Read the user's history and make the prompt; takes milliseconds of a thread."""
        events = self._history(request, version)
        moment, wishes = _moment(request.context, default_at), _wishes(request)
        check_told(moment, version.encoder.settings.leave_out)
        tells = tells_places(self.histories)
        told = moment if tells else Moment(moment.at, moment.weather)
        asked = _with_columns(open_question(self.histories, events, told), request.context)
        prompt = prompt_of(version.encoder, asked)
        seen_idx = np.unique(version.among_items(prompt.past.item_M))
        selection = candidates(version.facts, wishes, asked, moment, seen_idx)
        return Asked(version, prompt, selection, place_of(asked, moment))

    def _history(self, request: RecommendationRequest, version: CatalogueVersion) -> pl.DataFrame:
        limit = self.config.serve.max_events
        if request.user_id is None and request.events is None:
            raise DataError("Expected a user_id, or events of the person asked about, but found neither; give either.")
        given = request.events or []
        if len(given) > limit:
            raise HTTPException(413, f"At most {limit} events go into one request, not {len(given)}; send fewer.")
        stored = self.store.of_user(request.user_id, limit) if request.user_id is not None else []
        try:
            return user_history(
                self.histories, version, request.user_id, [*stored, *given], self.config.histories.time_zone
            )
        except DataError:  # whose sentence names users of similar ids, which are nobody's business here
            message = f"No events of user {request.user_id!r} are known here; mend the id, or send events along."
            raise HTTPException(404, message) from None


def exact_plan(k: int) -> Plan:
    """The k most probable items."""

    def plan(
        trie: Trie, subset: Subset | None, change: Reweighting | None, budget: int, slack: float
    ) -> Searching:  # fmt: skip
        return searching(trie, 1, k, budget, subset=subset, reweighting=change, slack=slack)

    return plan


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _moment(context: Context, default_at: str | None) -> Moment:
    """The moment as the command line would say it."""
    if (context.latitude is None) != (context.longitude is None):
        raise PromptError("The context should have both latitude and longitude or neither.")
    place = None if context.latitude is None else f"{context.latitude:f},{context.longitude:f}"
    return Moment(context.at or default_at, context.weather, place)


def _wishes(request: RecommendationRequest) -> Wishes:
    wanted = request.filters
    return Wishes(
        wanted.near_km, wanted.category or (), wanted.unseen, wanted.open_now, wanted.only, wanted.exclude
    )  # fmt: skip


def _with_columns(asked: pl.DataFrame, context: Context) -> pl.DataFrame:
    """The open question with further context columns as the request says them."""
    own = {"user_id", "item_id", "user_idx", "item_idx", "time", "local_time", "split", "latitude", "longitude"}
    if unknown := sorted(name for name in context.columns if name in own or name not in asked.columns):
        known = ", ".join(name for name in asked.columns if name not in own)
        raise PromptError(f"The context has no column {unknown[0]!r}; the histories have {known or 'none'}.")
    last = pl.int_range(pl.len()) == pl.len() - 1
    try:
        return asked.with_columns(
            pl.when(last).then(pl.lit(value, asked.schema[name])).otherwise(pl.col(name)).alias(name)
            for name, value in context.columns.items()
        )
    except (pl.exceptions.PolarsError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise PromptError(
            f"A column of the context has a value of another kind than the histories' ({reason})."
        ) from None


def _ranked(asked: Asked, result: SearchResult) -> list[Recommendation]:
    rows = asked.version.rows(result.item_idx_K)
    km_K = np.full(len(rows), np.nan)
    if asked.place is not None and {"latitude", "longitude"} <= set(asked.version.items.columns):
        latitude, longitude = asked.place
        km_K = asked.version.facts.places.km_from(result.item_idx_K, latitude=latitude, longitude=longitude)
    each = zip(rows, np.exp(result.log_prob_K.astype(np.float64)).tolist(), km_K.tolist(), strict=True)
    return [
        Recommendation(rank=rank, **row, probability=p, distance_km=None if math.isnan(km) else round(km, 3))
        for rank, (row, p, km) in enumerate(each, start=1)
    ]
