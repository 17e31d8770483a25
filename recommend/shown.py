"""`whereupon recommend` and `whereupon prompt show`: one user, one moment, a ranked answer."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..catalogue import Selection, Subset
from ..decode import Reweighting
from ..decode.search import SearchResult, search
from ..histories import Histories, read_histories
from ..prompts import PromptEncoder
from ..rankers.context_prior import Past
from .candidates import Wishes, candidates
from .context import Moment, check_told, question, tells_places
from .versions import Catalogues, CatalogueVersion

if TYPE_CHECKING:
    from ..decode.transformers_engine import TransformersEngine
    from ..rankers.settings import RunConfig

BAR_WIDTH = 20


@dataclass(frozen=True)
class Prompt:
    """A question as the model reads it: token ids int32 [L], what they are made of, and the events before it."""

    tokens_L: np.ndarray
    past: Past
    num_events: int
    num_told: int
    num_profile_tokens: int


def build_prompt(histories: Histories, encoder: PromptEncoder, user_id: str, moment: Moment) -> Prompt:
    """The prompt for a user at a moment: the same windows and the same text as in training."""
    return prompt_of(encoder, question(histories, user_id, moment))


def prompt_of(encoder: PromptEncoder, events: pl.DataFrame) -> Prompt:
    """The prompt for the open question in the last row of `events`; see `question`."""
    text = encoder.text(events, 1)
    last = text.windows.select(text.windows.end_W == events.height)
    window = text.encode_windows(last)[0]
    profile = len(text.profiles(last)[0])
    tokens_L = window.tokens_L[: window.title_start_V[-1]]
    return Prompt(tokens_L, Past.of_question(events), events.height - 1, len(window.title_start_V) - 1, profile)


def show_prompt(config: RunConfig, *, user: str, at: str | None, weather: str | None, place: str | None) -> None:
    """Print exactly what the model will read; token counts go to stderr."""
    from ..decode.models import build_encoder, load_tokenizer

    moment = Moment(at, weather, place)
    check_told(moment, config.prompts.leave_out)
    histories = read_histories(config.run)
    tokenizer = load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.location, config.prompts, tokenizer)
    prompt = build_prompt(histories, encoder, user, moment)
    print(tokenizer.decode(prompt.tokens_L.tolist()))
    Console(stderr=True, highlight=False).print(
        f"{len(prompt.tokens_L)} tokens of {config.prompts.budget_tokens}: {prompt.num_told} of {prompt.num_events} "
        f"events, {prompt.num_profile_tokens} tokens of profile, {len(encoder.preamble)} of preamble",
        soft_wrap=True,
    )


def recommend_verb(
    config: RunConfig, *, user: str, at: str | None, weather: str | None, place: str | None, wishes: Wishes,
    k: int | None, versus: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Print the ranked titles for one moment, or for two side by side."""
    histories = read_histories(config.run)
    version, card = _current(config, histories)
    moments = [Moment(at, weather, place)]
    moments += [moments[0].versus(versus)] if versus else []
    # Before the model is loaded: a moment that cannot be read or a wish that cannot be granted is told at once.
    for moment in moments:
        check_told(moment, config.prompts.leave_out)
    selections = [_select(histories, version, user, moment, wishes) for moment in moments]
    answers = _answer(config, histories, version, card, user, moments, selections, wishes, k or config.decode.k)
    if as_json:
        each = zip(moments, selections, answers, strict=True)
        told = [_as_dict(version.items, user, moment, selection, answer) for moment, selection, answer in each]
        print(json.dumps(told, ensure_ascii=False, indent=2))
        return
    console = Console(highlight=False)
    if any(len(answer.item_idx_K) or not answer.exact for answer in answers):
        console.print(_table(version.items, user, moments, answers))
    for moment, selection, answer in zip(moments, selections, answers, strict=True):
        whose = f"{moment}: " if versus else ""
        if not selection.num_allowed:
            reason = f"{selection.reason[:1].lower()}{selection.reason[1:]}"
            console.print(f"{whose}Nothing is left to recommend: {reason}", markup=False, soft_wrap=True)
        elif selection.reason:
            console.print(f"{whose}{selection.reason}", markup=False, soft_wrap=True)
        if not answer.exact:
            bound = math.exp(answer.missing_log_prob)
            console.print(f"The search stopped at its budget: a missing item has a probability of at most {bound:.4f}.")


def _current(config: RunConfig, histories: Histories) -> tuple[CatalogueVersion, dict[str, Any]]:
    """The current version of the catalogue, and the adapter's card."""
    from ..decode.adapter_card import check_card, read_card
    from ..decode.models import build_encoder, load_tokenizer

    tokenizer, adapter = load_tokenizer(config.model), config.run / "adapter"
    encoder = build_encoder(histories.items, histories.location, config.prompts, tokenizer)
    card = read_card(adapter)
    check_card(card, adapter, {"base_model": config.model.base, **encoder.identity})
    return Catalogues(config, histories, tokenizer, encoder, card).current, card


def _select(
    histories: Histories, version: CatalogueVersion, user: str, moment: Moment, wishes: Wishes
) -> Selection:  # fmt: skip
    asked = question(histories, user, _told(histories, moment, wishes))
    seen_idx = version.among_items(asked["item_idx"][:-1].unique().to_numpy())
    return candidates(version.facts, wishes, asked, moment, seen_idx)


def _told(histories: Histories, moment: Moment, wishes: Wishes) -> Moment:
    """The moment as the prompt tells it: a place of which no prompt speaks is then for `near_km` alone."""
    return moment if wishes.near_km is None or tells_places(histories) else replace(moment, place=None)


def _answer(
    config: RunConfig, histories: Histories, version: CatalogueVersion, card: dict[str, Any], user: str,
    moments: list[Moment], selections: list[Selection], wishes: Wishes, k: int,
) -> list[SearchResult]:  # fmt: skip
    if not any(selection.num_allowed for selection in selections):  # no model is needed to know that
        nothing = np.empty(0, np.int64), np.empty(0, np.float32), True, -math.inf, 0
        return [SearchResult(*nothing, selection.reason) for selection in selections]
    from ..decode.models import load_base_model, merge_adapter
    from ..decode.transformers_engine import TransformersEngine

    model = merge_adapter(load_base_model(config.model), config.run / "adapter")
    engine, reweighter = TransformersEngine(model, version.trie, card["temperature"]), version.reweighter
    prompts = [build_prompt(histories, version.encoder, user, _told(histories, moment, wishes)) for moment in moments]
    answers = []
    for prompt, selection in zip(prompts, selections, strict=True):
        reweighting = reweighter.of([prompt.past]) if reweighter else None
        answers.append(_ask(engine, prompt, k, config.decode.max_expansions, selection, reweighting))
    return answers


def _ask(
    engine: TransformersEngine, prompt: Prompt, k: int, max_expansions: int | None, selection: Selection,
    reweighting: Reweighting | None,
) -> SearchResult:  # fmt: skip
    reading = engine.read(prompt.tokens_L, np.array([len(prompt.tokens_L) - 1]))
    # Without a filter nothing need be asked of a subset.
    subset = Subset.of(engine.trie, selection.allowed_N, selection.reason) if selection.reason else None
    return search(reading, engine.trie, k, max_expansions, subset=subset, reweighting=reweighting)[0]


def _as_dict(
    items: pl.DataFrame, user: str, moment: Moment, selection: Selection, answer: SearchResult
) -> dict[str, object]:
    rows = items.select(pl.col("item_id", "title").gather(answer.item_idx_K)).rows(named=True)
    probabilities = [math.exp(p) for p in answer.log_prob_K]
    ranked = [
        {"rank": rank, **row, "probability": p}
        for rank, (row, p) in enumerate(zip(rows, probabilities, strict=True), start=1)
    ]
    bound = 0.0 if answer.exact else math.exp(answer.missing_log_prob)
    return {"user_id": user, "moment": str(moment), "num_candidates": selection.num_allowed,
            "filters": selection.reason, "exact": answer.exact, "missing_probability": bound,
            "items": ranked}  # fmt: skip


def _table(items: pl.DataFrame, user: str, moments: list[Moment], answers: list[SearchResult]) -> Table:
    """Rank, probability, bar, title and id; beside a second moment, how far each item moved. Fits 80 columns."""
    alone = len(moments) == 1
    title = Text(f"User {user}, next")  # Text: an id in brackets is an id and no markup
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", justify="right", no_wrap=True)
    for index, moment in enumerate(moments):
        table.add_column("p", justify="right", no_wrap=True, min_width=5)
        table.add_column("", no_wrap=True, min_width=_bar_width(alone))
        table.add_column(Text(str(moment)), overflow="ellipsis" if alone else "fold")
        if alone:
            table.add_column("id", overflow="ellipsis", no_wrap=True, style="dim")
        elif index:
            table.add_column("", no_wrap=True, min_width=3)
    top = max((float(np.exp(answer.log_prob_K[0])) for answer in answers if len(answer.log_prob_K)), default=1.0)
    for rank in range(max(len(answer.item_idx_K) for answer in answers)):
        cells: list[Text] = [Text(str(rank + 1))]
        for index, answer in enumerate(answers):
            cells += _cells(items, answer, rank, top, alone)
            if index:
                cells.append(_moved(answers[0], answer, rank))
        table.add_row(*cells)
    return table


def _bar_width(alone: bool) -> int:
    return BAR_WIDTH if alone else BAR_WIDTH // 3


def _cells(items: pl.DataFrame, answer: SearchResult, rank: int, top: float, alone: bool) -> list[Text]:
    if rank >= len(answer.item_idx_K):
        return [Text("")] * (4 if alone else 3)
    item, probability = int(answer.item_idx_K[rank]), math.exp(float(answer.log_prob_K[rank]))
    bar = Text(_bar(probability / top, _bar_width(alone)), style="cyan")
    cells = [Text(f"{probability:.1%}"), bar, Text(items["title"][item])]
    return [*cells, Text(items["item_id"][item])] if alone else cells


def _bar(share: float, width: int) -> str:
    eighths = max(1, round(share * width * 8))
    parts: tuple[str, ...] = ("", *"▏▎▍▌▋▊▉")
    return "█" * (eighths // 8) + parts[eighths % 8]


def _moved(before: SearchResult, after: SearchResult, rank: int) -> Text:
    if rank >= len(after.item_idx_K):
        return Text("")
    was = np.flatnonzero(before.item_idx_K == after.item_idx_K[rank])
    if not len(was):
        return Text("new", style="green")
    steps = int(was[0]) - rank
    return Text(
        "=" if not steps else f"{'▲' if steps > 0 else '▼'}{abs(steps)}",
        style="green" if steps > 0 else "red" if steps < 0 else "dim",
    )
