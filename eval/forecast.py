"""`whereupon forecast`: how many events come next, as a table, a picture and files in the run folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..console import say, show
from ..errors import DataError
from ..files import atomic_path, write_json
from ..forecasts import (
    By,
    Every,
    Grouping,
    Measured,
    Outlook,
    Series,
    count_series,
    forecast_ahead,
    group_items,
    measure,
)
from ..forecasts.series import STEP_S
from ..histories import Histories, read_histories
from .forecast_picture import forecast_picture

_MOST_H: Final = 24 * 60
_MOST_YEARS: Final[dict[Every, int]] = {"hour": 30, "day": 100}  # the minutes of a forecast grow with the square
_HORIZON: Final = re.compile(r"(\d{1,6})\s*(h|d)")


@dataclass(frozen=True)
class Forecast:
    """What a run's demand will be: series and their groups, forecasts of the next steps, and how good they are."""

    grouping: Grouping
    series: Series
    outlook: Outlook
    measured: Measured


def parse_horizon(text: str, every: Every) -> int:
    """Steps of '48h' or '7d'. Raises DataError for what is no such duration."""
    found = _HORIZON.fullmatch(text.strip())
    hours = int(found[1]) * (24 if found[2] == "d" else 1) if found else 0
    if not found or not 1 <= hours <= _MOST_H or (every == "day" and hours % 24):
        whole = "whole days" if every == "day" else "hours or days"
        raise DataError(
            f"The horizon should be {whole} up to {_MOST_H // 24} days, such as 48h or 7d, but is {text!r}."
        )
    return hours * 3_600 // STEP_S[every]


def forecast_run(run: Path, *, by: By, every: Every, horizon: str, series: int) -> Path:
    """Forecast the demand that follows the histories of a run; prints a table and gives the folder of the files.

    Raises:
        DataError: the run is not prepared, has too few days of events, or lacks what `by` needs; `statsforecast` is
            missing.
    """
    steps = parse_horizon(horizon, every)
    found = make_forecast(read_histories(run), by=by, every=every, steps=steps, most=series)
    folder = run / "forecasts" / f"{by}-{every}"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "forecast.svg") as path:
        path.write_text(forecast_picture(found.grouping.names, found.series, found.outlook), encoding="utf-8")
    write_json(folder / "forecast.json", as_json(found, by, every))
    _show(found, every)
    say(f"Forecasts with their intervals, and a picture: {folder}")
    return folder


def make_forecast(histories: Histories, *, by: By, every: Every, steps: int, most: int) -> Forecast:
    """Groups are chosen by all events, since what is forecast follows all of them. Raises DataError."""
    grouping = group_items(histories, by, histories.shared_N, most=most)
    series = count_series(histories, grouping, every, most_years=_MOST_YEARS[every])
    measured, models = measure(series, steps)
    return Forecast(grouping, series, forecast_ahead(series, steps, models), measured)


def as_json(found: Forecast, by: By, every: Every) -> dict[str, Any]:
    """The result file: errors over rolling origins, and each step of each series with its interval."""
    measured, outlook = found.measured, found.outlook
    end = found.series.count_ST.shape[1]
    times = [found.series.when(end + step).isoformat() for step in range(outlook.mean_SH.shape[1])]
    each = [
        {"name": name, "mase": _or_none(measured.mase_S[s]), "coverage": _or_none(measured.coverage_S[s]),
         "mean": outlook.mean_SH[s].tolist(), "low": _or_nones(outlook.low_SH[s]),
         "high": _or_nones(outlook.high_SH[s])}
        for s, name in enumerate(found.grouping.names)
    ]  # fmt: skip
    return {
        "by": by, "every": every, "utc_offset_hours": found.series.offset_s // 3_600, "times": times, "level": 0.8,
        "mase": _or_none(measured.mase), "coverage": _or_none(float(measured.coverage_S.mean())),
        "num_origins": measured.num_origins, "season": measured.season, "num_pooled": found.grouping.num_pooled,
        "series": each,
    }  # fmt: skip


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _or_nones(values: Any) -> list[float | None]:
    return [_or_none(value) for value in values]


def _show(found: Forecast, every: Every) -> None:
    """Print the table of `forecast`, and how good it is."""
    from rich.table import Table

    measured, outlook, names = found.measured, found.outlook, found.grouping.names
    first = found.series.when(found.series.count_ST.shape[1])
    title = f"Events from {_moment(first)}, {outlook.mean_SH.shape[1]} {every}s ahead (clock: {_clock(found.series)})"
    table = Table("series", title=title, title_justify="left")
    for column in ("expected in all", f"largest {every}", "its 80 % interval", "MASE", "80 % coverage"):
        table.add_column(column, justify="right")
    for s, name in enumerate(names):
        peak = int(outlook.mean_SH[s].argmax())
        interval = f"{_figure(outlook.low_SH[s, peak])} to {_figure(outlook.high_SH[s, peak])}"
        when = found.series.when(found.series.count_ST.shape[1] + peak)
        most = f"{_figure(outlook.mean_SH[s, peak])} on {_moment(when)}"
        total, mase = _figure(float(outlook.mean_SH[s].sum())), _figure(measured.mase_S[s], 2)
        table.add_row(name, total, most, interval, mase, _figure(measured.coverage_S[s], 2))
    show(table)
    say(
        f"MASE {_figure(measured.mase, 2)} and coverage {_figure(float(measured.coverage_S.mean()), 2)} over "
        f"{measured.num_origins} rolling origins; below 1 beats the seasonal naive forecast (season {measured.season} "
        f"{every}s). {found.grouping.num_pooled} groups are pooled as the rest."
    )


def _figure(value: float, digits: int = 1) -> str:
    return f"{value:,.{digits}f}" if np.isfinite(value) else "unknown"


def _moment(when: datetime) -> str:
    return f"{when:%a %Y-%m-%d %H:%M}"


def _clock(series: Series) -> str:
    return f"UTC{series.offset_s // 3_600:+d}"
