from collections.abc import Callable

import polars as pl
import pytest

from whereupon.errors import PromptError
from whereupon.prompts import context_frame

Events = Callable[..., pl.DataFrame]
NOON = "2024-01-03T12:00"


def _one(events: Events, time: str = NOON, **columns: object) -> dict[str, object]:
    """The variables of a single event."""
    typed = {name: pl.Series([value], dtype=pl.Float64 if value is None else None) for name, value in columns.items()}
    return context_frame(events([(0, time, 0)], **typed), "context").row(0, named=True)


@pytest.mark.parametrize(
    ("time", "weekday", "is_weekend", "hour", "hour12", "daypart"),
    [
        ("2024-01-01T00:00", "Monday", False, 0, 12, "night"),
        ("2024-01-02T05:59", "Tuesday", False, 5, 5, "night"),
        ("2024-01-03T06:00", "Wednesday", False, 6, 6, "morning"),
        ("2024-01-04T11:59", "Thursday", False, 11, 11, "morning"),
        ("2024-01-05T12:00", "Friday", False, 12, 12, "afternoon"),
        ("2024-01-06T17:30", "Saturday", True, 17, 5, "afternoon"),
        ("2024-01-07T18:00", "Sunday", True, 18, 6, "evening"),
        ("2024-01-07T23:59", "Sunday", True, 23, 11, "evening"),
    ],
)
def test_request_is_shown_in_words_of_its_local_time(
    events: Events, time: str, weekday: str, is_weekend: bool, hour: int, hour12: int, daypart: str
) -> None:
    expected = {"weekday": weekday, "is_weekend": is_weekend, "hour": hour, "hour12": hour12, "daypart": daypart}
    assert expected.items() <= _one(events, time).items()


@pytest.mark.parametrize(
    ("time", "day_of_month", "month", "season"),
    [
        ("2024-02-29T12:00", 29, "February", "winter"),
        ("2024-03-01T12:00", 1, "March", "spring"),
        ("2024-08-31T12:00", 31, "August", "summer"),
        ("2024-11-30T12:00", 30, "November", "autumn"),
        ("2024-12-01T12:00", 1, "December", "winter"),
    ],
)
def test_day_is_shown_with_month_and_season(
    events: Events, time: str, day_of_month: int, month: str, season: str
) -> None:
    assert {"day_of_month": day_of_month, "month": month, "season": season}.items() <= _one(events, time).items()


@pytest.mark.parametrize(
    ("celsius", "word"),
    [
        (-0.1, "freezing"), (0.0, "cold"), (7.9, "cold"), (8.0, "cool"), (14.9, "cool"), (15.0, "mild"),
        (20.9, "mild"), (21.0, "warm"), (26.9, "warm"), (27.0, "hot"), (40.0, "hot"),
    ],
)  # fmt: skip
def test_temperature_has_a_word_between_its_thresholds(events: Events, celsius: float, word: str) -> None:
    said = _one(events, temperature_c=celsius)
    assert (said["temperature_word"], said["weather"]) == (word, word)


@pytest.mark.parametrize(
    ("celsius", "rounded", "fahrenheit"), [(-3.4, -3, 26), (20.6, 21, 69), (37.0, 37, 99), (2.5, 2, 36), (3.5, 4, 38)]
)
def test_temperature_is_rounded_in_both_units(events: Events, celsius: float, rounded: int, fahrenheit: int) -> None:
    said = _one(events, temperature_c=celsius)
    assert (said["temperature_c"], said["temperature_f"]) == (rounded, fahrenheit)


def test_temperature_that_is_unknown_stays_so_beside_one_that_is_known(events: Events) -> None:
    frame = context_frame(events([(0, NOON, 0)] * 3, temperature_c=[2.5, None, -1.6]), "context")
    assert frame["temperature_c"].to_list() == [2, None, -2]
    assert frame["temperature_c"].dtype == pl.Int32


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ({"precipitation_mm": 0.2}, ""),
        ({"precipitation_mm": 0.3}, "rain"),
        ({"precipitation_mm": 0.3, "temperature_c": -0.1}, "snow"),
        ({"precipitation_mm": 0.3, "temperature_c": 0.0}, "rain"),
        ({"precipitation_mm": 0.3, "snowfall_cm": 0.0}, "rain"),
        ({"precipitation_mm": 0.0, "snowfall_cm": 0.1}, "snow"),
        ({"precipitation_mm": 5.0, "condition": "hail"}, "hail"),
    ],
)
def test_what_falls_has_a_word(events: Events, columns: dict[str, object], word: str) -> None:
    assert _one(events, **columns)["precipitation_word"] == word


def test_unknown_condition_leaves_the_word_to_the_measurements(events: Events) -> None:
    rows = [(0, NOON, 0), (0, NOON, 0)]
    frame = context_frame(events(rows, precipitation_mm=[5.0, 5.0], condition=["hail", None]), "context")
    assert frame["precipitation_word"].to_list() == ["hail", "rain"]


@pytest.mark.parametrize(("mps", "word"), [(7.9, ""), (8.0, "windy")])
def test_wind_has_a_word_from_its_threshold_on(events: Events, mps: float, word: str) -> None:
    assert _one(events, wind_mps=mps)["wind_word"] == word


def test_weather_joins_the_words_that_are_known(events: Events) -> None:
    assert _one(events, temperature_c=-5.0, snowfall_cm=1.0, wind_mps=9.0)["weather"] == "freezing snow windy"
    assert _one(events, temperature_c=None, precipitation_mm=1.0, wind_mps=None)["weather"] == "rain"


def test_no_weather_at_all_is_no_words_and_no_numbers(events: Events) -> None:
    said = _one(events)
    assert [said[name] for name in ("weather", "temperature_word", "precipitation_word", "wind_word")] == [""] * 4
    assert [said[name] for name in ("temperature_c", "temperature_f", "precipitation_mm", "wind_mps")] == [None] * 4


def test_place_is_offered_also_where_no_user_has_one(events: Events) -> None:
    assert _one(events)["place"] is None
    assert _one(events, place="Ohio")["place"] == "Ohio"


def test_days_are_counted_from_the_same_users_event_before(events: Events) -> None:
    rows = [(0, "2024-01-01T23:59", 0), (0, "2024-01-02T00:01", 0), (0, "2024-01-02T08:00", 0),
            (1, "2024-01-02T09:00", 0), (1, "2024-01-09T09:00", 0)]  # fmt: skip
    frame = context_frame(events(rows), "outcome")
    assert frame["days_since_previous"].to_list() == [None, 1, 0, None, 7]
    assert frame["new_day"].to_list() == [True, True, False, True, True]


def test_chosen_items_columns_are_never_offered(events: Events) -> None:
    frame = context_frame(events([(0, NOON, 0)], latitude=[1.0], longitude=[2.0], value=[5], title=["Bar"]), "outcome")
    hidden = {"user_id", "item_id", "user_idx", "item_idx", "title", "split", "value", "latitude", "longitude", "time"}
    assert not hidden & set(frame.columns)


def test_coordinates_known_beforehand_are_offered(events: Events) -> None:
    assert {"latitude", "longitude"} <= _one(events, latitude=1.0, longitude=2.0).keys()


def test_further_context_keeps_its_name(events: Events) -> None:
    assert {"origin": "EWR", "day": "holiday"}.items() <= _one(events, origin="EWR", day="holiday").items()


def test_further_context_named_like_a_computed_variable_is_refused(events: Events) -> None:
    with pytest.raises(PromptError, match=r"^The context column 'hour' is named like a variable .* prepare` again\.$"):
        _one(events, hour="rush")
