"""Local fits of generalised linear models: coefficients that vary over a map.

Geographically weighted regression: Brunsdon, Fotheringham and Charlton, Geographical Analysis 28(4), 1996; for counts
Nakaya, Fotheringham, Brunsdon and Charlton, Statistics in Medicine 24(17), 2005. At each centre of a grid one model is
fitted, in which an event counts the more, the nearer it is; between the centres coefficients are interpolated.

Shapes: N = events, Q = questions, G = answers (1, or the alternatives of a choice), L = features of an answer, P =
G * L coefficients, X and Y = the grid's rows and columns, R = X * Y + 1 fits, of which the last is that of all places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from ..arrays import Float64
from ..histories.distance import distance_km, points

Link = Literal["identity", "log", "softmax"]
_MOST_STEPS: Final = 30
_LEAST_WEIGHT: Final = 1e-3  # events that count less are left out of a fit
_LEAST_KM: Final = 0.01  # bandwidth where very many events are at one place
_INNER: Final = (0.01, 0.99)  # quantiles of the events' coordinates that the grid spans


@dataclass(frozen=True)
class Weighted:
    """A generalised linear model with a canonical link, of weighted events.

    The answers of an event have the linear predictors `feature_NGL` @ coefficients, summed over L, and `target_NG` are
    what came: a number or a count, or, for softmax, 1 at the chosen alternative. What is least is the weighted negative
    log-likelihood plus ridge / 2 times the squared distance of the coefficients from `around_GL`. All float64.
    """

    feature_NGL: Float64
    target_NG: Float64
    weight_N: Float64
    link: Link
    ridge: float
    around_GL: Float64

    def fit(self, start_GL: Float64) -> Float64:
        """Coefficients, float64 [G, L], by Newton's method with step halving. The problem is convex.

        Raises numpy's LinAlgError where there is no ridge and features are collinear.
        """
        beta_GL, loss = start_GL, self._loss(start_GL)
        for _ in range(_MOST_STEPS):
            mean_NG = self._mean(self._linear(beta_GL))
            slope_P, curve_PP = self._slope(beta_GL, mean_NG), self._curve(mean_NG, self.weight_N, self.ridge)
            step_P = np.linalg.solve(curve_PP, slope_P)
            gain, share = float(slope_P @ step_P), 1.0
            while share > 1e-6:
                there_GL = beta_GL - share * step_P.reshape(beta_GL.shape)
                there = self._loss(there_GL)
                if there <= loss - 1e-4 * share * gain + 1e-12 * abs(loss):
                    break
                share /= 2
            else:
                break
            beta_GL, loss = there_GL, there
            if gain <= 1e-9 * (1 + abs(loss)):
                break
        return beta_GL

    def standard_errors(self, beta_GL: Float64) -> Float64:
        """Of the coefficients at the optimum, for a dispersion of 1: float64 [G, L].

        The weights are not counts, so these come from H^-1 J H^-1, H with weights and J with their squares.
        """
        mean_NG = self._mean(self._linear(beta_GL))
        inverse_PP = np.linalg.inv(self._curve(mean_NG, self.weight_N, self.ridge))
        spread_PP = inverse_PP @ self._curve(mean_NG, self.weight_N**2, 0.0) @ inverse_PP
        errors_GL: Float64 = np.sqrt(np.maximum(np.diag(spread_PP), 0.0)).reshape(beta_GL.shape)
        return errors_GL

    def log_likelihoods(self, beta_GL: Float64) -> Float64:
        """Of each event, up to what does not depend on coefficients: float64 [N]."""
        linear_NG = self._linear(beta_GL)
        found_N: Float64 = (self.target_NG * linear_NG).sum(axis=1) - self._cumulant(linear_NG)
        return found_N

    def _linear(self, beta_GL: Float64) -> Float64:
        linear_NG: Float64 = np.einsum("ngl,gl->ng", self.feature_NGL, beta_GL)
        return linear_NG

    def _loss(self, beta_GL: Float64) -> float:
        away = self.ridge / 2 * float(np.square(beta_GL - self.around_GL).sum())
        with np.errstate(over="ignore"):  # a step that is much too long; it is halved
            return away - float(self.weight_N @ self.log_likelihoods(beta_GL))

    def _cumulant(self, linear_NG: Float64) -> Float64:
        """Its derivative is the mean: float64 [N]."""
        if self.link == "identity":
            return np.asarray(np.square(linear_NG).sum(axis=1) / 2)
        if self.link == "log":
            return np.asarray(np.exp(linear_NG).sum(axis=1))
        most_N = linear_NG.max(axis=1)
        return np.asarray(most_N + np.log(np.exp(linear_NG - most_N[:, None]).sum(axis=1)))

    def _mean(self, linear_NG: Float64) -> Float64:
        return linear_NG if self.link == "identity" else np.exp(linear_NG) if self.link == "log" else softmax(linear_NG)

    def _slope(self, beta_GL: Float64, mean_NG: Float64) -> Float64:
        residual_NG = self.weight_N[:, None] * (mean_NG - self.target_NG)
        slope_GL = np.einsum("ng,ngl->gl", residual_NG, self.feature_NGL)
        slope_P: Float64 = (slope_GL + self.ridge * (beta_GL - self.around_GL)).ravel()
        return slope_P

    def _curve(self, mean_NG: Float64, weight_N: Float64, ridge: float) -> Float64:
        """Second derivatives: float64 [P, P]."""
        num, num_answers, num_features = self.feature_NGL.shape
        variance_NG = np.ones_like(mean_NG) if self.link == "identity" else mean_NG
        curve_PP = ridge * np.eye(num_answers * num_features)
        for g in range(num_answers):
            at = slice(g * num_features, (g + 1) * num_features)
            feature_NL = self.feature_NGL[:, g]
            curve_PP[at, at] += (feature_NL * (weight_N * variance_NG[:, g])[:, None]).T @ feature_NL
        if self.link == "softmax":
            moment_NP = (self.feature_NGL * mean_NG[:, :, None]).reshape(num, -1)
            curve_PP -= (moment_NP * weight_N[:, None]).T @ moment_NP
        return curve_PP


def softmax(linear_QG: Float64) -> Float64:
    """Shares of the alternatives of each row: float64 [Q, G]."""
    share_QG = np.exp(linear_QG - linear_QG.max(axis=1, keepdims=True))
    shares_QG: Float64 = share_QG / share_QG.sum(axis=1, keepdims=True)
    return shares_QG


def kernel(km_N: Float64, neighbours: int) -> Float64:
    """How much events count at a distance, float64 [N]; 0 where it is NaN.

    A Gaussian whose standard deviation is the distance of the nearest event but `neighbours` - 1 (adaptive).
    """
    known_N = ~np.isnan(km_N)
    nearest = min(neighbours, int(known_N.sum()))
    if not nearest:
        return np.zeros(len(km_N))
    # A trifle wider, as mgwr has it, so that nothing turns on the last digit of a distance.
    width = max(float(np.partition(km_N[known_N], nearest - 1)[nearest - 1]) * 1.0000001, _LEAST_KM)
    weight_N: Float64 = np.where(known_N, np.exp(-0.5 * np.square(np.nan_to_num(km_N) / width)), 0.0)
    return weight_N


@dataclass(frozen=True)
class Grid:
    """Centres: latitudes `north_X` and longitudes `east_Y`, float64 ascending degrees; both empty without a place."""

    north_X: Float64
    east_Y: Float64

    @classmethod
    def over(cls, place_N3: Float64, cells: int) -> Grid:
        """`cells` each way over the inner places."""
        degrees_N2 = degrees_of(place_N3)
        degrees_N2 = degrees_N2[~np.isnan(degrees_N2).any(axis=1)]
        if not len(degrees_N2):
            return cls(np.zeros(0), np.zeros(0))
        low_2, high_2 = np.quantile(degrees_N2, _INNER, axis=0)
        return cls(*(np.unique(np.linspace(low_2[axis], high_2[axis], cells)) for axis in range(2)))

    @property
    def centre_R3(self) -> Float64:
        """Points of the centres, row by row: float64 [R - 1, 3]."""
        north_R, east_R = (one.ravel() for one in np.meshgrid(self.north_X, self.east_Y, indexing="ij"))
        return points(latitude=north_R, longitude=east_R)

    def shares(self, place_Q3: Float64) -> Float64:
        """How much of each fit a place has: bilinear, that of all places where it is unknown: float64 [Q, R]."""
        degrees_Q2 = degrees_of(place_Q3)
        known_Q = ~np.isnan(degrees_Q2).any(axis=1)
        share_QR = np.zeros((len(place_Q3), len(self.north_X) * len(self.east_Y) + 1))
        if not len(self.north_X):
            known_Q = np.zeros(len(place_Q3), bool)
        share_QR[~known_Q, -1] = 1.0
        if known_Q.any():
            north_QX, east_QY = (
                _linear_shares(degrees_Q, axis)
                for degrees_Q, axis in zip(degrees_Q2[known_Q].T, (self.north_X, self.east_Y), strict=True)
            )
            share_QR[known_Q, :-1] = (north_QX[:, :, None] * east_QY[:, None, :]).reshape(int(known_Q.sum()), -1)
        return share_QR


def _linear_shares(value_Q: Float64, axis_X: Float64) -> Float64:
    """Of linear interpolation, held at the ends: float64 [Q, X]."""
    at_Q = np.interp(value_Q, axis_X, np.arange(len(axis_X)))
    share_QX: Float64 = np.maximum(1 - np.abs(at_Q[:, None] - np.arange(len(axis_X))), 0.0)
    return share_QX


def degrees_of(place_Q3: Float64) -> Float64:
    """Latitude and longitude of points on the unit sphere: float64 [Q, 2]."""
    north_Q, east_Q = np.arcsin(np.clip(place_Q3[:, 2], -1, 1)), np.arctan2(place_Q3[:, 1], place_Q3[:, 0])
    degrees_Q2: Float64 = np.degrees(np.stack([north_Q, east_Q], axis=1))
    return degrees_Q2


@dataclass(frozen=True)
class LocalFits:
    """Fits at the centres of a grid and, last, of all places: coefficients and their standard errors, [R, G, L]."""

    grid: Grid
    beta_RGL: Float64
    error_RGL: Float64

    def linear(self, feature_QGL: Float64, place_Q3: Float64) -> Float64:
        """Linear predictors by interpolated coefficients: float64 [Q, G]."""
        num, shape = len(self.beta_RGL), self.beta_RGL.shape[1:]
        beta_QGL = (self.grid.shares(place_Q3) @ self.beta_RGL.reshape(num, -1)).reshape(-1, *shape)
        linear_QG: Float64 = (feature_QGL * beta_QGL).sum(axis=2)
        return linear_QG


def fit_locally(
    feature_NGL: Float64, target_NG: Float64, place_N3: Float64, grid: Grid, *, neighbours: int, link: Link,
    ridge: float, around_GL: Float64, errors: bool,
) -> LocalFits:  # fmt: skip
    """One fit at each centre, by the `kernel`, and one of all events alike; without `errors` these are NaN."""
    kinds: dict[str, Any] = {"link": link, "ridge": ridge, "around_GL": around_GL}
    everywhere = Weighted(feature_NGL, target_NG, np.ones(len(feature_NGL)), **kinds)
    overall_GL = everywhere.fit(around_GL)
    found, spread = [], []
    for centre_3 in grid.centre_R3:
        weight_N = kernel(distance_km(place_N3, centre_3), neighbours)
        near_N = weight_N > _LEAST_WEIGHT
        local = Weighted(feature_NGL[near_N], target_NG[near_N], weight_N[near_N], **kinds)
        found.append(local.fit(overall_GL))
        spread.append(local.standard_errors(found[-1]) if errors else np.full(around_GL.shape, np.nan))
    spread.append(everywhere.standard_errors(overall_GL) if errors else np.full(around_GL.shape, np.nan))
    return LocalFits(grid, np.stack([*found, overall_GL]), np.stack(spread))
