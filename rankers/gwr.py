"""Geographically weighted regression: what is chosen by hour, kind of day, weather and distance, differently all over
the map.

An event chooses among groups of items: the most frequent categories, or items where there are no categories; all rare
ones are one group. A multinomial logit gives the probability of each group; its coefficients vary over the map, see
`gwr_fit`. Features are scaled by mean and standard deviation; which numbers of the context are read, or which
components of them, see `numbers`. The distance of a group is that of its nearest item. Coefficients are drawn towards
no effect by a ridge, the constants towards the shares of the groups. Bandwidth and ridge have the greatest likelihood
on the last fifth of the events that are learnt from, by a fit of the others.

Within its group, an item has its share in the events before the query, faded by its distance, and in own events.

Shapes: see `arrays` and `gwr_fit`; G = groups, L = features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..arrays import Bool, Float64, Int64
from ..forecasts import Grouping, group_items
from ..forecasts.series import By
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.distance import distance_km, has_coordinates
from ..histories.questions import SPLIT_CODES
from .clock import DAY_S, is_weekend, local_seconds, stream_of
from .gwr_fit import Grid, LocalFits, fit_locally, softmax
from .numbers import Numbers, Scaling, number_values, scaling
from .places import item_points, where_users_are
from .popular import popular_shares
from .protocol import Arrays, Dense, Family, Fitting, UnfitDataError, grid_of
from .user_history import LastFit, each_one, past_sums

_NAME: Final = "geographically weighted regression"
FIXED_FIELDS: Final = ("constant", "hour_sin", "hour_cos", "halfday_sin", "halfday_cos", "weekend", "distance")
_CELLS: Final = 5  # centres in each direction
_LATEST: Final = 20_000  # events that are learnt from
_NEIGHBOURS: Final = (0.05, 0.15, 0.4)  # bandwidths, as shares of the events
_RIDGES: Final = (3.0, 30.0)
_FEWEST: Final = 50  # events that choose bandwidth and ridge; with fewer, the widest and the strongest are taken
_REACH: Final = 3.0  # standard deviations at which features are cut off: storms, and seasons that were not learnt from
_SCALE_KM: Final = 0.5


@dataclass(frozen=True)
class RegressionSettings:
    """At most `most` groups, with `least_events` each, have coefficients of their own.

    Within a group p(i) = (own * o_i + l_i) / (own * o + 1): own events o, and local shares l proportional to
    (n_i + s_i) * (1 + d_i / 0.5 km)^-steepness, n being the events so far and s the shares in earlier splits.
    """

    most: int
    least_events: int
    steepness: float
    own: float
    numbers: Numbers = "standard"


@dataclass(frozen=True)
class Learnt:
    """Groups, features and fits: `series_I` int64 is the group of each item, `context` what is read of the context's
    numbers, and `scale_2L` mean and standard deviation of the features. `num_events` were learnt from."""

    series_I: Int64
    context: Scaling
    scale_2L: Float64
    fits: LocalFits
    num_events: int

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the L features."""
        return (*FIXED_FIELDS, *self.context.labels)

    @property
    def spread_L(self) -> Float64:
        """Standard deviation of each feature, of the context's columns in their own units: float64 [L]."""
        spread_L: Float64 = self.scale_2L[1].copy()
        if self.context.turn_WD is None:
            spread_L[len(FIXED_FIELDS) :] /= self.context.scale_W
        return spread_L


@dataclass(frozen=True)
class Regression:
    """See the module's text; without `learnt`, for there was nothing to learn from, all items are one group."""

    settings: RegressionSettings
    learnt: Learnt | None

    def on(self, histories: Histories, split: EvaluatedSplit, known: Histories | None = None) -> Dense:
        """See `Ranker.on`; log-probabilities over all items."""
        known = known or histories
        item_I3, share_I, stream = item_points(known), popular_shares(known, split), stream_of(known)
        place_N3 = where_users_are(histories, item_I3)
        one, learnt = self.settings, self.learnt
        series_I = np.zeros(len(share_I), np.int64) if learnt is None else learnt.series_I
        time_NM = None if learnt is None else time_features(histories, learnt.context)

        def scores_of(row_Q: Int64) -> Float64:
            km_QI = distance_km(place_N3[row_Q][:, None], item_I3)
            local_QI = (stream.sums_before(histories.time_s_N[row_Q]) + share_I) * _nearness(km_QI, one.steepness)
            own_QI = past_sums(histories, row_Q, each_one)
            within_QI = one.own * own_QI + local_QI / _sums(local_QI, series_I)[:, series_I]
            score_QI: Float64 = np.log(within_QI) - np.log(_sums(within_QI, series_I)[:, series_I])
            if learnt is not None and time_NM is not None:
                feature_QGL = features(time_NM[row_Q], _nearest(km_QI, series_I), learnt.scale_2L)
                share_QG = softmax(learnt.fits.linear(feature_QGL, place_N3[row_Q]))
                score_QI += np.log(np.maximum(share_QG, 1e-12))[:, series_I]
            score_QI -= np.log(np.exp(score_QI).sum(axis=1, keepdims=True))
            return score_QI

        return Dense(scores_of, is_log_prob=True)

    def arrays(self) -> Arrays:
        """What was learnt."""
        if (learnt := self.learnt) is None:
            return {}
        fits = learnt.fits
        return {
            "series_I": learnt.series_I, "scale_2L": learnt.scale_2L, "north_X": fits.grid.north_X,
            "east_Y": fits.grid.east_Y, "beta_RGL": fits.beta_RGL, "error_RGL": fits.error_RGL,
            "num_events": np.array([learnt.num_events], np.int64),
        }  # fmt: skip


def _sums(value_QI: Float64, series_I: Int64) -> Float64:
    """Of the items of each group: float64 [Q, G]."""
    order_I = np.argsort(series_I, kind="stable")
    start_G = np.searchsorted(series_I[order_I], np.arange(int(series_I.max()) + 1))
    sum_QG: Float64 = np.add.reduceat(value_QI[:, order_I], start_G, axis=1)
    return sum_QG


def _nearest(km_QI: Float64, series_I: Int64) -> Float64:
    """log(1 + d) of the nearest item of each group, d in half kilometres; NaN where unknown: float64 [Q, G]."""
    order_I = np.argsort(series_I, kind="stable")
    start_G = np.searchsorted(series_I[order_I], np.arange(int(series_I.max()) + 1))
    least_QG = np.minimum.reduceat(np.where(np.isnan(km_QI), np.inf, km_QI)[:, order_I], start_G, axis=1)
    near_QG: Float64 = np.log1p(np.where(np.isinf(least_QG), np.nan, least_QG) / _SCALE_KM)
    return near_QG


def _nearness(km_QI: Float64, steepness: float) -> Float64:
    """The factor of distance; the mean of the others where an item has no place, 1 where the user has none."""
    factor_QI = (1 + km_QI / _SCALE_KM) ** -steepness
    known_QI = ~np.isnan(factor_QI)
    num_Q1 = known_QI.sum(axis=1, keepdims=True)
    mean_Q1 = np.where(num_Q1 > 0, np.where(known_QI, factor_QI, 0.0).sum(axis=1, keepdims=True), 1.0)
    filled_QI: Float64 = np.where(known_QI, factor_QI, mean_Q1 / np.maximum(num_Q1, 1))
    return filled_QI


def time_features(histories: Histories, context: Scaling) -> Float64:
    """What is known of each event's time: the clock's waves, the kind of day, the numbers: float64 [N, M]."""
    local_N = local_seconds(histories.events)
    angle_N = 2 * np.pi * (local_N % DAY_S) / DAY_S
    waves = [wave(num * angle_N) for num in (1, 2) for wave in (np.sin, np.cos)]
    clock_NM = np.stack([*waves, is_weekend(local_N).astype(np.float64)], axis=1)
    return np.concatenate([clock_NM, context.of(number_values(histories, context.names))], axis=1)


def features(time_QM: Float64, near_QG: Float64, scale_2L: Float64) -> Float64:
    """Scaled features in the order of `Learnt.fields`; what is unknown is 0, the mean: float64 [Q, G, L]."""
    raw_QGL = _raw(time_QM, near_QG)
    scaled_QGL: Float64 = np.clip(np.nan_to_num((raw_QGL - scale_2L[0]) / scale_2L[1]), -_REACH, _REACH)
    return scaled_QGL


def _raw(time_QM: Float64, near_QG: Float64) -> Float64:
    num_clock = len(FIXED_FIELDS) - 2
    raw_QGL = np.empty((*near_QG.shape, time_QM.shape[1] + 2))
    raw_QGL[:, :, 0] = 1.0
    raw_QGL[:, :, 1 : num_clock + 1] = time_QM[:, None, :num_clock]
    raw_QGL[:, :, num_clock + 1] = near_QG
    raw_QGL[:, :, num_clock + 2 :] = time_QM[:, None, num_clock:]
    return raw_QGL


def _scale(raw_NGL: Float64) -> Float64:
    """Mean and standard deviation of each feature; 0 and 1 of the constant and of what never differs: [2, L]."""
    known_NGL = ~np.isnan(raw_NGL)
    num_L = np.maximum(known_NGL.sum(axis=(0, 1)), 1)
    mean_L = np.where(known_NGL, raw_NGL, 0.0).sum(axis=(0, 1)) / num_L
    mean_L[0] = 0.0
    spread_L = np.sqrt(np.square(np.where(known_NGL, raw_NGL - mean_L, 0.0)).sum(axis=(0, 1)) / num_L)
    spread_L[0] = 1.0
    return np.stack([mean_L, np.where(spread_L > 1e-9, spread_L, 1.0)])


def group(histories: Histories, learnt_N: Bool, one: RegressionSettings) -> Grouping:
    """Groups of the items by the events that are learnt from."""
    by: By = "category" if "category" in histories.items.columns else "item"
    return group_items(histories, by, learnt_N, most=one.most, least_events=one.least_events)


def learn(
    histories: Histories, learnt_N: Bool, grouping: Grouping, context: Scaling, *, errors: bool = False
) -> Learnt | None:
    """Fit to the latest of some events, bool [N], with standard errors or without (then NaN).

    None where there are none, or one group is all there is.
    """
    row_N = stream_of(histories).row_N
    row_N = row_N[learnt_N[row_N]][-_LATEST:]
    if not len(row_N) or len(grouping.names) < 2:
        return None
    item_I3 = item_points(histories)
    place_N3 = where_users_are(histories, item_I3)[row_N]
    near_NG = np.concatenate([
        _nearest(distance_km(part_Q3[:, None], item_I3), grouping.series_I)
        for part_Q3 in np.array_split(place_N3, -(-len(place_N3) // 500))
    ])  # fmt: skip
    time_NM = time_features(histories, context)[row_N]
    scale_2L = _scale(_raw(time_NM, near_NG))
    feature_NGL = features(time_NM, near_NG, scale_2L)
    target_NG = np.eye(len(grouping.names))[grouping.series_I[histories.item_idx_N[row_N]]]
    fits = _tuned_fit(feature_NGL, target_NG, place_N3, errors)
    return Learnt(grouping.series_I, context, scale_2L, fits, len(row_N))


def _tuned_fit(feature_NGL: Float64, target_NG: Float64, place_N3: Float64, errors: bool) -> LocalFits:
    """With the bandwidth and the ridge that are best on the last fifth; events are in the order of time."""
    begin = len(target_NG) - len(target_NG) // 5
    grid = Grid.over(place_N3, _CELLS)

    def fit(last: int, share: float, ridge: float, errors: bool) -> LocalFits:
        around_GL = np.zeros(feature_NGL.shape[1:])
        log_G = np.log(target_NG[:last].sum(axis=0) + 1)
        around_GL[:, 0] = log_G - log_G.mean()
        return fit_locally(
            feature_NGL[:last], target_NG[:last], place_N3[:last], grid, neighbours=max(1, round(share * last)),
            link="softmax", ridge=ridge, around_GL=around_GL, errors=errors,
        )  # fmt: skip

    def likelihood(share: float, ridge: float) -> float:
        fits = fit(begin, share, ridge, False)
        chosen_NG = softmax(fits.linear(feature_NGL[begin:], place_N3[begin:]))
        return float(np.log((chosen_NG * target_NG[begin:]).sum(axis=1)).mean())

    pairs = [(share, ridge) for share in reversed(_NEIGHBOURS) for ridge in reversed(_RIDGES)]
    best = max(pairs, key=lambda pair: likelihood(*pair)) if len(target_NG) - begin >= _FEWEST else pairs[0]
    return fit(len(target_NG), *best, errors)


_fits: Final[LastFit[Learnt | None]] = LastFit()


def _fitted(fitting: Fitting) -> Regression:
    one, histories, split = RegressionSettings(**fitting.settings), fitting.histories, fitting.split
    if not has_coordinates(histories.items):
        raise UnfitDataError(
            f"The baseline {_NAME!r} needs items with latitude and longitude, but none has both; add these columns to "
            "the items, or leave it out of evaluate.baselines."
        )

    def fit() -> Learnt | None:
        learnt_N = histories.shared_N & (histories.split_N < SPLIT_CODES[split])
        return learn(histories, learnt_N, group(histories, learnt_N, one), context)

    context = scaling(histories, split, one.numbers)
    return Regression(one, _fits.get(histories, (split, one.most, one.least_events, context.labels), fit))


def _restored(settings: Mapping[str, Any], arrays: Arrays, known: Histories, split: EvaluatedSplit) -> Regression:
    one = RegressionSettings(**settings)
    if not arrays:
        return Regression(one, None)
    fits = LocalFits(Grid(arrays["north_X"], arrays["east_Y"]), arrays["beta_RGL"], arrays["error_RGL"])
    context, num_events = scaling(known, split, one.numbers), int(arrays["num_events"][0])
    return Regression(one, Learnt(arrays["series_I"], context, arrays["scale_2L"], fits, num_events))


def _grid(most: int, numbers: Numbers) -> tuple[dict[str, Any], ...]:
    return grid_of(RegressionSettings, (most,), (30,), (0.0, 1.0, 2.0), (0.0, 3.0, 30.0), (numbers,))


# What takes time to fit changes least often, see `LastFit`; where every column is informative, the fit is the same.
_GRID: Final = (
    *_grid(8, "standard"), *_grid(20, "standard"), *_grid(20, "informative"), *_grid(20, "components")
)  # fmt: skip
FAMILIES: Final = (Family(_NAME, _GRID, _fitted, _restored),)
