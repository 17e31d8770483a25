"""Demand: how many events each item, category or area gets in each hour or day, and how many it will get."""

from .arima import ArimaModels, fit_arima
from .rolling import Measured, Outlook, forecast_ahead, measure
from .series import By, Every, Grouping, Series, count_series, group_items

__all__ = [
    "ArimaModels", "By", "Every", "Grouping", "Measured", "Outlook", "Series", "count_series", "fit_arima",
    "forecast_ahead", "group_items", "measure",
]  # fmt: skip
