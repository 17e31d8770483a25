import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from whereupon.eval.slices import UNKNOWN, slices_of
from whereupon.histories import Histories
from whereupon.histories.distance import EARTH_RADIUS_KM

Build = Callable[[Sequence[tuple[int, int, int, str]], int], Histories]
A, B, C, D, E = range(5)
DAY = 86_400
KM = 180 / math.pi / EARTH_RADIUS_KM  # degrees of a kilometre on a meridian
ALWAYS = ["daypart", "week", "season", "activity", "user", "item", "popularity", "visit", "followed"]
EVALUATED = np.array([3, 6, 10, 12])  # of the town: Ann's B, Bob's C, Cyd's D, and Dan's A after his first event


def _values(histories: Histories, name: str, row_E: np.ndarray = EVALUATED) -> list[str]:
    return slices_of(histories, "test", row_E)[name].to_list()


def _with(histories: Histories, **columns: list[object]) -> Histories:
    """With further columns of all events."""
    added = [pl.Series(name, one, strict=False) for name, one in columns.items()]
    return replace(histories, events=histories.events.with_columns(added))


def test_data_without_weather_and_places_has_no_such_slices(town: Histories) -> None:
    assert slices_of(town, "test", EVALUATED).columns == ALWAYS


def test_weather_that_is_nowhere_known_gives_no_slice(town: Histories) -> None:
    nothing = _with(town, temperature_c=[None] * 13, precipitation_mm=pl.Series([None] * 13, dtype=pl.Float64))
    assert slices_of(nothing, "test", EVALUATED).columns == ALWAYS


def test_time_slices_go_by_the_local_hour_day_and_month(build: Build) -> None:
    """1 January 1970 was a Thursday."""
    times = [0, 5 * 3600, 6 * 3600, 2 * DAY + 12 * 3600, 4 * DAY + 23 * 3600, 70 * DAY, 170 * DAY, 300 * DAY]
    histories = build([(0, A, time, "test") for time in times], 1)
    row_E = np.arange(1, len(times))
    night, morning, afternoon, evening = "night", "morning", "afternoon", "evening"
    assert _values(histories, "daypart", row_E) == [night, morning, afternoon, evening, night, night, night]
    assert _values(histories, "week", row_E)[:4] == ["weekday", "weekday", "weekend", "weekday"]
    assert _values(histories, "season", row_E) == [*["winter"] * 4, "spring", "summer", "autumn"]


def test_visits_users_and_items_of_the_town(town: Histories) -> None:
    assert _values(town, "visit") == ["repeat", "repeat", "first", "first"]
    assert _values(town, "user") == ["known", "known", "known", "new"], "Dan has no event in train"
    assert _values(town, "item") == ["known", "known", "new", "known"], "nobody was at D before"
    assert _values(town, "activity") == ["1 to 4"] * 4


def test_followed_is_whether_anybody_went_from_the_last_item_there_in_train(build: Build) -> None:
    """In train, user 0 went from A to B; from B to C only on the way to validation. User 1 went from C to A in test."""
    rows = [(0, A, 1, "train"), (0, B, 2, "train"), (0, C, 3, "valid"), (0, D, 4, "test"),
            (1, C, 1, "train"), (1, A, 5, "test"), (1, B, 6, "test"), (1, C, 7, "test"), (2, B, 8, "test")]  # fmt: skip
    row_E = np.array([3, 5, 6, 7, 8])
    assert _values(build(rows, 5), "followed", row_E) == ["no", "no", "yes", "no", UNKNOWN]


def test_move_from_one_user_to_the_next_is_none(build: Build) -> None:
    rows = [(0, A, 1, "train"), (1, B, 2, "train"), (2, A, 3, "train"), (2, B, 4, "test")]
    assert _values(build(rows, 3), "followed", np.array([3])) == ["no"]


def test_item_that_others_reach_at_the_same_second_is_new_to_both(build: Build) -> None:
    rows = [(0, A, 1, "train"), (0, B, 5, "test"), (1, A, 2, "train"), (1, B, 5, "test"), (1, B, 6, "test")]
    assert _values(build(rows, 2), "item", np.array([1, 3, 4])) == ["new", "new", "known"]


def test_item_that_only_others_had_from_which_nothing_may_be_learnt_is_new(build: Build) -> None:
    rows = [(0, A, 1, "train"), (0, B, 9, "test"), (1, B, 2, "history"), (1, B, 9, "test")]
    open_to_all = build(rows, 2)
    assert _values(open_to_all, "item", np.array([1, 3])) == ["known", "known"]
    cold = replace(
        open_to_all, manifest={**open_to_all.manifest, "settings": {"split": {"protocol": "user_cold_start"}}}
    )
    assert _values(cold, "item", np.array([1, 3])) == ["new", "known"], "user 1 was there, and may know"


def test_activity_is_the_number_of_earlier_events_in_bands(build: Build) -> None:
    histories = build([(0, A, time, "test") for time in range(101)], 1)
    row_E = np.array([0, 1, 4, 5, 9, 10, 19, 20, 49, 50, 99, 100])
    assert _values(histories, "activity", row_E) == [
        "0", "1 to 4", "1 to 4", "5 to 9", "5 to 9", "10 to 19", "10 to 19", "20 to 49", "20 to 49", "50 to 99",
        "50 to 99", "100 and more",
    ]  # fmt: skip


def test_popularity_is_by_thirds_of_earlier_events_and_never_parts_equals(build: Build) -> None:
    """12 events: A 4, B 3, C 3, D 1, E 1, item 5 none. B begins at 4 of 12, E's equals at 10 of 12."""
    counts = {A: 4, B: 3, C: 3, D: 1, E: 1}
    train = [(0, item, 1, "train") for item, count in counts.items() for _ in range(count)]
    histories = build([*train, *((0, item, 9, "test") for item in range(6)), (0, 5, 10, "test")], 6)
    assert _values(histories, "popularity", np.arange(12, 19)) == [
        "head", "torso", "torso", "tail", "tail", "unseen", "unseen",
    ]  # fmt: skip


def test_distance_is_from_the_last_item_to_the_true_one(town: Histories) -> None:
    """Ann went from A to B, Bob from C to C, Cyd from C to D, Dan from C to A."""
    places = [0.0, 0.05 * KM, 2 * KM, None, 0.0]
    located = replace(
        town, items=town.items.with_columns(latitude=pl.Series(places), longitude=pl.Series([0.0] * 5))
    )  # fmt: skip
    assert _values(located, "distance") == ["below 0.1 km", "below 0.1 km", UNKNOWN, "1 to 5 km"]


def test_first_event_of_a_user_is_at_no_distance(build: Build) -> None:
    histories = build([(0, A, 1, "test"), (1, A, 2, "test"), (1, A, 3, "test")], 1)
    located = replace(histories, items=histories.items.with_columns(latitude=pl.lit(1.0), longitude=pl.lit(2.0)))
    assert _values(located, "distance", np.arange(3)) == [UNKNOWN, UNKNOWN, "below 0.1 km"]


def test_coordinates_of_events_stand_in_for_those_of_items_only_where_they_are_the_items(town: Histories) -> None:
    moving = _with(town, latitude=[row * 10 * KM for row in range(13)], longitude=[0.0] * 13)
    assert _values(moving, "distance") == ["5 to 20 km"] * 4
    assert "distance" not in slices_of(replace(moving, location="context"), "test", EVALUATED).columns


def test_weather_of_hand_derived_events(town: Histories) -> None:
    """Looked at in rows 3, 6, 10 and 12; the others only lend their length."""
    filled = [0.0] * 13
    rain, snow, celsius, wind = (list(filled) for _ in range(4))
    rain[3], rain[6], rain[10], rain[12] = 0.2, 0.3, None, None  # type: ignore[call-overload]
    snow[3], snow[6], snow[10], snow[12] = 0.0, None, 1.0, None  # type: ignore[call-overload]
    celsius[3], celsius[6], celsius[10], celsius[12] = -0.1, 0.0, 27.0, None  # type: ignore[call-overload]
    wind[3], wind[6], wind[10], wind[12] = 7.9, 8.0, 20.0, None  # type: ignore[call-overload]
    weather = _with(town, precipitation_mm=rain, snowfall_cm=snow, temperature_c=celsius, wind_mps=wind)
    assert _values(weather, "weather") == ["dry", "wet", "wet", UNKNOWN]
    bands = ["freezing (below 0 °C)", "cold (0 to 8 °C)", "hot (27 °C and more)", UNKNOWN]
    assert _values(weather, "temperature") == bands
    assert _values(weather, "wind") == ["calm", "windy", "windy", UNKNOWN]


def test_commonest_conditions_are_values_and_the_rest_is_other(build: Build) -> None:
    names = [*"aabbcdefghij", None]
    histories = build([(0, A, time, "test") for time in range(13)], 1)
    found = slices_of(_with(histories, condition=names), "test", np.arange(13))["condition"]
    assert found.to_list() == [*"aabbcdefgh", "other", "other", UNKNOWN]
    few = slices_of(_with(histories, condition=["rain"] * 13), "test", np.arange(13))["condition"]
    assert few.dtype == pl.Enum(["rain", UNKNOWN])


def test_condition_called_unknown_or_other_is_as_the_slice_has_it(build: Build) -> None:
    histories = build([(0, A, time, "test") for time in range(5)], 1)
    named = ["rain", "other", "unknown", None, "other"]
    found = slices_of(_with(histories, condition=named), "test", np.arange(5))["condition"]
    assert found.to_list() == ["rain", "other", UNKNOWN, UNKNOWN, "other"]
    nothing = slices_of(_with(histories, condition=["unknown"] * 5), "test", np.arange(5))["condition"]
    assert nothing.to_list() == [UNKNOWN] * 5
