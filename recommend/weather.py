"""The weather of a later time: a forecast, which the prompt names as one."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from ..forecasts.weather import WeatherForecasts
from ..histories import Histories
from .context import RequestContext, with_weather
from .selection import place_of
from .settings import RecommendConfig

_LATER = timedelta(hours=1)


def weather_forecasts(config: RecommendConfig, histories: Histories) -> WeatherForecasts | None:
    """None where the configuration sets none, or no prompt shows weather. Raises DataError: see the class."""
    if config.recommend.weather != "forecast" or "weather" in config.prompts.leave_out:
        return None
    return WeatherForecasts(histories)


def with_forecast(query: pl.DataFrame, forecasts: WeatherForecasts, context: RequestContext) -> pl.DataFrame:
    """The open question, see `context.open_question`, with the weather that is forecast for its time.

    It stays as it is where the request names its weather or is less than an hour after the last event, and where there
    is no forecast.
    """
    place, times = place_of(query, context), query["time"].tail(2).to_list()
    if context.weather is not None or (len(times) == 2 and times[1] - times[0] < _LATER):
        return query
    values = forecasts.columns(int(times[-1].timestamp()), place)
    if not values:
        return query
    return pl.concat([query[:-1], with_weather(query[-1], values)], how="diagonal_relaxed")
