"""Every event is in exactly one split, time runs from train to test, and who is held out is nowhere trained on."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from pydantic import ValidationError

from whereupon.errors import DataError
from whereupon.histories import SplitSettings
from whereupon.histories.splitting import CAVEATS, SPLITS, split_events
from whereupon.tests.texts import says

Write = Callable[[str, str], Path]
Prepare = Callable[..., Any]


def events(user_ids: list[str], item_ids: list[str] | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {"user_id": user_ids, "item_id": item_ids or user_ids, "time": range(len(user_ids))},
        schema={"user_id": pl.String, "item_id": pl.String, "time": pl.Int64},
    )


def test_global_time_cuts_by_order() -> None:
    split = split_events(events(["u"] * 10), SplitSettings(train=0.7, valid=0.1))
    assert split.to_list() == ["train"] * 7 + ["valid"] + ["test"] * 2


@pytest.mark.parametrize(
    ("users", "train", "seen"),
    [
        ("abcdefghij", 4, 4),  # both cuts are within the time 5
        ("abcddddddj", 7, 8),  # which is one user's, whose events have an order
        ("abcdddddej", 4, 4),
    ],
)
def test_time_of_several_users_is_never_cut(users: str, train: int, seen: int) -> None:
    times = pl.Series("time", [1, 2, 3, 4, 5, 5, 5, 5, 5, 6])
    split = split_events(events(list(users)).with_columns(times), SplitSettings(train=0.7, valid=0.1))
    assert split.to_list() == ["train"] * train + ["valid"] * (seen - train) + ["test"] * (10 - seen)


@pytest.mark.parametrize(
    ("train", "valid", "num_train", "num_seen"), [(0.29, 0.0, 29, 29), (0.75, 0.05, 75, 80), (0.1, 0.2, 10, 30)]
)
def test_decimal_shares_lose_no_event(train: float, valid: float, num_train: int, num_seen: int) -> None:
    assert int(100 * 0.29) == 28  # what floats would do
    split = split_events(events(["u"] * 100), SplitSettings(train=train, valid=valid))
    assert (split == "train").sum() == num_train
    assert (split != "test").sum() == num_seen


def test_leave_one_out_takes_the_last_two_of_each_user() -> None:
    split = split_events(events(["a", "b", "a", "c", "a", "b"]), SplitSettings(protocol="leave_one_out"))
    assert split.to_list() == ["train", "train", "valid", "train", "test", "test"]


@limits(deadline=None)
@given(
    st.lists(st.sampled_from("abc"), max_size=60),
    st.integers(1, 100).flatmap(lambda t: st.tuples(st.just(t), st.integers(0, min(99, 100 - t)))),
    st.sampled_from(["global_time", "leave_one_out"]),
)
def test_each_event_has_one_split_and_time_runs_forward(
    users: list[str], percent: tuple[int, int], protocol: str
) -> None:
    settings = SplitSettings.model_validate(
        {"protocol": protocol, "train": percent[0] / 100, "valid": percent[1] / 100}
    )
    split = split_events(events(users), settings).to_list()
    order = {"train": 0, "valid": 1, "test": 2}
    assert len(split) == len(users)
    if protocol == "global_time":
        codes = [order[name] for name in split]
        assert codes == sorted(codes)
        assert codes.count(0) == len(users) * percent[0] // 100
        assert codes.count(2) == len(users) - int(len(users) * Fraction(sum(percent), 100))
    else:
        for user in set(users):
            own = [name for name, other in zip(split, users, strict=True) if other == user]
            assert own == ["train", *(["train"] * len(own) + ["valid", "test"])[-len(own) :][1:]]


def test_shares_beyond_one_are_refused() -> None:
    with pytest.raises(ValidationError, match=says("train", "0.8", "valid", "0.3", "exceed 1")):
        SplitSettings(train=0.8, valid=0.3)


def cold(protocol: str, ids: str, other: str, seed: int = 0, **shares: float) -> list[str | None]:
    """Splits of events of the users (items) `ids`, a letter each, on the items (users) `other`."""
    settings = SplitSettings.model_validate({"protocol": protocol, "train": 0.5, "valid": 0.25, **shares})
    columns = (list(ids), list(other)) if protocol == "user_cold_start" else (list(other), list(ids))
    return split_events(events(*columns), settings, seed).to_list()


def held_out(split: list[str | None], ids: str) -> tuple[set[str], set[str]]:
    """Who is held out for valid and for test, as far as the splits show."""
    return tuple({i for i, name in zip(ids, split, strict=True) if name == asked} for asked in ("valid", "test"))  # type: ignore[return-value]


def test_cold_user_is_new_in_the_test_period_and_seen_by_no_ranker_before() -> None:
    ids = "abcd" * 4  # 8 events of training, 4 of validation, 4 of the test period
    split = cold("user_cold_start", ids, ids, held_out=0.25)
    (valid,), (test,) = held_out(split, ids)
    assert valid != test
    for user in "abcd":
        own = [name for name, i in zip(split, ids, strict=True) if i == user]
        first = ["history"] * 2 if user in (valid, test) else ["train"] * 2
        assert own == [*first, "valid" if user == valid else "history", "test" if user == test else "history"]


def test_cold_item_is_nowhere_before_its_period() -> None:
    ids = "abcd" * 4
    split = cold("item_cold_start", ids, "uuuu" * 4, held_out=0.25)
    (valid,), (test,) = held_out(split, ids)
    assert valid != test
    for item in "abcd":
        own = [name for name, i in zip(split, ids, strict=True) if i == item]
        if item == test:
            assert own == [None, None, None, "test"]
        elif item == valid:
            assert own == [None, None, "valid", "history"]
        else:
            assert own == ["train", "train", "history", "history"]


def test_other_seed_holds_out_others_and_the_same_seed_the_same() -> None:
    ids = "abcdefghijklmnop" * 8
    splits = [cold("user_cold_start", ids, ids, seed) for seed in (1, 1, 2)]
    assert splits[0] == splits[1] != splits[2]


def test_share_counts_whole_ids_and_at_least_one() -> None:
    ids = "abcdefghij" * 10
    assert [len(found) for found in held_out(cold("user_cold_start", ids, ids, held_out=0.3), ids)] == [3, 3]
    assert [len(found) for found in held_out(cold("user_cold_start", ids, ids, held_out=0.01), ids)] == [1, 1]
    assert int(0.29 * 100) == 28  # what floats would do
    many = "".join(map(chr, range(200, 300))) * 4
    assert [len(found) for found in held_out(cold("user_cold_start", many, many, held_out=0.29), many)] == [29, 29]


def _cold_split(protocol: str, period: int, new_in: int) -> str | None:
    """The definition, for one event in a period at somebody who is new in another one."""
    if period == new_in:
        return SPLITS[period]
    return None if protocol == "item_cold_start" and period < new_in else "history"


@limits(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz")), max_size=60),
    st.integers(1, 100).flatmap(lambda t: st.tuples(st.just(t), st.integers(0, min(99, 100 - t)))),
    st.sampled_from(["user_cold_start", "item_cold_start"]),
    st.integers(1, 49),
    st.integers(0, 5),
)
def test_cold_start_agrees_with_its_definition(
    rows: list[tuple[str, str]], percent: tuple[int, int], protocol: str, percent_held: int, seed: int
) -> None:
    ids, other = "".join(row[0] for row in rows), "".join(row[1] for row in rows)
    shares = {"train": percent[0] / 100, "valid": percent[1] / 100}
    split = cold(protocol, ids, other, seed, held_out=percent_held / 100, **shares)
    global_time = split_events(events(list(ids)), SplitSettings.model_validate(shares)).to_list()
    valid, test = held_out(split, ids)
    distinct = set(ids)
    num = max(1, len(distinct) * percent_held // 100)
    assert not valid & test
    assert len(valid) <= num
    assert len(test) <= num
    new_in: dict[str, set[int]] = {i: {0, 1, 2} for i in distinct}  # what each one's splits leave open
    for i, name, period in zip(ids, split, map(SPLITS.index, global_time), strict=True):
        possible = {new for new in range(3) if name == _cold_split(protocol, period, new)}
        new_in[i] &= possible
    assert all(new_in.values()), "one id is said to be new in two periods"
    if protocol == "user_cold_start":
        assert None not in split
    for i in valid | test:
        assert "train" not in [name for name, j in zip(split, ids, strict=True) if j == i]


def test_prepared_cold_items_leave_no_trace_before_their_period(write: Write, run_prepare: Prepare) -> None:
    rows = [f"u{n % 3},{item},2024-01-{n + 1:02}T08:00Z" for n, item in enumerate("abcd" * 4)]
    visits = write("e.csv", "\n".join(["user_id,item_id,time", *rows]))
    split = {"protocol": "item_cold_start", "train": 0.5, "valid": 0.25, "held_out": 0.25}
    report, histories = run_prepare(events={"path": visits}, split=split)
    assert histories.items.height == 4
    assert histories.protocol == "item_cold_start"
    test = histories.events.filter(pl.col("split") == "test")["item_id"].unique().item()
    at_test = histories.events.filter(pl.col("item_id") == test)
    assert at_test["split"].to_list() == ["test"]
    assert histories.shared_N.all()
    lines = report.lines()
    assert ("events at held-out items before their period, left out", 5, "") in report.steps()
    assert any(line.startswith("history: 5 events") for line in lines)
    assert f"item_cold_start: {CAVEATS['item_cold_start']}" in lines
    assert sum(part["num_events"] for part in report.manifest["splits"].values()) == histories.events.height == 11


def test_history_of_held_out_users_counts_for_no_other(write: Write, run_prepare: Prepare) -> None:
    rows = [f"u{n % 4},{n % 3},2024-01-{n + 1:02}T08:00Z" for n in range(16)]
    visits = write("e.csv", "\n".join(["user_id,item_id,time", *rows]))
    split = {"protocol": "user_cold_start", "train": 0.5, "valid": 0.25, "held_out": 0.25}
    _, histories = run_prepare(events={"path": visits}, split=split)
    own = histories.events.select("user_id", "split").with_columns(shared=pl.Series(histories.shared_N))
    warm = own.filter(pl.col("split") == "train")["user_id"].unique()
    assert len(warm) == 2
    assert own.filter(pl.col("user_id").is_in(warm.implode()))["split"].unique().sort().to_list() == [
        "history",
        "train",
    ]
    assert own.filter(~pl.col("shared"))["user_id"].n_unique() == 2
    cold = ~pl.col("user_id").is_in(warm.implode()) & (pl.col("split") == "history")
    assert own.filter(pl.col("shared") == cold).height == 0


def test_leak_of_leave_one_out_is_said_and_the_default_has_nothing_to_say(visits: Path, run_prepare: Prepare) -> None:
    report, histories = run_prepare(events={"path": visits}, split={"protocol": "leave_one_out"})
    assert any("has seen events of other users that are later" in line for line in report.lines())
    assert histories.shared_N.all()
    report, _ = run_prepare(events={"path": visits})
    assert not any("global_time" in line or "history" in line for line in report.lines()[:-1])


def test_nothing_left_by_held_out_items_is_reported(write: Write, run_prepare: Prepare) -> None:
    visits = write("e.csv", "user_id,item_id,time\nann,park,2024-01-01T08:00Z\nbob,park,2024-01-02T08:00Z")
    with pytest.raises(DataError, match=says("none of 2 events")):
        run_prepare(events={"path": visits}, split={"protocol": "item_cold_start", "train": 1, "valid": 0})
