"""How good demand forecasts are: per destination and hour of all flights of 2013 and of flights-demo, per category and
hour on nyc-checkins.

    make bench-forecasts                       half an hour; needs the prepared runs of the examples

MASE is the mean absolute error over that of the seasonal naive forecast for the same steps, over rolling origins. The
season of the naive forecast is a day or a week, whichever is better; both are written down, and figures of AutoETS. All
flights are prepared into runs/flights-2013. The form of the models was chosen on the first three fifths of each data
set, on which they are fitted here; the rest is what is scored.

Forecasts of the weather are measured on the weather that was joined to the events, see `weather_figures`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
from record import bar, record

from whereupon.config import load_config
from whereupon.forecasts import By, Series, count_series, fit_arima, group_items, measure
from whereupon.forecasts.rolling import actual, origins_of, seasonal_naive
from whereupon.forecasts.weather import Measured
from whereupon.histories import Histories, read_histories

ROOT: Final = Path(__file__).parents[1]
ALL_FLIGHTS: Final = "flights-2013"
CASES: Final[tuple[tuple[str, By, int], ...]] = (
    (ALL_FLIGHTS, "item", 60), ("flights-demo", "item", 60), ("nyc-checkins", "category", 20),
)  # fmt: skip
OF_WEATHER: Final = (ALL_FLIGHTS, "nyc-checkins")  # flights-demo has the first month of the first
HORIZON_H: Final = 24
MOST_HOURS_OF_ETS: Final = 3_000


def run_of(name: str, runs: Path | None) -> Path:
    """The prepared run of a case; all flights are prepared where they are not yet."""
    if name != ALL_FLIGHTS:
        return runs / name if runs else load_config(ROOT / "examples" / f"{name}.yaml").run
    run = (runs or ROOT / "runs") / name
    if not (run / "histories" / "manifest.json").is_file():
        changes = [f"run={run}", "histories.carriers=[]", "histories.to_date=2013-12-31"]
        command = [sys.executable, "-m", "whereupon.cli", "prepare", "examples/flights-demo.yaml"]
        subprocess.run([*command, *(part for one in changes for part in ("--set", one))], cwd=ROOT, check=True)
    return run


def series_of(histories: Histories, by: By, most: int) -> Series:
    """Groups by training events; counts of all events."""
    grouping = group_items(histories, by, histories.split_N == 0, most=most)
    return count_series(histories, grouping, "hour")


def ets_mase(series: Series) -> float | None:
    """MASE of AutoETS with a season of a day, fitted on what ARIMA is fitted on, at the same origins; None where the
    counts are so many that it takes hours."""
    from statsforecast.models import AutoETS

    if series.count_ST.shape[1] > MOST_HOURS_OF_ETS:
        return None
    origin_O = origins_of(series, HORIZON_H)
    came, naive = (
        actual(series.count_ST, origin_O, HORIZON_H), seasonal_naive(series.count_ST, origin_O, HORIZON_H, 24)
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = [AutoETS(24).fit(count_T[: origin_O[0]]) for count_T in series.count_ST]
        ets = np.array(
            [
                [model.forward(count_T[:origin], HORIZON_H)["mean"] for origin in origin_O.tolist()]
                for model, count_T in zip(fitted, series.count_ST, strict=True)
            ]
        )
    return float(np.abs(ets - came).sum() / np.abs(naive - came).sum())


def demand_figures(histories: Histories, by: By, most: int) -> dict[str, Any]:
    """MASE beside a day's, a week's and the better seasonal naive forecast, coverage, AutoETS, and seconds."""
    series, began = series_of(histories, by, most), time.perf_counter()
    daily, _ = measure(series, HORIZON_H)
    seconds = time.perf_counter() - began
    weekly, _ = measure(series, HORIZON_H, season=168)
    better = min(float(daily.naive_mae_S.sum()), float(weekly.naive_mae_S.sum()))
    return {
        "by": by, "num_series": len(series.count_ST), "num_hours": series.count_ST.shape[1],
        "num_origins": daily.num_origins, "mase": float(daily.mae_S.sum()) / better,
        "mase_beside_daily_naive": daily.mase, "mase_beside_weekly_naive": weekly.mase,
        "median_mase_of_series": float(np.nanmedian(daily.mase_S)), "coverage": float(daily.coverage_S.mean()),
        "mae": float(daily.mae_S.mean()), "naive_mae": float(daily.naive_mae_S.mean()),
        "weekly_naive_mae": float(weekly.naive_mae_S.mean()), "mase_of_auto_ets": ets_mase(series), "seconds": seconds,
    }  # fmt: skip


def weather_figures(histories: Histories) -> dict[str, Any]:
    """Errors of the weather's forecasts from each midnight (UTC) of the last two fifths, beside persistence.

    Of temperature the mean absolute error, of precipitation the Brier score of its probability, 1 to 24 and 25 to 48
    hours ahead, and the same of the last hour's weather and of the same hour of the day before. Only hours count in
    which something was measured. Models are fitted before the first of these midnights.
    """
    measured = Measured.of(histories, np.ones(histories.events.height, bool))
    value_ST = measured.before(int(measured.hour_T[-1]) + 1)
    seen_T = np.isin(measured.hour_T[0] + np.arange(value_ST.shape[1]), measured.hour_T)
    begin = -int(measured.hour_T[0]) % 24
    origin_O = np.arange(begin + value_ST.shape[1] * 3 // 5 // 24 * 24, value_ST.shape[1] - 48, 24)
    models = fit_arima(value_ST[:, : origin_O[0]], 3_600)
    ways = {
        "arima": models.forecast(value_ST, origin_O, 48),
        "last hour": np.repeat(value_ST[:, origin_O - 1][:, :, None], 48, axis=2),
        "day before": seasonal_naive(value_ST, origin_O, 48, 24),
    }
    came_SOH, seen_OH = actual(value_ST, origin_O, 48), seen_T[origin_O[:, None] + np.arange(48)]
    found: dict[str, Any] = {"num_origins": len(origin_O), "wet_share": float(came_SOH[1][seen_OH].mean())}
    for name, way_SOH in ways.items():
        away_SOH = np.abs(way_SOH - came_SOH)
        away_SOH[1] = np.square(np.clip(way_SOH[1], 0, 1) - came_SOH[1])
        for day, at in ((1, slice(0, 24)), (2, slice(24, 48))):
            celsius, wet = (float(one_OH[:, at][seen_OH[:, at]].mean()) for one_OH in away_SOH)
            found[f"{name}, day {day}"] = {"temperature MAE": celsius, "precipitation Brier": wet}
    return found


def weather_bars(name: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    """On both days, ARIMA beside the better of the two ways of persistence."""
    shares = []
    for what in ("temperature MAE", "precipitation Brier"):
        for day in (1, 2):
            best = min(found[f"{way}, day {day}"][what] for way in ("last hour", "day before"))
            text = f"{name}: {what} of day {day} over that of the better persistence"
            share = found[f"arima, day {day}"][what] / best
            shares.append(bar(text, share, "below 1", share < 1))
    return shares


def demand_bars(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """MASE below 1 and coverage from 75 to 85 %, for each of the data sets."""
    return [
        one
        for name, figures in found.items()
        for one in (
            bar(f"{name}: MASE of ARIMA by {figures['by']} and hour, beside the better seasonal naive forecast",
                figures["mase"], "below 1", figures["mase"] < 1),
            bar(f"{name}: coverage of 80 % intervals", figures["coverage"], "0.75 to 0.85",
                0.75 <= figures["coverage"] <= 0.85),
        )
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of prepared runs; default: those of the examples")
    runs = parser.parse_args().runs
    found: dict[str, dict[str, Any]] = {}
    weather: dict[str, dict[str, Any]] = {}
    bars: list[dict[str, Any]] = []
    for name, by, most in CASES:
        histories = read_histories(run_of(name, runs))
        found[name] = demand_figures(histories, by, most)
        if name in OF_WEATHER:
            weather[name] = weather_figures(histories)
            bars += weather_bars(name, weather[name])
    return record("forecasts", None, [*demand_bars(found), *bars], figures=found, weather=weather)


if __name__ == "__main__":
    sys.exit(main())
