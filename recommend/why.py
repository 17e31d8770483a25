"""Why an answer is what it is: from a question and its answer to an `Explanation`, with any model.

An explanation is computed by asking the same question in other wordings (`wordings`). `explaining` gives these out and
is sent their results, as a search gives out nodes; `explain_with` drives it with a model in this process, the server
with vLLM. All wordings score the same items exactly, by the search of the answer itself.

Shapes: K = items of the answer, S = sets of groups, G = groups, Q = wordings asked together.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from ..arrays import Float64, Int32
from ..catalogue import Selection, Subset
from ..decode import Change, SearchResult, run, searching
from ..decode.reweighting import AgainOrNew, ForAll
from ..histories import Histories
from ..rankers.asking import asked_histories
from ..rankers.blend import Blend
from ..rankers.parts import MODEL, stack_parts
from .explanation import Alternative, Explanation, Part, PastShare, Share, Why, sentence_of
from .recommender import Answer
from .shapley import shapley_values
from .wordings import EVENT_GROUPS, Group, Worded, Wordings

if TYPE_CHECKING:
    from ..decode.transformers_engine import TransformersEngine, TransformersReading

Explaining = Generator[Wordings, list[SearchResult], Explanation]

MAX_EVENTS: Final = 10
"""Past events that are left out one by one: the last ones."""
SHOWN_EVENTS: Final = 3
_HOUR: Final = timedelta(hours=1)
_NOT_POSSIBLE: Final = -100.0
"""Nats: the log-probability of what cannot be, so that differences stay numbers."""


@dataclass
class _Found:
    """What is known so far; values are log-probabilities float64 [K], ranks are of the items that have one."""

    value_of: dict[frozenset[Group], Float64] = field(default_factory=dict)
    without: dict[Group, list[Alternative]] = field(default_factory=dict)
    later: list[Alternative] | None = None
    events: list[tuple[int, Float64]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def explain_with(engine: TransformersEngine, explaining: Explaining) -> Explanation:
    """Drive `explaining` with a model in this process: a past is read once for all wordings that share it."""
    reading: TransformersReading | None = None
    text_L: Int32 | None = None
    results: list[SearchResult] | None = None
    while True:
        try:
            asked = explaining.send(results)  # type: ignore[arg-type]  # a generator is started by None
        except StopIteration as end:
            found: Explanation = end.value
            return found
        if reading is None or asked.text_L is not text_L:
            text_L = asked.text_L
            reading = engine.read(text_L, np.array([len(text_L) - 1]))
        num, chosen = len(asked.own_Q), asked.selection
        subset = Subset.of(engine.trie, chosen.allowed_I, chosen.reason) if chosen.reason else None
        search = searching(engine.trie, num, asked.k, subset=subset, reweighting=ForAll(asked.change))
        results = run(reading.continued(asked.position_Q, asked.own_Q), search)


def explaining(
    answer: Answer, blend: Blend, known: Histories, budget_s: float, max_events: int = MAX_EVENTS
) -> Explaining:  # fmt: skip
    """The wordings that explain an answer, best first, until the time is up; see the module's docstring.

    What cannot be started within `budget_s` seconds is left out and named. `blend` and `known` are those of the answer.
    """
    ends, item_K = time.monotonic() + budget_s, answer.result.item_idx_K
    if not len(item_K):
        return Explanation(items=[], left_out=[])
    worded, found = Worded(answer.question), _Found()
    yield from _groups(worded, answer, found, ends)
    yield from _events(worded, answer, found, ends, max_events)
    parts, titles = _parts(answer, blend, known), _titles(worded, found, known)
    whys = [_why(answer, worded, found, parts, titles, at) for at in range(len(item_K))]
    return Explanation(items=whys, left_out=found.left_out)


def _groups(
    worded: Worded, answer: Answer, found: _Found, ends: float
) -> Generator[Wordings, list[SearchResult], None]:
    """Every set of groups, past by past, and an hour later; the past as it was first."""
    context, event_groups = _subsets(worded.context_groups), [g for g in worded.groups if g in EVENT_GROUPS]
    lines = worded.last_lines(context) if time.monotonic() < ends else []
    for gone in _subsets(event_groups):
        if time.monotonic() >= ends:
            found.left_out.append("what each group of the prompt adds")
            break
        text_L, asked = worded.past_without(gone)
        change = answer.question.version.change_of(asked)
        scored = yield from _ask(text_L, lines, change, _only(answer), len(answer.result.item_idx_K))
        for kinds, result in zip(context, scored, strict=True):
            found.value_of[frozenset(worded.groups) - kinds - gone] = _values(result, answer)
        alone = [kinds for kinds in context if len(kinds) + len(gone) == 1]
        if alone:
            own = [lines[context.index(kinds)] for kinds in alone]
            ranked = yield from _ask(text_L, own, change, answer.question.selection, answer.wanted)
            for kinds, result in zip(alone, ranked, strict=True):
                (group,) = kinds | gone
                value_K = found.value_of[frozenset(worded.groups) - {group}]
                found.without[group] = _alternatives(answer, value_K, result)
        if not gone:
            yield from _later(worded, answer, found, text_L, ends)


def _later(
    worded: Worded, answer: Answer, found: _Found, text_L: Int32, ends: float
) -> Generator[Wordings, list[SearchResult], None]:
    if time.monotonic() >= ends:
        found.left_out.append("an hour later")
        return
    line, asked = worded.later(_HOUR)
    change = answer.question.version.change_of(asked)
    (scored,) = yield from _ask(text_L, [line], change, _only(answer), len(answer.result.item_idx_K))
    (ranked,) = yield from _ask(text_L, [line], change, answer.question.selection, answer.wanted)
    found.later = _alternatives(answer, _values(scored, answer), ranked)


def _events(
    worded: Worded, answer: Answer, found: _Found, ends: float, most: int
) -> Generator[Wordings, list[SearchResult], None]:
    """Each of the last events left out by itself, the last one first."""
    tokens_L, num = answer.question.prompt.tokens_L, min(most, worded.num_shown)
    whole_K = answer.result.log_prob_K.astype(np.float64)
    for back in range(1, num + 1):
        if time.monotonic() >= ends:
            found.left_out.append(f"{num - back + 1} of {num} past events")
            return
        kept, rest_L, asked = worded.without_event(back)
        change, only = answer.question.version.change_of(asked), _only(answer)
        (result,) = yield from _ask(tokens_L, [rest_L], change, only, len(whole_K), kept)
        found.events.append((worded.asked.height - 1 - back, whole_K - _values(result, answer)))


def _ask(
    text_L: Int32, own_Q: Sequence[Int32], change: Change, selection: Selection, k: int, kept: int | None = None
) -> Generator[Wordings, list[SearchResult], list[SearchResult]]:
    """The results of wordings that share the first `kept` tokens of a text (default: all); without any, one by one."""
    kept = len(text_L) if kept is None else kept
    if kept:
        position_Q = np.full(len(own_Q), kept - 1, np.int64)
        return (yield Wordings(text_L, position_Q, own_Q, change, selection, k))
    results: list[SearchResult] = []
    for own in own_Q:
        position_Q = np.array([len(own) - 1])
        results += yield Wordings(own, position_Q, [own[:0]], change, selection, k)
    return results


def _subsets(groups: Sequence[Group]) -> list[frozenset[Group]]:
    """All sets of some groups, the smallest first."""
    sizes = range(len(groups) + 1)
    return [frozenset(some) for size in sizes for some in itertools.combinations(groups, size)]


def _only(answer: Answer) -> Selection:
    """The items of an answer, and no others."""
    allowed_I = np.zeros(answer.question.version.trie.num_items, bool)
    allowed_I[answer.result.item_idx_K] = True
    return Selection(allowed_I, "The items of the answer.")


def _values(result: SearchResult, answer: Answer) -> Float64:
    """float64 [K]: the log-probability of each item of the answer in another wording."""
    value_of = dict(zip(result.item_idx_K.tolist(), result.log_prob_K.astype(np.float64).tolist(), strict=True))
    found = [max(value_of.get(item, -math.inf), _NOT_POSSIBLE) for item in answer.result.item_idx_K.tolist()]
    return np.array(found, np.float64)


def _alternatives(answer: Answer, value_K: Float64, ranked: SearchResult) -> list[Alternative]:
    rank_of = {item: rank for rank, item in enumerate(ranked.item_idx_K.tolist(), start=1)} if ranked.exact else {}
    items = answer.result.item_idx_K.tolist()
    return [
        Alternative(rank=rank_of.get(item), probability=math.exp(value))
        for item, value in zip(items, value_K.tolist(), strict=True)
    ]


def _parts(answer: Answer, blend: Blend, known: Histories) -> list[list[Part]]:
    """For each item its parts against the first of the others; none where there is no other."""
    item_K, log_K = answer.result.item_idx_K, answer.result.log_prob_K.astype(np.float64)
    if len(item_K) < 2:
        return [[] for _ in item_K]
    added = _of_stack(answer, blend, known)
    parts = []
    for at in range(len(item_K)):
        other = 1 if at == 0 else 0
        found = added(at, other)
        rest = float(log_K[at] - log_K[other]) - sum(found.values())
        parts.append([Part(name=name, log_odds=value) for name, value in {**found, MODEL: rest}.items()])
    return parts


def _of_stack(answer: Answer, blend: Blend, known: Histories) -> Callable[[int, int], Mapping[str, float]]:
    """From two places of an answer to what the stack adds to the log-odds of the first; nothing without a stack."""
    version, asked = answer.question.version, answer.question.prompt.asked
    change = version.change_of(asked)
    if blend.stack is None or asked is None or not isinstance(change, AgainOrNew):
        return lambda at, other: {}
    item_K = answer.result.item_idx_K
    index_T = version.prompt_index_T[: known.items.height]
    known_I = np.full(version.trie.num_items, -1, np.int64)
    known_I[index_T[index_T >= 0]] = np.flatnonzero(index_T >= 0)
    histories = asked_histories(known, asked)
    said = blend.stack.on(histories, known).said(histories.offset_U1[1:] - 1, np.maximum(known_I[item_K], 0)[None])

    def added(at: int, other: int) -> Mapping[str, float]:
        pair = [at, other]
        both_known = (known_I[item_K[pair]] >= 0).all()  # rankers do not know what came into the catalogue since
        said_12 = {name: value_1K[:, pair] for name, value_1K in said.items()} if both_known else {}
        return {name: float(value_1[0]) for name, value_1 in stack_parts(change, item_K[pair][None], said_12)}

    return added


def _why(
    answer: Answer, worded: Worded, found: _Found, parts: Sequence[list[Part]], titles: Mapping[int, str], at: int
) -> Why:  # fmt: skip
    version, item_K = answer.question.version, answer.result.item_idx_K
    log_K, other, has_other = answer.result.log_prob_K.astype(np.float64), 1 if at == 0 else 0, len(item_K) > 1
    row = version.rows(item_K[[at]])[0]
    shares, nothing = _shares(worded.groups, found, at)
    why = Why(
        item_id=row["item_id"], title=row["title"], rank=at + 1, probability=math.exp(log_K[at]),
        against=version.rows(item_K[[other]])[0]["item_id"] if has_other else None,
        log_odds=float(log_K[at] - log_K[other]) if has_other else None, parts=parts[at], groups=shares,
        nothing_log_prob=nothing, hour_later=found.later[at] if found.later else None,
        events=_past(worded, found, titles, at), sentence="",
    )  # fmt: skip
    return why.model_copy(update={"sentence": sentence_of(why)})


def _shares(groups: Sequence[Group], found: _Found, at: int) -> tuple[list[Share], float | None]:
    """What is known of each group, for one item, and its log-probability without any."""
    known = [group for group in groups if group in found.without]
    if len(found.value_of) < 1 << len(groups):
        return [Share(group=group, log_prob=None, without=found.without[group][at]) for group in known], None
    value_S = [
        found.value_of[frozenset(group for bit, group in enumerate(groups) if bits >> bit & 1)][at]
        for bits in range(1 << len(groups))
    ]
    share_G = shapley_values(np.array(value_S)).tolist()
    shares = [
        Share(group=group, log_prob=share, without=found.without[group][at])
        for group, share in zip(groups, share_G, strict=True)
    ]
    return shares, float(value_S[0])


def _past(worded: Worded, found: _Found, titles: Mapping[int, str], at: int) -> list[PastShare]:
    """The past events that matter most to one item."""
    most = sorted(found.events, key=lambda event: -abs(event[1][at]))[:SHOWN_EVENTS]
    rows = [(row, float(value_K[at])) for row, value_K in most]
    return [
        PastShare(
            item_id=event["item_id"], title=titles[row], time=event["local_time"].isoformat(timespec="minutes"),
            log_prob=value,
        )
        for row, value in rows
        for event in [worded.asked.row(row, named=True)]
    ]  # fmt: skip


def _titles(worded: Worded, found: _Found, known: Histories) -> dict[int, str]:
    """Titles of the events that were left out, by their rows."""
    version, titles = worded.question.version, {}
    for row, _ in found.events:
        item = int(worded.asked["item_idx"][row])
        if item < known.items.height:
            titles[row] = str(known.items["title"][item])
        else:
            titles[row] = str(version.items["title"][int(version.prompt_index_T[item])])
    return titles
