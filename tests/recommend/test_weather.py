"""The weather of a later time is a forecast where that is wanted, and the prompt says so."""

from collections.abc import Callable
from datetime import UTC, datetime

import polars as pl
import pytest

from whereupon.config import Config
from whereupon.errors import DataError
from whereupon.prompts.context import context_frame
from whereupon.prompts.features import Features
from whereupon.recommend import Recommender, Request, RequestContext

pytest.importorskip("statsforecast", reason="forecasts need statsforecast: pip install 'whereupon[forecast]'")
LATER = "2024-01-14T12:00"  # two days after the last event, so that its weather is unknown otherwise


def last_line(config: Config, context: RequestContext) -> str:
    """The last line of the prompt for p00."""
    with Recommender.load(config) as recommender:
        prompt = recommender.question(Request("p00", None, context)).prompt
        return recommender.tokenizer.decode(prompt.tokens_L.tolist()).splitlines()[-1]


def test_later_time_has_the_weather_that_is_forecast_and_calls_it_so(town_copy: Callable[..., Config]) -> None:
    config = town_copy("recommend.weather=forecast")
    assert "forecast" in last_line(config, RequestContext(LATER))
    assert "forecast" not in last_line(config, RequestContext(LATER, weather="rain, 18 C"))
    assert "forecast" not in last_line(config, RequestContext())  # right after the last event
    assert "forecast" not in last_line(config, RequestContext("2024-06-01T12:00"))  # unknown
    assert "forecast" not in last_line(town_copy(), RequestContext(LATER))


@pytest.mark.parametrize(
    ("before", "condition", "says"),
    [(3.0, "rain forecast", ""), (0.0, "rain forecast", "rain began"), (3.0, "forecast", "rain ended"),
     (0.0, "forecast", "")],
)  # fmt: skip
def test_forecast_is_a_change_of_the_weather_where_its_word_is(before: float, condition: str, says: str) -> None:
    time = [datetime(2024, 1, 1, hour, tzinfo=UTC) for hour in (12, 15)]
    events = pl.DataFrame({
        "user_idx": [0, 0], "item_idx": [0, -1], "time": time, "local_time": [one.replace(tzinfo=None) for one in time],
        "temperature_c": [4.0, 4.0], "precipitation_mm": [before, 0.0], "condition": [None, condition],
    })  # fmt: skip
    said = context_frame(events, "outcome", Features(frozenset({"weather_change"})))
    assert said["weather_change"].to_list() == ["", says]
    assert said["weather"].to_list()[1] == f"cold {condition}"


def test_data_without_weather_is_refused_in_a_sentence(
    town_copy: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whereupon.forecasts.weather.NEEDED", ("humidity",))
    with pytest.raises(DataError, match="need events with humidity"):
        Recommender.load(town_copy("recommend.weather=forecast"))
