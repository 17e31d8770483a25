"""The `Explanation` of an answer, from the question and its answer, with any model.

An explanation is computed by scoring the same question in other wordings (`wordings`). `explaining` gives out wordings,
many together, and is sent their results, as a search gives out nodes. `explain_with` drives it with a model in this
process, the server with vLLM. All wordings score the same items exactly, by the search of the answer itself. The
log-probability of an item in the whole catalogue is a sum over the nodes of its path, each renormalised over its edges.
So no other path has to be scored.

Shapes: K = items of the answer, S = sets of groups, G = groups, Q = wordings and P = histories of one batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from ..arrays import Float64, Int32
from ..catalogue import Selection
from ..decode import Change, SearchResult, run
from ..decode.reweighting import AgainOrNew, Shared
from ..histories import Histories
from ..rankers.blend import Blend
from ..rankers.parts import MODEL, stack_parts
from ..rankers.queries import query_histories
from .explanation import Alternative, Explanation, Part, PastShare, Share, Why, sentence_of
from .recommender import Answer
from .shapley import shapley_values
from .wordings import Group, Worded, Wordings, subsets

if TYPE_CHECKING:
    from ..decode.transformers_engine import TransformersEngine

Results = list[SearchResult]
Explaining = Generator[Wordings, Results, Explanation]
Step = Generator[Wordings, Results, None]

MAX_EVENTS: Final = 10
"""Past events that are left out one by one: the last ones."""
EVENTS_AT_ONCE: Final = 5
SHOWN_EVENTS: Final = 3
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


@dataclass(frozen=True, eq=False)
class _Text:
    """A wording: the groups that it leaves out (None: the request is an hour later), its tokens, and the number of its
    history among those of the batch."""

    gone: frozenset[Group] | None
    text_L: Int32
    past: int


def explain_with(engine: TransformersEngine, explaining: Explaining, prompt_L: Int32) -> Explanation:
    """Drive `explaining` with a model in this process, which reads the prompt once for all wordings of it."""
    reading, results = None, None
    while True:
        try:
            query = explaining.send(results)  # type: ignore[arg-type]  # a generator is started by None
        except StopIteration as end:
            found: Explanation = end.value
            return found
        if reading is None:
            reading = engine.read(prompt_L, np.array([len(prompt_L) - 1]))
        results = run(reading.of_texts(query.texts), query.search(engine.trie))


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
    return Explanation(items=list(_whys(answer, worded, found, parts, titles)), left_out=found.left_out)


def _groups(worded: Worded, answer: Answer, found: _Found, ends: float) -> Step:
    """Every set of groups: first those with the whole history, and an hour later, then those with less of it."""
    if time.monotonic() >= ends:
        found.left_out += ["what each group of the prompt adds", "an hour later"]
        return
    whole, *less = subsets(worded.event_groups)
    yield from _sets(worded, answer, found, [whole])
    if less and time.monotonic() >= ends:
        found.left_out.append("what each group of the prompt adds")
    elif less:
        yield from _sets(worded, answer, found, less)


def _sets(worded: Worded, answer: Answer, found: _Found, gone_P: Sequence[frozenset[Group]]) -> Step:
    """Every set of context with histories that lack `gone_P`: values of all, and the ranks of those that lack one
    group in all; beside the whole history also an hour later."""
    histories_of = [worded.past_without(gone) for gone in gone_P]
    texts = [
        _Text(kinds | gone, np.concatenate([histories_of[past][0], worded.last_line(kinds)]), past)
        for past, gone in enumerate(gone_P)
        for kinds in subsets(worded.context_groups)
    ]
    query = [events for _, events in histories_of]
    if not gone_P[0]:
        line_L, later = worded.later
        texts.append(_Text(None, np.concatenate([histories_of[0][0], line_L]), len(query)))
        query.append(later)
    change = answer.question.version.change_of(query)
    scored = yield _scoring(texts, change, answer)
    alone = [at for at, text in enumerate(texts) if text.gone is None or len(text.gone) == 1]
    ranked = yield _wordings([texts[at] for at in alone], change, answer.question.selection, answer.wanted)
    result_of = dict(zip(alone, ranked, strict=True))
    for at, (text, result) in enumerate(zip(texts, scored, strict=True)):
        value_K = _values(result, answer)
        if text.gone is not None:
            found.value_of[frozenset(worded.groups) - text.gone] = value_K
        if at in result_of:
            _keep_alternatives(found, text.gone, _alternatives(answer, value_K, result_of[at]))


def _keep_alternatives(found: _Found, gone: frozenset[Group] | None, other: list[Alternative]) -> None:
    if gone is None:
        found.later = other
    else:
        (group,) = gone
        found.without[group] = other


def _events(worded: Worded, answer: Answer, found: _Found, ends: float, most: int) -> Step:
    """Each of the last events left out by itself, a few at a time, the last ones first."""
    num, whole_K = min(most, worded.num_shown), answer.result.log_prob_K.astype(np.float64)
    for first in range(1, num + 1, EVENTS_AT_ONCE):
        if time.monotonic() >= ends:
            found.left_out.append(f"{num - first + 1} of {num} past events")
            return
        back_Q = range(first, min(first + EVENTS_AT_ONCE, num + 1))
        without = [worded.without_event(back) for back in back_Q]
        change = answer.question.version.change_of([query for _, query in without])
        texts = [_Text(frozenset(), text_L, past) for past, (text_L, _) in enumerate(without)]
        scored = yield _scoring(texts, change, answer)
        rows = (worded.query.height - 1 - back for back in back_Q)
        found.events += [(row, whole_K - _values(result, answer)) for row, result in zip(rows, scored, strict=True)]


def _scoring(texts: Sequence[_Text], change: Change, answer: Answer) -> Wordings:
    """Wordings that are scored for the items of the answer, and no others."""
    return _wordings(texts, change, _only(answer), len(answer.result.item_idx_K))


def _wordings(texts: Sequence[_Text], change: Change, selection: Selection, k: int) -> Wordings:
    past_Q = np.array([text.past for text in texts], np.int64)
    return Wordings([text.text_L for text in texts], Shared(change, past_Q), selection, k)


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
    version, query = answer.question.version, answer.question.prompt.query
    change = version.change_of(query)
    if blend.stack is None or query is None or not isinstance(change, AgainOrNew):
        return lambda at, other: {}
    item_K = answer.result.item_idx_K
    index_T = version.prompt_index_T[: known.items.height]
    known_I = np.full(version.trie.num_items, -1, np.int64)
    known_I[index_T[index_T >= 0]] = np.flatnonzero(index_T >= 0)
    histories = query_histories(known, query)
    said = blend.stack.on(histories, known).said(histories.offset_U1[1:] - 1, np.maximum(known_I[item_K], 0)[None])

    def added(at: int, other: int) -> Mapping[str, float]:
        pair = [at, other]
        both_known = (known_I[item_K[pair]] >= 0).all()  # rankers do not know what came into the catalogue since
        said_12 = {name: value_1K[:, pair] for name, value_1K in said.items()} if both_known else {}
        return {name: float(value_1[0]) for name, value_1 in stack_parts(change, item_K[pair][None], said_12)}

    return added


def _whys(
    answer: Answer, worded: Worded, found: _Found, parts: Sequence[list[Part]], titles: Mapping[int, str]
) -> Iterator[Why]:  # fmt: skip
    log_K, rows = answer.result.log_prob_K.astype(np.float64), answer.question.version.rows(answer.result.item_idx_K)
    for at, row in enumerate(rows):
        other, has_other = 1 if at == 0 else 0, len(rows) > 1
        shares, nothing = _shares(worded.groups, found, at)
        why = Why(
            item_id=row["item_id"], title=row["title"], rank=at + 1, probability=math.exp(log_K[at]),
            against=rows[other]["item_id"] if has_other else None,
            log_odds=float(log_K[at] - log_K[other]) if has_other else None, parts=parts[at], groups=shares,
            nothing_log_prob=nothing, hour_later=found.later[at] if found.later else None,
            events=_past(worded, found, titles, at), sentence="",
        )  # fmt: skip
        yield why.model_copy(update={"sentence": sentence_of(why)})


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
        for event in [worded.query.row(row, named=True)]
    ]  # fmt: skip


def _titles(worded: Worded, found: _Found, known: Histories) -> dict[int, str]:
    """Titles of the events that were left out, by their rows."""
    version, titles = worded.question.version, {}
    for row, _ in found.events:
        item = int(worded.query["item_idx"][row])
        if item < known.items.height:
            titles[row] = str(known.items["title"][item])
        else:
            titles[row] = str(version.items["title"][int(version.prompt_index_T[item])])
    return titles
