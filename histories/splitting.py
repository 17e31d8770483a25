"""Train, valid, test and history: who learns from what."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Final

import numpy as np
import polars as pl

from .settings import Protocol, SplitSettings

SPLITS: Final = ("train", "valid", "test", "history")  # position = code in Histories.split_N
HISTORY: Final = SPLITS.index("history")

CAVEATS: Final[Mapping[Protocol, str]] = {
    "global_time": "",
    "leave_one_out": "what is trained has seen events of other users that are later than a predicted one, by "
    "construction; such scores are comparable with other papers' and no forecast of a system in use",
    "user_cold_start": "only held-out users are predicted, in the last period, and what they did before is their own "
    "past and no other's; nothing is trained on their events, nor on anybody's after the training period",
    "item_cold_start": "only events at held-out items are predicted, in the last period, and before it they are left "
    "out of the histories; nothing is trained on other events after the training period",
}
"""What to know before a figure of each protocol is quoted; "" for the default, which has no catch."""


def split_events(events: pl.DataFrame, settings: SplitSettings, seed: int = 0) -> pl.Series:
    """Split of each event; the protocols are described in `SplitSettings`.

    A history event is an earlier event of its user: prompts show it and rankers count it for later events of
    that user. Nothing is fitted on it, and it is never predicted. Whether it may count when others are predicted
    says `Histories.shared_N`.

    `events` have at least `user_id` and `time`, under item_cold_start also `item_id`, in the order of time; that of
    equal times is kept. A time that several users share is never cut: it is of the later split. `seed` is that of the
    choice of held-out users or items; the other protocols are not random.

    Returns one of `SPLITS` in the order of `events`; null (item_cold_start only): the event is to be left out.
    """
    if settings.protocol == "leave_one_out":
        from_end = pl.int_range(pl.len(), dtype=pl.Int64).reverse().over("user_id")
        is_first = pl.int_range(pl.len()).over("user_id") == 0
        return _named(events, pl.when(is_first).then(0).otherwise(2 - from_end.clip(upper_bound=2)))
    num_train, num_seen = (_not_within_a_moment(events, num) for num in _cuts(events.height, settings))
    rank = pl.int_range(pl.len(), dtype=pl.Int64)
    period = (rank >= num_train).cast(pl.Int64) + (rank >= num_seen).cast(pl.Int64)
    if settings.protocol == "global_time":
        return _named(events, period)
    # Who is held out for valid is new in the second period, for test in the third; everybody else is new in none.
    column = "user_id" if settings.protocol == "user_cold_start" else "item_id"
    new_in = pl.lit(_held_out(events[column], settings.held_out, seed))
    code = pl.when(period == new_in).then(period).otherwise(HISTORY)
    if settings.protocol == "item_cold_start":
        code = pl.when(period >= new_in).then(code)
    return _named(events, code)


def _named(events: pl.DataFrame, code: pl.Expr) -> pl.Series:
    names = dict(enumerate(SPLITS))
    return events.select(code.replace_strict(names, return_dtype=pl.String).alias("split")).to_series()


def _cuts(num_events: int, settings: SplitSettings) -> tuple[int, int]:
    # Decimal fractions: with floats, 0.29 * 100 is 28.999... and loses an event.
    train, valid = Fraction(str(settings.train)), Fraction(str(settings.valid))
    return int(num_events * train), int(num_events * (train + valid))


def _not_within_a_moment(events: pl.DataFrame, num: int) -> int:
    """Where to cut instead of within events of equal times of several users: at its first event.

    Of others' events only what is strictly earlier is known; within one user's events of equal times their order says
    what was first.
    """
    if not 0 < num < events.height:
        return num
    first, last = (int(events["time"].search_sorted(events["time"][num], side)) for side in ("left", "right"))
    return first if first < num and events["user_id"][first:last].n_unique() > 1 else num


def _held_out(ids: pl.Series, share: float, seed: int) -> pl.Series:
    """Period in which each event's id is new: 1 for ids held out for valid, 2 for test, 0 for all others."""
    code_N = ids.rank("dense").to_numpy().astype(np.int64) - 1  # by the order of ids, not that of events
    num_ids = ids.n_unique()
    num = max(1, int(num_ids * Fraction(str(share))))
    shuffled = np.random.default_rng(seed).permutation(num_ids)
    new_in = np.zeros(num_ids, np.int64)
    new_in[shuffled[:num]] = 2
    new_in[shuffled[num : 2 * num]] = 1
    return pl.Series(new_in[code_N])
