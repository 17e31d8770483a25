"""One kind of context, shuffled among events or removed: shuffled it looks the same but carries no information.

Each event gets the value of a random one, of those in the evaluated period and before it, that was known already when
the event is first shown as history. So nothing leaks from later: no line of a past event shows a value from
after the time of the prompt. The question itself may, up to the time of its user's next one.

Values are drawn with replacement. A permutation that keeps to that would give early events early values, and so on: on
nyc-checkins half the questions had the weather of less than half a day away, which mostly is the same.

Shapes: N = events (rows of the histories), X = those that exchange among each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from ..arrays import Int64
from ..histories import HISTORY, Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import SPLIT_CODES
from ..prompts import CONTEXT_KINDS, ContextKind, Features, columns_of, context_changes, context_frame
from ..prompts.context import NO_FEATURES
from ..prompts.kinds import VARIABLES

NEVER = np.iinfo(np.int64).max


def exchange(
    histories: Histories, split: EvaluatedSplit, kind: ContextKind, column_kinds: Mapping[str, ContextKind], seed: int,
    features: Features = NO_FEATURES,
) -> Histories:  # fmt: skip
    """The histories, each event of `split` and of its history with one kind of context from a random one among these.

    All columns of the kind travel together. Rows, items, users, the true times and all other columns stay, and so do
    events of splits behind `split`, which are in no prompt. With a local time travels how many days lay before it;
    `new_day` follows weather and place, see `prompts.kinds.context_changes`. Each kind has its own draw by the seed.
    `features`, those of the template, travel too: otherwise the prompt would still state them for the true events.
    """
    events = histories.events
    frame = context_frame(events, histories.location, features)
    names = columns_of(kind, events.columns, column_kinds)
    if kind == "time":
        days = frame["days_since_previous"].alias("_days_since_previous")
        events = events.with_columns(days, context_changes(frame, events, column_kinds).alias("_new_day"))
        names.append("_days_since_previous")
    elif kind == "place" and histories.location == "outcome":  # those coordinates are the answer, and never shown
        names = [name for name in names if name not in ("latitude", "longitude")]
    further = [name for name in VARIABLES[kind] if name in features.wanted and name not in histories.events.columns]
    events = events.with_columns(frame[name].alias(f"_{name}") for name in further)
    names += [f"_{name}" for name in further]
    random, from_N = np.random.default_rng([seed, CONTEXT_KINDS.index(kind)]), np.arange(events.height)
    row_X = np.flatnonzero((histories.split_N <= SPLIT_CODES[split]) | (histories.split_N == HISTORY))
    from_N[row_X] = row_X[draw(histories.time_s_N[row_X], deadlines(histories, split)[row_X], random)]
    return replace(histories, events=events.with_columns(events[name].gather(from_N) for name in names))


def without_context(histories: Histories, kinds: Collection[ContextKind]) -> Histories:
    """The histories as a ranker sees them that knows nothing of some kinds of context: itself where there are none.

    Without time, all local times are one; true times, and so the order and age of events, stay. Without place, events
    have no coordinates, unless these are those of the chosen items. No ranker reads weather.
    """
    events = histories.events
    if "time" in kinds:
        events = events.with_columns(pl.col("local_time").first())
    if "place" in kinds and histories.location != "outcome":
        names = [name for name in ("latitude", "longitude") if name in events.columns]
        events = events.with_columns(pl.lit(None, events.schema[name]).alias(name) for name in names)
    return histories if events is histories.events else replace(histories, events=events)


def deadlines(histories: Histories, split: EvaluatedSplit) -> Int64:
    """When each event is first shown as history: the time of its user's next event in `split`, int64 [N], unix seconds.

    NEVER where there is none.
    """
    columns = {"user": histories.user_idx_N, "time": histories.time_s_N,
               "is_asked": histories.split_N == SPLIT_CODES[split]}  # fmt: skip
    following = pl.when("is_asked").then("time").shift(-1).backward_fill().over("user").fill_null(NEVER)
    deadline_N: Int64 = pl.DataFrame(columns).select(following).to_series().to_numpy()
    return deadline_N


def draw(time_X: Int64, deadline_X: Int64, random: np.random.Generator) -> Int64:
    """From which event each gets its value, int64 [X]: any with time[of that] <= deadline[x], all equally likely.

    No event's own time may lie behind its deadline.
    """
    by_time_X = np.argsort(time_X, kind="stable")
    known_X = np.searchsorted(time_X[by_time_X], deadline_X, side="right")
    from_X: Int64 = by_time_X[random.integers(0, known_X)]
    return from_X
