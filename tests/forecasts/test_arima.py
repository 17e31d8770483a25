"""Seasonal ARIMA models of counts, against statsforecast's own forecasts and counts whose future is known."""

from typing import Any

import numpy as np
import pytest

from whereupon.errors import DataError
from whereupon.forecasts import ArimaModels, Series, fit_arima, forecast_ahead, measure
from whereupon.forecasts.arima import seasonal_levels
from whereupon.forecasts.rolling import radii, seasonal_naive

pytest.importorskip("statsforecast", reason="forecasts need statsforecast: pip install 'whereupon[forecast]'")
HOUR = 3_600
WEEK = 168


def a_week(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 5, WEEK).astype(float)


def noisy(num_steps: int, seed: int = 1) -> np.ndarray[Any, Any]:
    """Poisson counts of two series with a day's wave."""
    rng, hour = np.random.default_rng(seed), np.arange(num_steps)
    rate = 3 + 2.5 * np.sin(2 * np.pi * hour / 24)
    return np.stack([rng.poisson(rate), rng.poisson(rate[::-1])]).astype(float)


def test_exact_weekly_series_is_forecast_exactly_at_any_origin() -> None:
    count_ST = np.stack([np.tile(a_week(seed), 5) for seed in (1, 2)])
    models = fit_arima(count_ST[:, : 3 * WEEK], HOUR)
    assert models.season_S.tolist() == [WEEK, WEEK]
    origin_O = np.array([3 * WEEK + 24, 4 * WEEK + 72])
    forecast_SOH = models.forecast(count_ST, origin_O, 48)
    expected = np.stack([[count_T[o : o + 48] for o in origin_O] for count_T in count_ST])
    assert forecast_SOH == pytest.approx(expected, abs=1e-6)


def test_week_whose_timetable_changes_is_followed_from_day_to_day() -> None:
    rng = np.random.default_rng(8)
    weeks = np.repeat(rng.integers(0, 4, (12, 1, 24)), 7, axis=1)  # new hours each week, the same on all its days
    weeks[:, 5:] += np.arange(24) % 2  # and something of its own on weekends
    count_ST = weeks.reshape(1, -1) + rng.normal(0, 0.1, (1, 12 * WEEK))
    models = fit_arima(count_ST, HOUR)
    assert models.season_S.tolist() == [WEEK]
    assert models.daily_S[0] > 0
    origin_O = np.arange(9, 12) * WEEK + 3 * 24  # behind three days of the new timetable
    came = np.stack([count_ST[:, o : o + 48] for o in origin_O], axis=1)
    error = np.abs(models.forecast(count_ST, origin_O, 48) - came).mean()
    naive = np.abs(seasonal_naive(count_ST, origin_O, 48, WEEK) - came).mean()
    assert error < 0.5 * naive
    changed = count_ST.copy()
    changed[:, origin_O[0] :] = 50.0
    assert models.forecast(changed, origin_O[:1], 48).tolist() == models.forecast(count_ST, origin_O[:1], 48).tolist()


def test_whole_counts_are_what_errors_are_of() -> None:
    quiet = np.zeros((1, 40 * 24))
    quiet[0, ::31] = 1.0  # at another hour each time, so that the mean is small everywhere
    measured, _ = measure(Series(quiet, 0, HOUR, 0), 24)
    assert measured.mae_S[0] == pytest.approx(quiet.mean(), rel=0.2)
    assert measured.mase == pytest.approx(0.5, abs=0.1)


def test_later_counts_change_no_forecast_and_earlier_ones_do() -> None:
    count_ST = noisy(40 * 24)
    models, origin = fit_arima(count_ST[:, : 20 * 24], HOUR), np.array([30 * 24])
    forecast = models.forecast(count_ST, origin, 24)
    later, earlier = count_ST.copy(), count_ST.copy()
    later[:, 30 * 24 :] = 99.0
    earlier[:, 30 * 24 - 1] = 99.0
    assert models.forecast(later, origin, 24).tolist() == forecast.tolist()
    assert np.abs(models.forecast(earlier, origin, 24) - forecast).max() > 0.1


def test_forecast_equals_that_of_statsforecast() -> None:
    from statsforecast.models import ARIMA

    rng = np.random.default_rng(3)
    shock_T = rng.normal(size=600)
    count_T = np.zeros(600)
    for t in range(24, 600):
        before = count_T[t - 1] - count_T[t - 25] if t > 24 else 0.0
        count_T[t] = count_T[t - 24] + 0.6 * before + shock_T[t] + 0.4 * shock_T[t - 1]
    rest_T = (count_T - seasonal_levels(count_T, 24, 1.0)[:600])[24:]
    model = ARIMA((1, 0, 1)).fit(rest_T)
    found = model.model_["coef"]
    ours = ArimaModels(
        np.array([24]), np.array([1.0]), np.array([0.0]), np.array([found["intercept"]]), np.array([[found["ar1"]]]),
        np.array([[found["ma1"]]]),
    ).forecast(count_T[None], np.array([600]), 12)  # fmt: skip
    assert ours[0, 0] - count_T[-24:][:12] == pytest.approx(model.predict(12)["mean"], abs=1e-4)


def test_levels_are_smoothed_by_season_and_look_back_only() -> None:
    assert seasonal_levels(np.array([4.0, 8, 6, 0, 2]), 2, 0.5).tolist() == [0, 0, 4, 8, 5, 4, 3.5]


def test_radius_is_a_quantile_of_errors_whose_horizon_is_over() -> None:
    error_SOH = np.array([[[5.0], [1.0], [2.0], [3.0], [9.0], [0.0]]])
    radius = radii(error_SOH, np.arange(6) * 24)[0, :, 0]
    # Of four earlier errors 0.8 * 5, the fourth smallest; of five 0.8 * 6: between the two largest.
    assert np.isnan(radius[:4]).all()
    assert radius[4:].tolist() == pytest.approx([5.0, 8.2])


def test_seasonal_naive_repeats_the_last_season() -> None:
    count_ST = np.arange(60.0)[None]
    assert seasonal_naive(count_ST, np.array([48]), 30, 24)[0, 0].tolist() == [*range(24, 48), *range(24, 30)]


def test_noise_around_a_wave_is_covered_and_beats_the_naive_forecast() -> None:
    measured, models = measure(Series(noisy(60 * 24), 0, HOUR, 0), 24)
    assert 0.72 < measured.coverage_S.mean() < 0.88
    assert measured.mase < 0.85
    assert measured.num_origins == 20
    ahead = forecast_ahead(Series(noisy(60 * 24), 0, HOUR, 0), 24, models)
    assert (ahead.low_SH <= ahead.mean_SH).all()
    assert (ahead.mean_SH <= ahead.high_SH).all()
    assert ahead.low_SH.min() >= 0


@pytest.mark.parametrize("count_ST", [np.zeros((2, 71)), np.ones((1, 3))])
def test_too_few_steps_are_refused_in_a_sentence(count_ST: np.ndarray[Any, Any]) -> None:
    with pytest.raises(DataError, match="needs at least 72 steps of counts but there are"):
        fit_arima(count_ST, HOUR)


def test_series_without_an_event_is_forecast_as_none() -> None:
    models = fit_arima(np.zeros((1, 200)), HOUR)
    assert not models.forecast(np.zeros((1, 200)), np.array([192]), 24).any()


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"statsforecast.*pip install 'whereupon\[forecast\]'"):
        fit_arima(np.zeros((1, 200)), HOUR)
