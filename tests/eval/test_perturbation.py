"""Another future differs from that time on, and the past stays what it was."""

from collections.abc import Callable
from datetime import datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.eval.perturbation import Perturbed, later_events, perturbed_after, perturbed_events
from whereupon.histories import Histories

Build = Callable[..., Histories]
A, B, C, D, E = range(5)


def test_later_are_own_rows_behind_and_whatever_of_others_is_not_earlier(town: Histories) -> None:
    # Ann A1 B2 A3 B20 | Bob B4 C5 C21 | Cyd A6 B7 C8 D22 | Dan C23 A24
    assert np.flatnonzero(later_events(town, 5)).tolist() == [3, 6, 7, 8, 9, 10, 11, 12]  # Bob's C at 5
    assert np.flatnonzero(later_events(town, 12)).tolist() == []  # the last event of all


def test_equal_times_of_others_are_later_and_own_ones_by_their_order(build: Build) -> None:
    histories = build(
        [(0, A, 5, "test"), (0, B, 5, "test"), (0, C, 5, "test"), (1, A, 4, "test"), (1, A, 5, "test")], 3
    )
    assert later_events(histories, 1).tolist() == [False, False, True, False, True]


def test_deleted_future_leaves_no_event_and_every_user(town: Histories) -> None:
    perturbed = perturbed_after(town, 5, E, "deleted", seed=0)
    histories = perturbed.histories
    assert histories.events.select("user_id", "item_id").rows() == [
        ("user-0", "item-0"), ("user-0", "item-1"), ("user-0", "item-0"), ("user-1", "item-1"), ("user-1", "item-4"),
    ]  # fmt: skip
    assert (perturbed.num, perturbed.row_N.tolist()) == (8, [0, 1, 2, -1, 3, 4, -1, -1, -1, -1, -1, -1, -1])
    assert histories.user_ids == town.user_ids
    assert histories.offset_U1.tolist() == [0, 3, 5, 5, 5]
    assert histories.data_hash != town.data_hash


def test_changed_future_is_at_that_time_or_later(town: Histories) -> None:
    perturbed = perturbed_after(town, 5, E, "changed", seed=0)
    assert perturbed.num == 8
    assert perturbed.row_N.tolist() == list(range(13))
    changed = later_events(town, 5)
    assert (perturbed.histories.time_s_N[changed] >= 5).all()
    assert (perturbed.histories.time_s_N[changed] == 5).any()
    assert (perturbed.histories.item_idx_N[changed] != town.item_idx_N[changed]).any()
    other = perturbed_after(town, 5, E, "changed", seed=1)
    assert (other.histories.item_idx_N != perturbed.histories.item_idx_N).any()


@pytest.mark.parametrize(("location", "latitude"), [("outcome", None), ("context", 41.0)])
def test_what_follows_from_the_choice_is_unknown_and_what_was_known_stays(
    build: Build, location: str, latitude: float | None
) -> None:
    histories = build([(0, A, 1, "train"), (0, B, 2, "test")], 2)
    further = {"latitude": [40.0, 41.0], "longitude": [1.0, 2.0], "value": [5.0, 3.0], "temperature_c": [1.0, 2.0]}
    histories = Histories(**{
        **{name: getattr(histories, name) for name in histories.__dataclass_fields__}, "location": location,
        "events": histories.events.with_columns(pl.Series(name, values) for name, values in further.items()),
    })  # fmt: skip
    event = perturbed_after(histories, 1, A, "changed", seed=0).histories.events.row(1, named=True)
    assert (event["item_id"], event["value"], event["temperature_c"]) == ("item-0", None, 2.0)
    assert event["latitude"] == latitude


def test_some_events_altered_keep_their_times_and_all_others_stay(town: Histories) -> None:
    perturbed = perturbed_events(town, town.split_N == 2, seed=0)
    train = town.split_N == 0
    assert perturbed.num == 5
    assert perturbed.histories.events.filter(train).equals(town.events.filter(train))
    assert (perturbed.histories.time_s_N == town.time_s_N).all()
    assert (perturbed.histories.item_idx_N[~train] != town.item_idx_N[~train]).any()


Rows = list[tuple[int, int, int, str]]
histories_rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 6), st.sampled_from(["train", "test", "history"])),
    min_size=1,
    max_size=14,
)


@settings(deadline=None, max_examples=60)
@given(
    histories_rows, st.integers(0, 13), st.integers(0, 3), st.sampled_from(["changed", "deleted"]), st.integers(0, 9)
)
def test_past_is_untouched_and_the_order_holds(
    build: Build, rows: Rows, row: int, item: int, variant: str, seed: int
) -> None:
    histories = build(rows, 4)
    row %= len(rows)
    perturbed: Perturbed = perturbed_after(histories, row, item, variant, seed)  # type: ignore[arg-type]
    events, now = histories.events, perturbed.histories
    user, time = events["user_idx"][row], events["time"][row]
    naive = [
        i > row if other == user else at >= time for i, (other, at) in enumerate(events["user_idx", "time"].iter_rows())
    ]
    assert later_events(histories, row).tolist() == naive
    past = [i for i in range(len(rows)) if not naive[i] and i != row]
    assert now.events[perturbed.row_N[past].tolist()].equals(events[past])
    asked = now.events.row(int(perturbed.row_N[row]), named=True)
    assert asked == {**events.row(row, named=True), "item_idx": item, "item_id": f"item-{item}"}
    assert now.events.select("user_idx", "time").rows() == sorted(now.events.select("user_idx", "time").rows())
    later = [i for i in range(len(rows)) if naive[i]]
    if variant == "deleted":
        assert (perturbed.row_N[later] == -1).all()
        assert now.events.height == len(rows) - len(later)
    else:
        assert all(now.events["time"][i] >= time for i in later)
        shift = now.events["local_time"] - now.events["time"].dt.replace_time_zone(None)
        assert (shift == datetime(2024, 1, 1) - datetime(2024, 1, 1)).all()
    for u in range(len(histories.user_ids)):
        part = now.events[int(now.offset_U1[u]) : int(now.offset_U1[u + 1])]
        assert (part["user_id"] == histories.user_ids[u]).all()
    assert now.events["item_idx"].to_list() == now.item_idx_N.tolist()
    assert now.events["item_id"].to_list() == [f"item-{i}" for i in now.item_idx_N]
