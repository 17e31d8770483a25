"""`Recommender`: the one way from a request to an answer, for Python, the command line, batches and the server.

    recommender = whereupon.Recommender.load("my-shop.yaml")
    recommender.recommend(["42", "43"], at="2026-01-24T19:00", weather="snow, -3 C", k=10)

A request becomes a `Question` (history from all sources, prompt, candidates, all from one version of the catalogue).
This needs no model. A search over the catalogue makes an `Answer` of it. Here the model runs in the same process, by
transformers. The server drives the same search with vLLM.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ..catalogue import Selection, Subset, Trie
from ..console import say, tracked
from ..decode import Change, Searching, SearchResult, run, searching
from ..decode.adapters import current_adapter
from ..decode.search import SLACK
from ..errors import DataError, PromptError, UnknownUserError
from ..histories.privacy import privacy_of_run
from ..histories.store import check_prepared
from .context import RequestContext, check_context, open_question, places_in_prompts
from .forgotten import Forgotten, KnownOthers
from .history import user_history
from .private_store import known_as
from .prompt import Prompt, prompt_of
from .run_parts import RunParts, read_parts
from .selection import RequestFilters, candidates, place_of
from .settings import RecommendConfig
from .store import EventStore, open_store
from .store.event import PastEvent
from .versions import CatalogueVersion
from .weather import weather_forecasts, with_forecast

if TYPE_CHECKING:
    from ..decode.transformers_engine import TransformersEngine
    from .explanation import Explanation

__all__ = ["Answer", "Question", "Recommender", "Request"]

# From a trie, the items allowed, the reweighting, the budget and the slack to a search for one question.
Plan = Callable[[Trie, Subset | None, Change | None, int | None, float], Searching]
EXPLAIN_S = 30.0
"""Seconds that an explanation may take."""
SCHEMA = {
    "user_id": pl.String, "rank": pl.Int32, "item_id": pl.String, "title": pl.String, "probability": pl.Float64,
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """A request: a known user, events of a person, or both; its time and context; which items may answer.

    No events (an empty sequence) and no user mean an unknown user; the request then needs a time.
    """

    user_id: str | None = None
    events: Sequence[PastEvent] | None = None
    context: RequestContext = field(default_factory=RequestContext)
    filters: RequestFilters = field(default_factory=RequestFilters)


@dataclass(frozen=True, eq=False)
class Question:
    """A request made ready: the prompt, the items that may answer, and where the person is, if that is known."""

    version: CatalogueVersion
    prompt: Prompt
    selection: Selection
    place: tuple[float, float] | None = None

    def search(self, plan: Plan, budget: int | None, slack: float = SLACK) -> Searching:
        """The search that answers it, without a model; see `decode.run`."""
        version, chosen = self.version, self.selection
        subset = Subset.of(version.trie, chosen.allowed_I, chosen.reason) if chosen.reason else None
        return plan(version.trie, subset, version.change_of(self.prompt.query), budget, slack)


@dataclass(frozen=True, eq=False)
class Answer:
    """The ranked items of a question, of which `wanted` were requested."""

    question: Question
    result: SearchResult
    wanted: int

    @property
    def missing_probability(self) -> float:
        """The most that an item could have that is missing wrongly; 0 for an exact answer."""
        return 0.0 if self.result.exact else math.exp(self.result.missing_log_prob)

    @property
    def reason(self) -> str:
        """What the filters left, and why there are fewer items than requested; "" where there is nothing to say."""
        selection, result, num = self.question.selection, self.result, len(self.result.item_idx_K)
        parts = [selection.reason or result.reason]
        if result.exact and num < self.wanted and num == selection.num_allowed:
            none = "Nothing is left."
            parts.append(f"{self.wanted} were requested, but there are no more than {num}." if num else none)
        elif selection.reason and result.reason not in parts:
            parts.append(result.reason)
        return " ".join(filter(None, parts))

    def rows(self) -> list[dict[str, Any]]:
        """`rank`, `item_id`, `title`, `probability` and `distance_km` (None where a place is unknown), best first."""
        item_idx_K, version, place = self.result.item_idx_K, self.question.version, self.question.place
        km_K = np.full(len(item_idx_K), np.nan)
        if place is not None and {"latitude", "longitude"} <= set(version.items.columns):
            km_K = version.facts.places.km_from(item_idx_K, latitude=place[0], longitude=place[1])
        probabilities = np.exp(self.result.log_prob_K.astype(np.float64)).tolist()
        each = zip(version.rows(item_idx_K), probabilities, km_K.tolist(), strict=True)
        return [
            {"rank": rank, **row, "probability": p, "distance_km": None if math.isnan(km) else round(km, 3)}
            for rank, (row, p, km) in enumerate(each, start=1)
        ]


class Recommender:
    """Answers for one run: its histories, stored events, catalogue and adapter.

    Attributes:
        config: of the run.
        histories: as prepared.
        catalogues: the catalogue's current version, and the ways to another one.
        store: events since `prepare`; None where none were ever kept.
        card: what the adapter says of itself.
        adapter: its folder, whose name is its version; None where only prompts are made.
        forgotten: people of whose prepared events nothing may be used.
        privacy: what was hidden of users in preparing, and is hidden of requests and of what is stored.
    """

    def __init__(self, config: RecommendConfig, parts: RunParts, store: EventStore | None) -> None:
        self.config, self._parts, self.store = config, parts, store
        self.histories, self.tokenizer, self.catalogues = parts.histories, parts.tokenizer, parts.catalogues
        self.card, self.adapter = parts.card, parts.adapter
        self.forgotten = Forgotten.of_run(config.run)
        self._others = KnownOthers(parts.histories, self.forgotten)
        self.privacy = privacy_of_run(config.histories.privacy, parts.histories.manifest.get("privacy"))
        self._forecasts = weather_forecasts(config, parts.histories)
        self._last_engine: TransformersEngine | None = None

    @classmethod
    def load(
        cls, source: RecommendConfig | Mapping[str, Any] | str | os.PathLike[str], overrides: Sequence[str] = (), *,
        keeps_events: bool = False, only_prompts: bool = False,
    ) -> Recommender:  # fmt: skip
        """Read what answers need; the weights of the model are read for the first answer.

        Args:
            source: a configuration, its YAML file, a dictionary of the same shape, or a run folder.
            overrides: settings such as "priors=none".
            keeps_events: open the event store even where no event was ever kept, as a server does.
            only_prompts: make questions and their prompts but no answers, which needs no trained adapter.

        Raises:
            WhereuponError: for what is missing or does not belong together.
        """
        if isinstance(source, RecommendConfig) and not overrides:
            config = source
        else:
            from ..config import configured

            config = configured(source, overrides)
        check_prepared(config.run)  # an earlier step's error is said before a missing adapter
        if not only_prompts:
            from ..decode.architecture import searchable_model

            searchable_model(config.model)
        parts = read_parts(config, None if only_prompts else current_adapter(config.run))
        address = config.events_address
        store = open_store(address) if keeps_events or isinstance(address, str) or address.is_file() else None
        return cls(config, parts, store)

    def with_adapter(self, adapter: Path) -> Recommender:
        """The run as it is now, with the adapter in a folder; the event store is shared, so only one is to be closed.

        Raises WhereuponError for an adapter that does not belong to the run.
        """
        return type(self)(self.config, read_parts(self.config, adapter, self._parts), self.store)

    def close(self) -> None:
        """Give up the connections to the event store."""
        if self.store is not None:
            self.store.close()

    def __enter__(self) -> Recommender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self.close()

    def recommend(
        self, user_ids: str | Sequence[str], *, k: int | None = None, at: str | None = None, weather: str | None = None,
        place: str | None = None, filters: RequestFilters | None = None, max_expansions: int | None = None,
    ) -> pl.DataFrame:  # fmt: skip
        """The k items that each user is most likely to choose next, best first.

        Args:
            user_ids: users of the histories or of stored events.
            k: how many items; default: `decode.k`.
            at: ISO time, local to the user unless it has an offset; default: right after the user's last event.
            weather: in words, such as "snow, -3 C"; default: that of the last event, if it is less than a day old.
            place: "LAT,LON" in degrees; default: that of the last event.
            filters: which items may answer.
            max_expansions: stop each search after so many nodes; default: `decode.max_expansions`, else none.

        Returns:
            A row an item: user_id, rank, item_id, title, probability (in the distribution over the whole catalogue).

        Raises:
            DataError: an unknown user. PromptError: a time, weather or place that cannot be read or changes nothing.
        """
        users = [user_ids] if isinstance(user_ids, str) else list(user_ids)
        context = RequestContext(at, weather, place)
        filters = filters or RequestFilters()
        self.check_place(context, filters)
        requests = [Request(user, None, context, filters) for user in users]
        answers = [self.answer(self.question(request), k, max_expansions) for request in requests]
        frames = [_frame(user, answer) for user, answer in zip(users, answers, strict=True)]
        return pl.concat([pl.DataFrame(schema=SCHEMA), *frames])

    def recommend_all(
        self, *, k: int | None = None, at: str | None = None, weather: str | None = None, place: str | None = None,
        filters: RequestFilters | None = None,
    ) -> pl.DataFrame:  # fmt: skip
        """`recommend` for every user of the histories and of stored events; users without an answer are counted."""
        context = RequestContext(at, weather, place)
        context.check()  # a mistake in it would be every user's
        self.check_place(context, filters or RequestFilters())
        frames, reasons = [pl.DataFrame(schema=SCHEMA)], Counter[str]()
        for user in tracked(self.user_ids, "users"):
            try:
                frames.append(self.recommend(user, k=k, at=at, weather=weather, place=place, filters=filters))
            except (DataError, PromptError) as error:
                reasons[reason_without_name(error, user)] += 1
        for reason, count in reasons.most_common():
            say(f"not answered: {count:,} users. {reason}")
        return pl.concat(frames)

    def log_probs(
        self, user_id: str, item_ids: str | Sequence[str], *, at: str | None = None, weather: str | None = None,
        place: str | None = None,
    ) -> pl.DataFrame:  # fmt: skip
        """Log-probabilities, in nats, of named items: a row an item, item_id, title and log_prob, in the order given.

        Raises:
            CatalogueError: an item that the catalogue does not have.
        """
        item_ids = [item_ids] if isinstance(item_ids, str) else item_ids
        context, filters = RequestContext(at, weather, place), RequestFilters(only=tuple(item_ids))
        self.check_place(context, filters)
        question = self.question(Request(user_id, None, context, filters))
        result = self._search(question, max(1, len(set(item_ids))), None)
        items = question.version.items.select(pl.col("item_id", "title").gather(result.item_idx_K))
        scored = items.with_columns(log_prob=pl.Series(result.log_prob_K, dtype=pl.Float64))
        wanted = pl.DataFrame({"item_id": list(item_ids)}, schema={"item_id": pl.String})
        return wanted.join(scored, on="item_id", how="left", maintain_order="left")

    def check_place(self, context: RequestContext, filters: RequestFilters) -> None:
        """Raise PromptError for a place that changes no ranking: no prompt names places, and no filter needs one.

        The server accepts such a place, since it also answers with distances.
        """
        if context.place is not None and filters.near_km is None and not places_in_prompts(self.histories):
            raise PromptError(
                "No prompt of these histories names the user's place: leave the place out, or let it filter what is "
                "near."
            )

    @property
    def user_ids(self) -> list[str]:
        """All users of the histories, and those that only stored events know, in the order of their ids."""
        stored = self.store.users() if self.store is not None else []
        prepared = self.forgotten.without(self.histories.user_ids)
        return sorted({*prepared, *stored}) if stored else prepared

    def question(self, request: Request, version: CatalogueVersion | None = None) -> Question:
        """Make a request ready, from the current version of the catalogue or a given one; no model is called.

        Raises:
            DataError: neither a user nor events, an unknown user, or no event before the request.
            PromptError: a time, weather, place or context column that cannot be read.
            CatalogueError: filters that need what the items do not have.
        """
        version, context = version or self.catalogues.refresh(), request.context
        check_context(context, self.config.prompts.leave_out)
        events = self._history(request, version)
        shown = context if places_in_prompts(self.histories) else context.without_place()
        query = open_question(self.histories, events, shown, self.config.histories.time_zone)
        if self._forecasts is not None:
            query = with_forecast(query, self._forecasts, context)
        prompt = prompt_of(self._others.in_prompts(version.encoder), query)
        seen_idx = np.unique(version.among_items(prompt.item_M))
        selection = candidates(version.facts, request.filters, query, context, seen_idx)
        return Question(version, prompt, selection, place_of(query, context))

    def answer(self, question: Question, k: int | None = None, max_expansions: int | None = None) -> Answer:
        """Search with the model in this process; where no item is left to answer, no model is read."""
        wanted = self.config.decode.k if k is None else k
        if wanted < 1:
            raise PromptError(f"k should be at least 1, not {wanted}.")
        if not question.selection.num_allowed:
            nothing = np.empty(0, np.int64), np.empty(0, np.float32), True, -math.inf, 0
            return Answer(question, SearchResult(*nothing, question.selection.reason), wanted)
        budget = max_expansions or self.config.decode.max_expansions
        return Answer(question, self._search(question, wanted, budget), wanted)

    def explain(
        self, user_id: str, *, k: int | None = None, at: str | None = None, weather: str | None = None,
        place: str | None = None, filters: RequestFilters | None = None, budget_s: float = EXPLAIN_S,
    ) -> Explanation:  # fmt: skip
        """Why each of the k items that a user is most likely to choose next stands where it stands; see `recommend`.

        Args:
            budget_s: seconds; what is not started by then is left out and named in `left_out`.
        """
        context, filters = RequestContext(at, weather, place), filters or RequestFilters()
        self.check_place(context, filters)
        return self.explained(self.answer(self.question(Request(user_id, None, context, filters)), k), budget_s)

    def explained(self, answer: Answer, budget_s: float = EXPLAIN_S) -> Explanation:
        """`explain` of an answer."""
        from .why import explain_with, explaining

        found = explaining(answer, self.catalogues.blend, self.histories, budget_s)
        return explain_with(self._engine(answer.question.version.trie), found, answer.question.prompt.tokens_L)

    def _search(self, question: Question, k: int, budget: int | None) -> SearchResult:
        tokens_L = question.prompt.tokens_L
        reading = self._engine(question.version.trie).read(tokens_L, np.array([len(tokens_L) - 1]))
        (result,) = run(reading, question.search(exact_plan(k), budget))
        return result

    def _history(self, request: Request, version: CatalogueVersion) -> pl.DataFrame:
        time_zone = self.config.histories.time_zone
        user = None if request.user_id is None else known_as(self.privacy, request.user_id)
        if user is None and request.events is None:
            raise DataError("Expected a user_id or events of the user, but found neither; give one of them.")
        stored: Sequence[PastEvent] = ()
        if user is not None and self.store is not None:
            stored = self.store.of_user(user, self.config.serve.max_events)
        if user is not None and user in self.forgotten:  # who came back is known by what happened since
            if not stored and not request.events:
                raise UnknownUserError(f"There is no user {user!r}; correct the id, or send events along.")
            user = None
        return user_history(self.histories, version, user, stored, request.events or (), time_zone)

    def _engine(self, trie: Trie) -> TransformersEngine:
        """The engine of a trie; of a catalogue that was edited since, the old one is given up."""
        from ..decode.transformers_engine import TransformersEngine

        if self._last_engine is None or self._last_engine.trie is not trie:
            self._last_engine = TransformersEngine(self._model, trie, self.card["temperature"])
        return self._last_engine

    @cached_property
    def _model(self) -> Any:
        from ..decode.models import load_adapted

        assert self.adapter is not None, "a recommender for prompts alone answers nothing"
        return load_adapted(self.config.model, self.adapter)


def _frame(user_id: str, answer: Answer) -> pl.DataFrame:
    rows = [{"user_id": user_id, **row} for row in answer.rows()]
    return pl.DataFrame(rows, {**SCHEMA, "distance_km": pl.Float64}).select(*SCHEMA)


def exact_plan(k: int) -> Plan:
    """The k most probable items."""

    def plan(
        trie: Trie, subset: Subset | None, change: Change | None, budget: int | None, slack: float
    ) -> Searching:  # fmt: skip
        return searching(trie, 1, k, budget, subset=subset, reweighting=change, slack=slack)

    return plan


def reason_without_name(error: object, user_id: str) -> str:
    """The sentence of an error, such that users with the same trouble are counted together."""
    text = str(error).replace(f"user {user_id!r}", "the user")
    return text.replace(f"user {user_id}", "the user").replace(f"User {user_id}", "The user").split(": ")[0]
