from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.eval.shuffling import NEVER, deadlines, draw, exchange, without_context
from whereupon.histories import Histories
from whereupon.histories.candidates import EvaluatedSplit
from whereupon.histories.questions import SPLIT_CODES
from whereupon.prompts import CONTEXT_KINDS, ContextKind, Features, context_frame

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]

HOUR, DAY = 3600, 86_400
# What each kind's columns are in these histories.
COLUMNS: dict[ContextKind, set[str]] = {
    "time": {"local_time", "_days_since_previous", "_new_day"},
    "place": {"latitude", "longitude", "origin"},
    "weather": {"temperature_c", "condition"},
}


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    """Up to five users in any of the protocols that a split may come of."""
    events = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), min_size=2, max_size=25))
    ordered = sorted((user, hour * HOUR) for user, hour in events)
    protocol = draw(st.sampled_from(["global_time", "leave_one_out", "user_cold_start"]))
    if protocol == "leave_one_out":
        after = [sum(other == user for other, _ in ordered[i + 1 :]) for i, (user, _) in enumerate(ordered)]
        split = [("test", "valid")[n] if n < 2 else "train" for n in after]
    else:
        cut = draw(st.integers(0, 30)) * HOUR
        later = "history" if protocol == "user_cold_start" else "test"
        split = ["train" if time < cut / 2 else "valid" if time < cut else (later if user else "test")
                 for user, time in ordered]  # fmt: skip
    return [(user, i % 3, time, name) for i, ((user, time), name) in enumerate(zip(ordered, split, strict=True))]


def _told(histories: Histories, location: Any = "context") -> Histories:
    """With context columns that give each row away: the temperature and the latitude are the row's number."""
    number = np.arange(len(histories.split_N))
    events = histories.events.with_columns(
        pl.Series("temperature_c", number * 1.0), pl.Series("condition", [f"sky {i}" for i in number]),
        pl.Series("latitude", number * 1.0), pl.Series("longitude", number * -1.0),
        pl.Series("origin", [f"place {i}" for i in number]), pl.Series("carrier", [f"carrier {i}" for i in number]),
    )  # fmt: skip
    return replace(histories, events=events, location=location)


def _source(histories: Histories, split: EvaluatedSplit = "test", seed: int = 0) -> list[int]:
    """From which row each row got its weather."""
    return exchange(histories, split, "weather", {}, seed).events["temperature_c"].cast(pl.Int64).to_list()


@settings(deadline=None)
@given(events=rows(), split=st.sampled_from(["valid", "test"]), seed=st.integers(0, 5))
def test_no_past_of_a_prompt_shows_what_came_after_its_time(
    build: Build, events: list[Row], split: EvaluatedSplit, seed: int
) -> None:
    histories = _told(build(events, 3))
    source, time, user = _source(histories, split, seed), histories.time_s_N, histories.user_idx_N
    for question in np.flatnonzero(histories.split_N == SPLIT_CODES[split]).tolist():
        for past in range(int(histories.offset_U1[user[question]]), question):
            assert time[source[past]] <= time[question]


@settings(deadline=None)
@given(events=rows(), split=st.sampled_from(["valid", "test"]), seed=st.integers(0, 5))
def test_values_come_from_the_evaluated_period_or_before_and_stay_behind_it(
    build: Build, events: list[Row], split: EvaluatedSplit, seed: int
) -> None:
    histories = _told(build(events, 3))
    source, code, code_N = _source(histories, split, seed), SPLIT_CODES[split], histories.split_N
    later = {*np.flatnonzero((code_N > code) & (code_N < 3)).tolist()}
    assert [source[row] for row in later] == [*later]
    assert not later & {source[row] for row in {*range(len(code_N))} - later}


@settings(deadline=None)
@given(events=rows(), kind=st.sampled_from(CONTEXT_KINDS), seed=st.integers(0, 5))
def test_columns_of_a_kind_travel_together_and_nothing_else_moves(
    build: Build, events: list[Row], kind: ContextKind, seed: int
) -> None:
    histories = _told(build(events, 3))
    exchanged = exchange(histories, "test", kind, {}, seed)
    before, after = histories.events, exchanged.events
    kept = [name for name in before.columns if name not in COLUMNS[kind]]
    assert after.select(kept).equals(before.select(kept))
    assert {*after.columns} - {*kept} == COLUMNS[kind]
    moved = [name for name in before.columns if name in COLUMNS[kind]]
    assert {*after.select(moved).rows()} <= {*before.select(moved).rows()}
    arrays = ("item_idx_N", "user_idx_N", "time_s_N", "split_N", "offset_U1")
    assert all(np.array_equal(getattr(exchanged, name), getattr(histories, name)) for name in arrays)


WEEK: list[Row] = [(user, 0, (7 * week + user) * DAY, "test" if week > 4 else "train")
                   for user in range(4) for week in range(8)]  # fmt: skip


@pytest.mark.parametrize("kind", CONTEXT_KINDS)
def test_exchange_follows_its_seed_and_moves_most_values(build: Build, kind: ContextKind) -> None:
    histories = _told(build(WEEK, 3))
    one, same, other = (exchange(histories, "test", kind, {}, seed).events for seed in (1, 1, 2))
    assert one.equals(same)
    assert not one.equals(other)
    name = sorted(COLUMNS[kind] & {*histories.events.columns})[0]
    assert (one[name] != histories.events[name]).mean() > 0.5


def test_questions_show_what_was_on_other_days(build: Build) -> None:
    """Forty people out every day, and every day is predicted: few days are so close that the weather is the same."""
    days = range(50)
    events: list[Row] = [(user, 0, day * DAY + user, "test" if day >= 40 else "train")
                         for user in range(40) for day in days]  # fmt: skip
    histories = _told(build(events, 1))
    source, time = np.array(_source(histories)), histories.time_s_N
    asked = np.flatnonzero(histories.split_N == SPLIT_CODES["test"])
    apart = np.abs(time[source[asked]] - time[asked]) / DAY
    assert np.median(apart) > 10
    assert (apart < 1.5).mean() < 0.1


def test_days_between_events_travel_with_their_time_and_never_run_backwards(build: Build) -> None:
    histories = _told(build(WEEK, 3))
    before = context_frame(histories.events, "context")
    after = context_frame(exchange(histories, "test", "time", {}, 0).events, "context")
    said = ["weekday", "hour", "day_of_month", "month", "days_since_previous"]
    assert {*after.select(said).rows()} <= {*before.select(said).rows()}
    assert {*after["days_since_previous"].to_list()} == {None, 7}
    assert after.select("temperature_c", "weather", "origin").equals(
        before.select("temperature_c", "weather", "origin")
    )


def test_weather_is_shown_where_it_changes_once_times_are_exchanged(build: Build) -> None:
    histories = build([(0, 0, 0, "train"), (0, 0, 2 * DAY, "train"), (0, 0, 2 * DAY + HOUR, "test")], 1)
    events = histories.events.with_columns(temperature_c=pl.Series([1.0, 2.0, 20.0]))  # cold, cold, mild
    exchanged = exchange(replace(histories, events=events), "test", "time", {}, 0)
    assert context_frame(exchanged.events, "outcome")["new_day"].to_list() == [True, False, True]


def test_coordinates_of_the_chosen_items_are_not_exchanged(build: Build) -> None:
    histories = _told(build(WEEK, 3), "outcome")
    after = exchange(histories, "test", "place", {}, 0).events
    assert after.select("latitude", "longitude").equals(histories.events.select("latitude", "longitude"))
    assert not after["origin"].equals(histories.events["origin"])


def test_column_of_ones_own_is_exchanged_with_its_kind(build: Build) -> None:
    histories = _told(build(WEEK, 3))
    after = exchange(histories, "test", "place", {"carrier": "place"}, 0).events
    assert [name[8:] for name in after["carrier"]] == [name[6:] for name in after["origin"]]


@pytest.mark.parametrize(("kind", "names"), [("time", ["since_last", "sun"]), ("place", ["cell", "moved", "home_km"])])
def test_variables_that_only_some_templates_name_travel_with_their_kind(
    build: Build, kind: ContextKind, names: list[str]
) -> None:
    features = Features(frozenset(names))
    histories = _told(build(WEEK, 3), "outcome")
    before = context_frame(histories.events, "outcome", features)
    exchanged = exchange(histories, "test", kind, {}, 0, features)
    after = context_frame(exchanged.events, "outcome", features)
    assert {*after.select(names).rows()} <= {*before.select(names).rows()}
    assert not after.select(names).equals(before.select(names))
    assert after["weather"].equals(before["weather"])


@settings(deadline=None)
@given(events=rows(), split=st.sampled_from(["valid", "test"]))
def test_deadline_is_the_time_of_the_users_next_question(
    build: Build, events: list[Row], split: EvaluatedSplit
) -> None:
    histories = build(events, 3)
    naive = []
    for row in range(len(events)):
        own = range(row + 1, int(histories.offset_U1[histories.user_idx_N[row] + 1]))
        following = [histories.time_s_N[other] for other in own if histories.split_N[other] == SPLIT_CODES[split]]
        naive.append(following[0] if following else NEVER)
    assert deadlines(histories, split).tolist() == naive


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=5))
def test_every_value_that_is_known_by_the_deadline_is_drawn_equally_often(events: list[tuple[int, int]]) -> None:
    time, deadline = [time for time, _ in events], [time + wait for time, wait in events]
    random, rounds = np.random.default_rng(0), 2000
    drawn_RX = np.array([draw(np.array(time), np.array(deadline), random) for _ in range(rounds)])
    for event, until in enumerate(deadline):
        known = [other for other, moment in enumerate(time) if moment <= until]
        share, drawn = 1 / len(known), Counter(drawn_RX[:, event].tolist())
        assert drawn.keys() == {*known}
        assert max(abs(count / rounds - share) for count in drawn.values()) < 5 * (share / rounds) ** 0.5 + 1e-12


def test_no_events_exchange_nothing() -> None:
    empty = np.empty(0, np.int64)
    assert draw(empty, empty, np.random.default_rng(0)).tolist() == []


def test_context_is_taken_away_and_all_else_stays(build: Build) -> None:
    histories = _told(build([(0, 0, HOUR, "train"), (0, 1, 30 * HOUR, "test"), (1, 2, 5 * HOUR, "train")], 3))
    assert without_context(histories, []) is without_context(histories, ["weather"]) is histories
    untimed = without_context(histories, ["time"])
    assert untimed.events["local_time"].n_unique() == 1
    assert untimed.time_s_N.tolist() == histories.time_s_N.tolist()
    assert untimed.events.drop("local_time").equals(histories.events.drop("local_time"))
    nowhere = without_context(histories, ["place", "time"]).events
    assert nowhere["latitude"].null_count() == nowhere["longitude"].null_count() == nowhere.height
    chosen = _told(histories, "outcome")
    assert without_context(chosen, ["place"]) is chosen, "coordinates of what was chosen are no context"
