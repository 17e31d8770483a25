"""`whereupon recommend` and `whereupon prompt show`: one user, one time, a ranked answer."""

from __future__ import annotations

import json
import math

import numpy as np
from rich.table import Table
from rich.text import Text

from ..console import say, show
from ..decode import SearchResult
from .context import RequestContext
from .explanation import Explanation
from .recommender import Answer, Recommender, Request
from .selection import RequestFilters
from .settings import RecommendConfig

BAR_WIDTH = 20


def show_prompt(config: RecommendConfig, user: str, context: RequestContext, *, ids: bool) -> None:
    """Print what the model will read, as text without a BOS token or as JSON with all `ids`; counts go to stderr.

    No adapter is needed: prompts can be looked at before anything is trained.
    """
    with Recommender.load(config, only_prompts=True) as recommender:
        recommender.check_place(context, RequestFilters())
        question = recommender.question(Request(user, None, context))
        prompt, encoder = question.prompt, question.version.encoder
        tokens = prompt.tokens_L.tolist()
        print(json.dumps(tokens) if ids else recommender.tokenizer.decode(tokens[len(encoder.prefix) :]))
        say(
            f"{len(tokens)} tokens of {config.prompts.budget_tokens}: {prompt.num_lines} of {prompt.num_events} "
            f"events, {prompt.num_profile_tokens} tokens of profile, {len(encoder.preamble)} of preamble"
            f"{f', {prompt.num_similar_tokens} of what others did' if config.prompts.similar_tokens else ''}"
        )


def recommend_verb(
    config: RecommendConfig, user: str, context: RequestContext, filters: RequestFilters, *, k: int | None,
    versus: str | None, as_json: bool, why: bool = False,
) -> None:  # fmt: skip
    """Print the ranked titles for one request, or for two side by side, and on request why."""
    contexts = [context, *([context.versus(versus)] if versus else [])]
    with Recommender.load(config) as recommender:
        for one in contexts:
            recommender.check_place(one, filters)
        # All questions before the first answer: what is wrong with one of them is said before a model is read.
        questions = [recommender.question(Request(user, None, one, filters)) for one in contexts]
        answers = [recommender.answer(question, k) for question in questions]
        whys = [recommender.explained(answer) if why else None for answer in answers]
    if as_json:
        found = [_as_dict(user, *each) for each in zip(contexts, answers, whys, strict=True)]
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    if any(len(answer.result.item_idx_K) or not answer.result.exact for answer in answers):
        show(_table(user, contexts, answers))
    for one, answer in zip(contexts, answers, strict=True):
        for line in _notes(answer):
            print(f"{one}: {line}" if versus else line)
    for one, explanation in zip(contexts, whys, strict=True):
        if explanation is not None:
            print("\n".join(["", *([f"{one}:"] if versus else []), *_why_lines(explanation)]))


def _notes(answer: Answer) -> list[str]:
    selection = answer.question.selection
    notes = [selection.reason] if selection.reason else []
    if not selection.num_allowed:
        notes = [f"Nothing is left to recommend: {selection.reason[:1].lower()}{selection.reason[1:]}"]
    if not answer.result.exact:
        bound = answer.missing_probability
        notes.append(f"The search stopped at its budget: a missing item has a probability of at most {bound:.4f}.")
    return notes


def _why_lines(explanation: Explanation) -> list[str]:
    """A sentence for each item, and below it what each group of the prompt and each part of the log-odds adds."""
    lines = []
    for item in explanation.items:
        shares = [f"{share.group} {share.log_prob:+.2f}" for share in item.groups if share.log_prob is not None]
        parts = [f"{part.name} {part.log_odds:+.2f}" for part in item.parts]
        lines.append(f"{item.rank}. {item.sentence}")
        if shares:
            lines.append(f"   prompt: {', '.join(shares)} (nats of log-probability)")
        if parts:
            lines.append(f"   against {item.against}: {', '.join(parts)} (nats of log-odds)")
    if explanation.left_out:
        lines.append(f"Not done within the time budget: {'; '.join(explanation.left_out)}.")
    return lines


def _as_dict(user: str, context: RequestContext, answer: Answer, explanation: Explanation | None) -> dict[str, object]:
    selection = answer.question.selection
    items = [{name: value for name, value in row.items() if name != "distance_km"} for row in answer.rows()]
    why = {} if explanation is None else {"explanation": explanation.model_dump(mode="json")}
    return {"user_id": user, "context": str(context), "num_candidates": selection.num_allowed,
            "filters": selection.reason, "exact": answer.result.exact,
            "missing_probability": answer.missing_probability, "items": items, **why}  # fmt: skip


def _table(user: str, contexts: list[RequestContext], answers: list[Answer]) -> Table:
    """Rank, probability, bar, title and id; beside a second request, how far each item moved. Fits 80 columns."""
    alone = len(contexts) == 1
    title = Text(f"User {user}, next")  # Text: an id in brackets is an id and no markup
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", justify="right", no_wrap=True)
    for index, context in enumerate(contexts):
        table.add_column("p", justify="right", no_wrap=True, min_width=5)
        table.add_column("", no_wrap=True, min_width=_bar_width(alone))
        table.add_column(Text(str(context)), overflow="ellipsis" if alone else "fold")
        if alone:
            table.add_column("id", overflow="ellipsis", no_wrap=True, style="dim")
        elif index:
            table.add_column("", no_wrap=True, min_width=3)
    found = [answer.result.log_prob_K for answer in answers]
    top = max((float(np.exp(log_prob_K[0])) for log_prob_K in found if len(log_prob_K)), default=1.0)
    for rank in range(max(len(answer.result.item_idx_K) for answer in answers)):
        cells: list[Text] = [Text(str(rank + 1))]
        for index, answer in enumerate(answers):
            cells += _cells(answer, rank, top, alone)
            if index:
                cells.append(_moved(answers[0].result, answer.result, rank))
        table.add_row(*cells)
    return table


def _bar_width(alone: bool) -> int:
    return BAR_WIDTH if alone else BAR_WIDTH // 3


def _cells(answer: Answer, rank: int, top: float, alone: bool) -> list[Text]:
    items, result = answer.question.version.items, answer.result
    if rank >= len(result.item_idx_K):
        return [Text("")] * (4 if alone else 3)
    item, probability = int(result.item_idx_K[rank]), math.exp(float(result.log_prob_K[rank]))
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
    if not steps:
        return Text("=", style="dim")
    return Text(f"▲{steps}", style="green") if steps > 0 else Text(f"▼{-steps}", style="red")
