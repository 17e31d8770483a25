"""Features of the own history, each against a plain count, and an attention that leaves users out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from whereupon.histories import Histories
from whereupon.rankers import gate, own_features, returns
from whereupon.rankers.counting import visits_of
from whereupon.rankers.places import density
from whereupon.rankers.returns import Returns, event_data, fit_halves, fit_returns

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]
HOUR, DAY = 3600, 86_400
MONDAY = 4 * DAY  # 5 January 1970


def placed(histories: Histories) -> Histories:
    """Items in a street, 10 km apart."""
    at = pl.int_range(pl.len()).cast(pl.Float64)
    return replace(histories, items=histories.items.with_columns(latitude=40 + at * 0.0899322, longitude=pl.lit(-74.0)))


def asked(histories: Histories, kind_I: NDArray[np.int64] | None = None) -> dict[str, dict[int, float]]:
    """The features of the last row, by name and item."""
    row_Q = np.array([len(histories.time_s_N) - 1])
    data = event_data(histories)
    item_C = np.unique(data.item_N[data.pairs(row_Q)[1]])
    found_CL = own_features.own_features(data, kind_I, row_Q, np.zeros(len(item_C), np.int64), item_C)
    items = item_C.tolist()
    return {name: dict(zip(items, found_CL[:, at].tolist(), strict=True)) for at, name in enumerate(own_features.NAMES)}


@pytest.fixture(name="week")
def _week(build: Build) -> Histories:
    """Item 0 at nine on five mornings, item 1 once in the evening; the query is of the next Monday at nine."""
    mornings = [(0, 0, MONDAY + day * DAY + 9 * HOUR, "train") for day in range(5)]
    return build(
        [*mornings, (0, 1, MONDAY + 4 * DAY + 19 * HOUR, "train"), (0, 2, MONDAY + 7 * DAY + 9 * HOUR, "test")], 3
    )


def test_ages_and_the_regular_gap_of_an_item(week: Histories) -> None:
    found = asked(week)
    assert found["days since last"] == pytest.approx({0: 3.0, 1: 2 + 14 / 24}, abs=1e-3)
    assert found["days since third last"] == {0: 5.0, 1: 300.0}
    assert found["overdue"] == {0: 3.0, 1: -1.0}  # once a day, three days ago


def test_sums_fade_by_age_and_by_the_time_of_day(week: Histories) -> None:
    found = asked(week)
    ages = np.array([7, 6, 5, 4, 3])
    assert found["own 3 days"][0] == pytest.approx((0.5 ** (ages / 3)).sum(), abs=1e-3)
    assert found["own 14 days"][0] == pytest.approx((0.5 ** (ages / 14)).sum(), abs=1e-3)
    assert found["own by clock 60 days"][0] == pytest.approx((0.5 ** (ages / 60)).sum(), abs=1e-3)
    assert found["own by clock and weekday lately"][0] == pytest.approx(0.5 ** (7 / 60), abs=1e-3)
    assert found["own by clock of kind"] == pytest.approx({0: 5.0, 1: 0.0}, abs=1e-3)  # ten hours are far apart


def test_shares_add_up_to_one_and_categories_are_summed(week: Histories) -> None:
    found = asked(week, np.array([1, 1, 0]))
    for name in ("share by clock of kind", "share by clock narrow"):
        assert sum(found[name].values()) == pytest.approx(1.0, abs=2e-3)
        assert found[name][0] > 0.98
    assert found["category by clock"] == {0: 1.0, 1: 1.0}
    assert all(np.isnan(share) for share in asked(week)["category by clock"].values())


def test_speed_is_of_the_way_from_the_last_place_in_the_time_since(build: Build) -> None:
    histories = placed(build([(0, 1, 0, "train"), (0, 0, DAY, "train"), (0, 2, DAY + 2 * HOUR, "test")], 3))
    assert asked(histories)["km per hour"] == pytest.approx({0: 0.0, 1: 5.0}, abs=0.01)
    nowhere = replace(histories, items=histories.items.drop("latitude", "longitude"))
    assert all(np.isnan(speed) for speed in asked(nowhere)["km per hour"].values())


def test_weekend_counts_little_for_a_weekday(build: Build) -> None:
    saturday, monday = MONDAY + 5 * DAY + 9 * HOUR, MONDAY + 7 * DAY + 9 * HOUR
    found = asked(build([(0, 0, saturday, "train"), (0, 1, monday, "test")], 2))
    assert found["own by clock of kind"][0] == 0.0
    assert found["own by clock 60 days"][0] == pytest.approx(0.3 * 0.5 ** (2 / 60), abs=1e-3)


def _rows(num_users: int, altered: frozenset[int] = frozenset()) -> list[Row]:
    """Two items in turn; altered users always choose the same one."""
    return [
        (user, 2 * user + (0 if user in altered else day % 2), day * DAY + user, "train" if day < 15 else "test")
        for user in range(num_users)
        for day in range(16)
    ]


def _learnt(one: Returns) -> list[Any]:
    return [value.tolist() for value in one.arrays().values()]


def test_halves_leave_out_every_user_once(build: Build) -> None:
    histories = build(_rows(6), 12)
    row_Q = np.arange(len(histories.time_s_N))
    parts = fit_halves(histories, "test", 3).parts(histories, row_Q)
    assert sorted(np.concatenate([at_P for _, at_P in parts]).tolist()) == row_Q.tolist()
    users = [set(histories.user_idx_N[at_P].tolist()) for _, at_P in parts]
    assert len(users[0]) == len(users[1]) == 3
    assert not users[0] & users[1]


def test_fit_that_leaves_users_out_knows_nothing_of_them(build: Build) -> None:
    histories = build(_rows(6), 12)
    halves = fit_halves(histories, "test", 3)
    second = frozenset(user for user, user_id in enumerate(histories.user_ids) if user_id in halves.second)
    other = fit_halves(build(_rows(6, second), 12), "test", 3)
    assert other.second == halves.second
    assert _learnt(other.returns[1]) == _learnt(halves.returns[1])
    assert _learnt(other.returns[0]) != _learnt(halves.returns[0])


def test_single_user_is_left_out_by_none(build: Build) -> None:
    histories = build(_rows(1), 2)
    whole = fit_returns(histories, "test", 3)
    assert fit_halves(histories, "test", 3).returns == (whole, whole)


def test_density_is_greater_where_more_items_are_and_zero_where_the_place_is_unknown(build: Build) -> None:
    items = pl.DataFrame({"latitude": [40.0, 40.0001, 40.0002, 41.0, None], "longitude": [-74.0] * 4 + [None]})
    histories = build([(0, 0, 0, "train")], 5)
    place_I3 = event_data(replace(histories, items=histories.items.with_columns(items))).place_I3
    assert place_I3 is not None
    found = density(place_I3, place_I3)
    assert found[1] > found[3] > 0
    assert found[3] == pytest.approx(np.log(2), abs=1e-3)  # itself alone
    assert found[4] == 0
    assert density(place_I3[3:4], place_I3).tolist() == found[3:4].tolist()


def test_gate_sees_how_even_the_past_is_and_how_well_the_place_is_known(build: Build) -> None:
    rows = [(0, item, at * HOUR, "train") for at, item in enumerate((0, 1, 0, 1))]
    histories = placed(build([*rows, (0, 2, 5 * HOUR, "test")], 3))
    even = Returns(np.zeros(sum(returns.SIZES)), np.zeros((sum(returns.SIZES), 1)), np.zeros(1))
    data, visits = event_data(histories), visits_of(histories)
    past = gate._Past.of(data, even, np.array([4]), gate._is_new(visits).astype(np.float64))
    entropy, _, short, long, new, followed, near, _ = (one[0] for one in past.of_routine())
    assert entropy == pytest.approx(np.log(2), abs=1e-6)
    assert (short, long) == (np.log1p(1), np.log1p(4))  # one within three hours, all within a week
    assert new == 0  # the last hours had nothing new
    assert followed == np.log1p(1)  # item 0 after item 1
    assert near == pytest.approx(np.sqrt(0.5))  # half of the events are where the user is
