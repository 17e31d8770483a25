"""What others did next in a similar situation: lines of a prompt such as "weekdays evening others after Bar: Cinema".

After the key-query similarity of Li et al., "Large Language Models for Next Point-of-Interest Recommendation", SIGIR
2024, which puts trajectories of other users that resemble the present one before it. Whole trajectories cost many
tokens; here a line says what several others chose after an item that this user chose of late, on that kind of day
and at that part of it.

Nothing of one person is shown: a pair of items needs at least `MIN_USERS` other users who chose the one after the
other, and no line says who. Only events of the training split count, and of these only those before the time of the
question.

Shapes: G = groups (key, next item), P = first times of users in groups, W = windows, V = recent events, X = lines,
Y = groups that are looked at for lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from ..arrays import Float64, Int64, ragged
from .context import DAYPARTS, HOUR_KNOWN

MIN_USERS: Final = 2
MAX_NEXT: Final = 3
"""Items of a line."""
RECENT: Final = 128
"""Events of the user that are looked at."""
_HALF_LIFE: Final = 16.0  # of the weight of a recent event, in events
_UNKNOWN_PART: Final = len(DAYPARTS)
_ANY: Final = 2 * (len(DAYPARTS) + 1)  # a period beside those of `periods`: whenever it was
_NUM_PERIODS: Final = _ANY + 1
_DAYS: Final = pl.Series([*["weekdays"] * (_UNKNOWN_PART + 1), *["weekends"] * (_UNKNOWN_PART + 1), "any day"])
_PARTS: Final = pl.Series([*(*DAYPARTS, "") * 2, ""])
SIMILAR_VARIABLES: Final = ("after", "also", "days", "daypart")


def periods(events: pl.DataFrame) -> Int64:
    """int64 [N]: kind of day (weekday or weekend) and part of the day of each event, as a code."""
    local_N = events["local_time"].to_numpy()
    weekend_N = (local_N.astype("datetime64[D]").astype(np.int64) + 3) % 7 >= 5
    part_N = local_N.astype("datetime64[h]").astype(np.int64) % 24 // 6
    if HOUR_KNOWN in events.columns:
        part_N = np.where(events[HOUR_KNOWN].fill_null(True).to_numpy(), part_N, _UNKNOWN_PART)
    return weekend_N * (_UNKNOWN_PART + 1) + part_N


@dataclass(frozen=True, eq=False)
class UserEvents:
    """All events of some users, as far as their lines depend on them.

    `item_N`, `period_N`, `time_N` int64 [N]: of all their events, times in microseconds. `user_U` int64: what `Others`
    counts each user as, -1 for one that it does not know.
    """

    item_N: Int64
    period_N: Int64
    time_N: Int64
    user_U: Int64


@dataclass(frozen=True, eq=False)
class Others:
    """What all users chose next, by item and period, and since when; groups in order of key and next item.

    `users`: the number of each user, by id, below `num_users`. `key_G`: item and period as one number; `next_G`: the
    item chosen next; `start_G1`: where the entries of each group begin. `time_T`: all times, ascending. `when_P`: group
    and place among the times, as one number, ascending. `who_P`: group and user as one number, ascending, and
    `who_time_P` the time of each. All int64.
    """

    users: dict[str, int]
    num_users: int
    key_G: Int64
    next_G: Int64
    start_G1: Int64
    time_T: Int64
    when_P: Int64
    who_P: Int64
    who_time_P: Int64

    @classmethod
    def of(cls, events: pl.DataFrame, session_hours: float) -> Others:
        """Of events sorted by user and time; only those of the training split count.

        Two events make a pair where one follows the other within `session_hours`.
        """
        train = events.filter(pl.col("split") == "train")
        pairs = _pairs(train, session_hours)
        first = pairs.group_by("key", "next", "user").agg(pl.col("time").min())
        kept = first.filter(pl.len().over("key", "next") >= MIN_USERS).sort("key", "next", "time", "user")
        key_P, next_P, time_P, user_P = (kept[name].to_numpy() for name in ("key", "next", "time", "user"))
        begins_P = np.ones(len(key_P), bool)
        begins_P[1:] = (key_P[1:] != key_P[:-1]) | (next_P[1:] != next_P[:-1])
        start_G, group_P = np.flatnonzero(begins_P), np.cumsum(begins_P) - 1
        time_T = np.unique(time_P)
        who = train.select("user_id", "user_idx").unique("user_idx")
        users = dict(zip(who["user_id"].cast(pl.String).to_list(), who["user_idx"].to_list(), strict=True))
        num_users = max(users.values(), default=0) + 1
        who_P = group_P * num_users + user_P
        order_P = np.argsort(who_P)
        return cls(
            users, num_users, key_P[start_G], next_P[start_G], np.append(start_G, len(key_P)), time_T,
            group_P * (len(time_T) + 1) + np.searchsorted(time_T, time_P), who_P[order_P], time_P[order_P],
        )  # fmt: skip

    def user_events(self, events: pl.DataFrame, offset_U1: Int64) -> UserEvents:
        """What of `events`, sorted by user and time, decides their lines."""
        user_U = np.full(len(offset_U1) - 1, -1)
        has_U = np.flatnonzero(np.diff(offset_U1))
        ids = events["user_id"].gather(offset_U1[has_U]).cast(pl.String).to_list()
        user_U[has_U] = [self.users.get(user_id, -1) for user_id in ids]
        time_N = events["time"].dt.epoch("us").to_numpy()
        return UserEvents(events["item_idx"].to_numpy().astype(np.int64), periods(events), time_N, user_U)

    def lines(
        self, given: UserEvents, user_W: Int64, first_W: Int64, target_W: Int64, num: int, any_time: bool = False
    ) -> pl.DataFrame:
        """What others did after the items of the user's events before row `target_W[w]`, as known at its time.

        At most `num` items and periods for each window, those of the latest and most frequent events first; the period
        is that of the event after the item. Where too few others did anything then, it is what they did at any time;
        with `any_time` it always is. Columns: `window`, `item_idx` (the item before) and `period` (a code), `next_0`,
        `next_1`, ...: items chosen after it, by how many others chose them, -1 for none.
        """
        window_X, item_X, period_X = _keys(given, first_W, target_W, num)
        period_X = np.full_like(period_X, _ANY) if any_time else period_X
        time_W, user_W = given.time_N[target_W], given.user_U[user_W]
        next_XK = self._next(item_X, period_X, time_W[window_X], user_W[window_X])
        none_X = np.flatnonzero(next_XK[:, 0] < 0)
        next_XK[none_X] = self._next(
            item_X[none_X], np.full(len(none_X), _ANY), time_W[window_X[none_X]], user_W[window_X[none_X]]
        )
        period_X[none_X] = _ANY
        frame = pl.DataFrame({
            "window": window_X, "item_idx": item_X, "period": period_X,
            **{f"next_{k}": next_XK[:, k] for k in range(MAX_NEXT)},
        })  # fmt: skip
        frame = frame.filter(pl.col("next_0") >= 0)
        return frame.unique(["window", "item_idx", "period"], keep="first", maintain_order=True)

    def _next(self, item_X: Int64, period_X: Int64, time_X: Int64, user_X: Int64) -> Int64:
        """int64 [X, MAX_NEXT]: items that at least MIN_USERS others chose next before a time, -1 for none."""
        code_X = item_X * _NUM_PERIODS + period_X
        begin_X, end_X = (np.searchsorted(self.key_G, code_X, side=side) for side in ("left", "right"))
        line_Y, group_Y = ragged(begin_X, end_X - begin_X)
        count_Y = self._count(group_Y, time_X[line_Y], user_X[line_Y])
        some_Y = count_Y >= MIN_USERS
        line_Y, group_Y, count_Y = line_Y[some_Y], group_Y[some_Y], count_Y[some_Y]
        order_Y = np.lexsort((self.next_G[group_Y], -count_Y, line_Y))
        line_Y, group_Y = line_Y[order_Y], group_Y[order_Y]
        rank_Y = np.arange(len(line_Y)) - np.searchsorted(line_Y, line_Y)
        shown_Y = rank_Y < MAX_NEXT
        next_XK = np.full((len(item_X), MAX_NEXT), -1)
        next_XK[line_Y[shown_Y], rank_Y[shown_Y]] = self.next_G[group_Y[shown_Y]]
        return next_XK

    def _count(self, group_Y: Int64, time_Y: Int64, user_Y: Int64) -> Int64:
        """int64 [Y]: how many other users were in a group before a time."""
        place_Y = np.searchsorted(self.time_T, time_Y)
        before_Y = np.searchsorted(self.when_P, group_Y * (len(self.time_T) + 1) + place_Y) - self.start_G1[group_Y]
        if not len(self.who_P):
            return before_Y
        code_Y = group_Y * self.num_users + user_Y
        at_Y = np.minimum(np.searchsorted(self.who_P, code_Y), len(self.who_P) - 1)
        own_Y = (user_Y >= 0) & (self.who_P[at_Y] == code_Y) & (self.who_time_P[at_Y] < time_Y)
        others_Y: Int64 = before_Y - own_Y
        return others_Y


def _pairs(train: pl.DataFrame, session_hours: float) -> pl.DataFrame:
    """Each event that follows another one of its user in a session: `key`, `next`, `user`, `time`, all int64.

    Every pair occurs twice: at its period, and at any time.
    """
    period = pl.Series("period", periods(train))
    item, time = pl.col("item_idx").cast(pl.Int64), pl.col("time").dt.epoch("us")
    followed = train.select(
        item.shift(1).alias("item"), item.alias("next"), pl.col("user_idx").cast(pl.Int64).alias("user"),
        time.alias("time"), period,
        ((pl.col("user_idx") == pl.col("user_idx").shift(1)) & (time - time.shift(1) <= session_hours * 3.6e9))
        .fill_null(False).alias("together"),
    ).filter("together")  # fmt: skip
    both = pl.concat([followed, followed.with_columns(period=pl.lit(_ANY, pl.Int64))])
    return both.select((pl.col("item") * _NUM_PERIODS + pl.col("period")).alias("key"), "next", "user", "time")


def _keys(given: UserEvents, first_W: Int64, target_W: Int64, num: int) -> tuple[Int64, Int64, Int64]:
    """Window, item and period of what lines may speak of, int64 [X] each, window by window, the weightiest first."""
    begin_W = np.maximum(first_W, target_W - RECENT)
    window_V, event_V = ragged(begin_W, target_W - begin_W)
    item_V, period_V = given.item_N[event_V], given.period_N[event_V + 1]
    weight_V: Float64 = 0.5 ** ((target_W[window_V] - 1 - event_V) / _HALF_LIFE)
    key_V = (window_V * (int(item_V.max(initial=0)) + 1) + item_V) * _NUM_PERIODS + period_V
    _, at_X, of_V = np.unique(key_V, return_index=True, return_inverse=True)
    weight_X = np.bincount(of_V, weight_V, len(at_X))
    order_X = np.lexsort((at_X, -weight_X, window_V[at_X]))
    at_X = at_X[order_X]
    rank_X = np.arange(len(at_X)) - np.searchsorted(window_V[at_X], window_V[at_X])
    at_X = at_X[rank_X < num]
    return window_V[at_X], item_V[at_X], period_V[at_X]


def similar_frame(lines: pl.DataFrame, titles: pl.Series) -> pl.DataFrame:
    """The variables of `similar.j2` for each line of `Others.lines`; the line's last item comes behind the text.

    `after` (title of the item before), `also` (titles of all items but the last, between semicolons), `days`
    ("weekdays", "weekends", "any day"), `daypart` ("" where it is not known, or was any).
    """
    names = [titles.gather(lines[f"next_{k}"].set(lines[f"next_{k}"] < 0, None)) for k in range(MAX_NEXT)]
    is_last = [lines[f"next_{k + 1}"] < 0 if k + 1 < MAX_NEXT else lines[f"next_{k}"] >= -1 for k in range(MAX_NEXT)]
    further = pl.DataFrame([
        name.set(last, None).alias(str(k)) for k, (name, last) in enumerate(zip(names, is_last, strict=True))
    ])  # fmt: skip
    return pl.DataFrame([
        titles.gather(lines["item_idx"]).alias("after"),
        further.select(pl.concat_str(pl.all(), separator="; ", ignore_nulls=True)).to_series().alias("also"),
        _DAYS.gather(lines["period"]).alias("days"), _PARTS.gather(lines["period"]).alias("daypart"),
    ])  # fmt: skip


def last_items(lines: pl.DataFrame) -> Int64:
    """int64 [X]: the last item of each line."""
    next_XK = lines.select(f"next_{k}" for k in range(MAX_NEXT)).to_numpy()
    last: Int64 = next_XK[np.arange(len(next_XK)), (next_XK >= 0).sum(axis=1) - 1]
    return last
