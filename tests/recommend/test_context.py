from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from whereupon.errors import DataError, PromptError
from whereupon.histories import Histories
from whereupon.prompts import context_frame
from whereupon.recommend.context import RequestContext, check_context, parse_weather
from whereupon.tests.recommend.questions import question

MakeHistories = Callable[..., Histories]

FIRST = {"user": "Ada", "at": "2013-01-01T08:00", "item": 0, "origin": "EWR", "carrier": "UA",
         "temperature_c": 4.0, "precipitation_mm": 0.0}  # fmt: skip
SECOND = FIRST | {"at": "2013-01-01T19:00", "item": 1, "origin": "JFK", "carrier": "B6", "precipitation_mm": 3.0}
THIRD = FIRST | {"at": "2013-01-03T10:00", "item": 2, "carrier": "DL", "temperature_c": -2.0}
OTHERS = [FIRST | {"user": "Bo", "origin": "JFK", "carrier": "DL"}, FIRST | {"user": "Bo", "at": "2013-01-02T08:00"}]


@pytest.fixture
def travels(make_histories: MakeHistories) -> Histories:
    """Ada's three flights and Bo's two; either airport has flights of several carriers."""
    return make_histories([FIRST, SECOND, THIRD, *OTHERS])


def _query(histories: Histories, user: str = "Ada", **context: Any) -> dict[str, Any]:
    return question(histories, user, RequestContext(**context)).row(-1, named=True)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("snow, -3 C", {"temperature_c": -3.0, "snowfall_cm": 2.0, "precipitation_mm": 2.0}),
        ("−3°C", {"temperature_c": -3.0}),  # noqa: RUF001  # a true minus
        ("50 F", {"temperature_c": 10.0}),
        ("14F rainy windy", {"temperature_c": -10.0, "snowfall_cm": 0.0, "precipitation_mm": 4.0, "wind_mps": 10.0}),
        ("SUNNY 21.5c", {"temperature_c": 21.5, "snowfall_cm": 0.0, "precipitation_mm": 0.0}),
        ("windy, clear", {"wind_mps": 10.0, "snowfall_cm": 0.0, "precipitation_mm": 0.0}),
        ("clear; windy", {"wind_mps": 10.0, "snowfall_cm": 0.0, "precipitation_mm": 0.0}),
        ("stormy", {"wind_mps": 15.0}),
        ("calm/dry", {"wind_mps": 1.0, "snowfall_cm": 0.0, "precipitation_mm": 0.0}),
    ],
)
def test_weather_in_words_becomes_columns(text: str, values: dict[str, float]) -> None:
    assert parse_weather(text) == pytest.approx(values)


@pytest.mark.parametrize(
    ("text", "word"), [("snoww, hail", "hail"), ("cold", "cold"), ("snow, -3", "-3"), ("3 K", "3"), ("3 C 5 C", "5")]
)
def test_word_that_is_unknown_is_shown_with_those_known(text: str, word: str) -> None:
    with pytest.raises(
        PromptError, match=rf"has the word '{word}'; expected a temperature such as '-3 C' .* snow, rain"
    ):
        parse_weather(text)


def test_weather_that_says_nothing_is_refused() -> None:
    with pytest.raises(PromptError, match="says nothing; expected for example"):
        parse_weather(" , ")


@pytest.mark.parametrize(
    ("versus", "expected"),
    [
        ("rain, 3 C", RequestContext("2013-01-01T08:00", "rain, 3 C", "1,2")),
        ("2013-01-05T20:00", RequestContext("2013-01-05T20:00", "snow", "1,2")),
        ("40.6,-73.8", RequestContext("2013-01-01T08:00", "snow", "40.6,-73.8")),
        (" 40.6, -73.8 ; rain ;; 2013-01-05 ", RequestContext("2013-01-05", "rain", "40.6, -73.8")),
        ("", RequestContext("2013-01-01T08:00", "snow", "1,2")),
    ],
)
def test_versus_replaces_the_pieces_that_it_names(versus: str, expected: RequestContext) -> None:
    assert RequestContext("2013-01-01T08:00", "snow", "1,2").versus(versus) == expected


def test_request_is_shown_by_what_it_says() -> None:
    assert str(RequestContext(at="2013-01-01", weather="snow")) == "2013-01-01, snow"
    assert str(RequestContext()) == "right after the last event"


def test_question_without_a_time_stands_right_after_the_last_event(travels: Histories) -> None:
    events = question(travels, "Ada", RequestContext())
    assert events["item_idx"].to_list() == [0, 1, 2, -1]
    assert events["user_idx"].to_list() == [0, 0, 0, 0]
    assert events[-1].drop("item_idx").equals(events[-2].drop("item_idx"))


@pytest.mark.parametrize(
    ("at", "said"),
    [("2013-01-01T08:01", [0]), ("2013-01-01T19:00", [0]), ("2013-01-01T19:00:01", [0, 1]), ("2014-01-01", [0, 1, 2])],
)
def test_question_knows_the_events_before_its_time_only(travels: Histories, at: str, said: list[int]) -> None:
    assert question(travels, "Ada", RequestContext(at=at))["item_idx"].to_list() == [*said, -1]


def test_question_keeps_local_and_universal_time_apart(travels: Histories) -> None:
    row = _query(travels, at="2013-01-04T09:30")
    assert row["local_time"].isoformat() == "2013-01-04T09:30:00"
    assert row["time"].isoformat() == "2013-01-04T14:30:00+00:00"


@pytest.mark.parametrize("at", ["2013-01-04T14:30Z", "2013-01-04T15:30+01:00", "2013-01-04T09:30-05:00"])
def test_time_with_an_offset_is_converted_to_the_users_clock(travels: Histories, at: str) -> None:
    assert _query(travels, at=at)["local_time"].isoformat() == "2013-01-04T09:30:00"


def test_time_with_an_offset_goes_by_the_clock_of_then(travels: Histories) -> None:
    # Ada flies on to a place three hours further west; a question about the days before still goes by the old clock.
    west = pl.when(pl.col("local_time") > pl.datetime(2013, 1, 2)).then(3).otherwise(0)
    later = pl.col("local_time") - pl.duration(hours=west)
    moved = Histories(
        travels.events.with_columns(later), *(getattr(travels, name) for name in list(travels.__dataclass_fields__)[1:])
    )
    assert _query(moved, at="2013-01-02T10:00Z")["local_time"].isoformat() == "2013-01-02T05:00:00"
    assert _query(moved, at="2013-01-09T10:00Z")["local_time"].isoformat() == "2013-01-09T02:00:00"


def test_unknown_user_is_shown_the_nearest(travels: Histories) -> None:
    with pytest.raises(DataError, match="no user 'Adda' among 2; did you mean Ada"):
        question(travels, "Adda", RequestContext())


@pytest.mark.parametrize("at", ["2013-01-01T08:00", "2012-12-31", "2013-01-01T12:00Z"])
def test_time_before_the_first_event_is_refused(travels: Histories, at: str) -> None:
    with pytest.raises(DataError, match=r"^User Ada has no event before .*: the first one is at 2013-01-01 08:00:00"):
        question(travels, "Ada", RequestContext(at=at))


@pytest.mark.parametrize("at", ["tomorrow", "2013-13-01", "19:00"])
def test_time_that_cannot_be_read_is_refused(travels: Histories, at: str) -> None:
    with pytest.raises(PromptError, match="cannot be read; expected ISO 8601, such as 2013-01-26T19:00"):
        question(travels, "Ada", RequestContext(at=at))


@pytest.mark.parametrize(("at", "celsius"), [("2013-01-04T09:59", -2.0), ("2013-01-04T10:00", None)])
def test_weather_is_that_of_the_last_event_for_less_than_a_day(
    travels: Histories, at: str, celsius: float | None
) -> None:
    row = _query(travels, at=at)
    assert (row["temperature_c"], row["carrier"]) == (celsius, "DL")


def test_weather_said_aloud_leaves_nothing_of_the_old_one(travels: Histories) -> None:
    row = _query(travels, weather="rain")
    assert (row["temperature_c"], row["precipitation_mm"], row["origin"]) == (None, 4.0, "EWR")


def test_snow_said_aloud_is_shown_as_snow_where_the_data_know_only_rain(travels: Histories) -> None:
    query = question(travels, "Ada", RequestContext(weather="snow, 5 C windy"))
    plain = question(travels, "Ada", RequestContext())
    assert context_frame(query, "context")["weather"].to_list()[-1] == "cold snow windy"
    assert context_frame(query, "context")[:-1]["weather"].equals(context_frame(plain, "context")[:-1]["weather"])


def test_weather_where_the_events_have_none_is_refused(make_histories: MakeHistories) -> None:
    dry = make_histories([{"user": "Ada", "at": "2013-01-01T08:00", "item": 0}])
    with pytest.raises(PromptError, match=r"have no weather, .* leave the weather out"):
        question(dry, "Ada", RequestContext(weather="rain"))


@pytest.mark.parametrize(("place", "origin"), [("40.6,-73.7", "JFK"), ("40.7,-74.2", "EWR"), ("40.64, 300", None)])
def test_place_brings_the_context_that_belongs_to_the_nearest_one(
    travels: Histories, place: str, origin: str | None
) -> None:
    if origin is None:
        with pytest.raises(PromptError, match="expected LAT,LON in degrees"):
            question(travels, "Ada", RequestContext(place=place))
        return
    row = _query(travels, place=place)
    assert (row["origin"], row["carrier"]) == (origin, "DL")  # carriers change at either airport, so hers stays
    assert f"{row['latitude']},{row['longitude']}" == place


def test_place_where_all_fly_one_carrier_brings_the_carrier_too(make_histories: MakeHistories) -> None:
    travels = make_histories([FIRST, SECOND])
    assert _query(travels, place="40.7,-74.2")["carrier"] == "UA"


def test_nearest_place_is_found_across_the_date_line(make_histories: MakeHistories) -> None:
    travels = make_histories([FIRST, SECOND])
    east = pl.when(pl.col("origin") == "EWR").then(179.5).otherwise(-170.0)
    moved = Histories(
        travels.events.with_columns(longitude=east),
        *(getattr(travels, name) for name in list(travels.__dataclass_fields__)[1:]),
    )
    assert _query(moved, place="40.7,-179.5")["origin"] == "EWR"


@pytest.mark.parametrize("place", ["91,0", "0,181", "JFK", "40.6", "40.6 -73.7"])
def test_place_that_cannot_be_read_is_refused(travels: Histories, place: str) -> None:
    with pytest.raises(PromptError, match=r"cannot be read; expected LAT,LON in degrees, such as 40\.64,-73\.78"):
        question(travels, "Ada", RequestContext(place=place))


def test_place_is_refused_where_coordinates_are_those_of_the_choice(make_histories: MakeHistories) -> None:
    with pytest.raises(PromptError, match=r"coordinates are those of the chosen items.* leave the place out"):
        question(make_histories([FIRST], location="outcome"), "Ada", RequestContext(place="40.6,-73.7"))


def test_place_where_no_event_has_one_is_refused(make_histories: MakeHistories) -> None:
    nowhere = make_histories([{"user": "Ada", "at": "2013-01-01T08:00", "item": 0}])
    with pytest.raises(DataError, match="No event has coordinates"):
        question(nowhere, "Ada", RequestContext(place="40.6,-73.7"))


def test_weather_is_refused_where_prompts_leave_it_out_and_a_place_is_not() -> None:
    for context in (RequestContext(at="2013-01-01T08:00", place="40.64,-73.78"), RequestContext()):
        check_context(context, ["time", "place", "weather"])
    check_context(RequestContext(weather="rain"), ["time", "place"])
    with pytest.raises(PromptError, match=r"^prompts\.leave_out names weather, .*: leave the weather out\.$"):
        check_context(RequestContext(weather="rain"), ["weather"])
