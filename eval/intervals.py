"""Confidence intervals of means, from a bootstrap over users.

Events of one user are not independent of each other, so users and never events are resampled: the cluster bootstrap of
Field and Welsh, "Bootstrapping clustered data", JRSS B 69(3), 2007. It says nothing of other trainings or years.

A mean over events is a ratio of two sums per user, so a resample costs one row of numbers of draws times a small
matrix, whatever the number of events. All columns share the resamples.

Values that are NaN are unknown and left out. A column that holds an infinite value (log-loss of an event held
impossible), or that fewer than two users have, has a mean but no interval: NaN.

Shapes: E = events, U = users, M = columns (metrics of rankers), D = distinct columns, R = resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import erf
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Float64, Int64

NUM_RESAMPLES: Final = 10_000
_TAILS: Final = ((1 - 0.95) / 2, (1 + 0.95) / 2)
_ROUND_OFF = 1e-12  # a mean of the same values in another order differs by less, relative to the mean
_ENTRIES_PER_CHUNK = 1_000_000  # draws held at once, 8 MB: with much more, page faults take most of the time


@dataclass(frozen=True)
class UserSums:
    """Sum and number of each user's known values in each column, float64 [U, M]: a mean is sum / count over users."""

    sum_UM: Float64
    count_UM: Float64

    @classmethod
    def of(cls, columns: Iterable[Float64], user_E: ArrayLike) -> UserSums:
        """Sums of M columns (float64 [E], NaN where unknown, taken one by one) by whose event it is (integers [E]).

        Raises:
            ValueError: a column is not of so many events.
        """
        users, user_E = np.unique(np.asarray(user_E), return_inverse=True)
        sums, counts = [np.empty((len(users), 0))], [np.empty((len(users), 0))]
        for value_E in columns:
            if value_E.shape != user_E.shape:
                raise ValueError(f"values should be of {user_E.size} events like the users, found {value_E.shape}")
            known_E = ~np.isnan(value_E)
            user_X = user_E[known_E]
            counts.append(np.bincount(user_X, minlength=len(users)).astype(np.float64)[:, None])
            sums.append(np.bincount(user_X, value_E[known_E], len(users)).astype(np.float64)[:, None])
        return cls(np.hstack(sums), np.hstack(counts))

    @property
    def num_events_M(self) -> Int64:
        """int64: number of known values."""
        num_events_M: Int64 = self.count_UM.sum(axis=0).astype(np.int64)
        return num_events_M

    @property
    def mean_M(self) -> Float64:
        """float64: mean of each column; NaN where nothing is known."""
        return _ratio(self.sum_UM.sum(axis=0), self.count_UM.sum(axis=0))

    @property
    def num_users_M(self) -> Int64:
        """int64: number of users with a known value."""
        num_users_M: Int64 = np.count_nonzero(self.count_UM, axis=0).astype(np.int64)
        return num_users_M

    @property
    def is_fit_M(self) -> NDArray[np.bool_]:
        """bool: whether there are users to resample, and nothing infinite."""
        return (self.num_users_M > 1) & np.isfinite(self.sum_UM).all(axis=0)


@dataclass(frozen=True)
class Intervals:
    """Means with the bounds of their confidence intervals, float64 [M]; NaN where there are none."""

    mean_M: Float64
    low_M: Float64
    high_M: Float64


def bootstrap(sums: UserSums, *, seed: int, num_resamples: int = NUM_RESAMPLES) -> Intervals:
    """95 % intervals of the means by drawing as many users as there are, with replacement: BCa intervals.

    Percentiles of the resampled means are corrected for bias and for acceleration (skewness), which matters for shares
    near 0 or 1 and for users of very different numbers of events: Efron, "Better bootstrap confidence intervals", JASA
    82, 1987; DiCiccio and Efron, "Bootstrap confidence intervals", Statistical Science 11(3), 1996. The acceleration is
    taken from the empirical influence of each user on the ratio, which needs no jackknife loop. Resamples in which
    no user has a value of a column are left out of that column. Where all users are alike, both bounds are the mean.
    """
    low_M, high_M = np.full((2, len(sums.mean_M)), np.nan)
    fit_M = np.flatnonzero(sums.is_fit_M)
    if fit_M.size:
        sum_UM, count_UM = sums.sum_UM[:, fit_M], sums.count_UM[:, fit_M]
        # Rankers of the same events have the same counts: a matrix product for each distinct column of them will do.
        count_UD, which_M = np.unique(count_UM, axis=1, return_inverse=True)
        which_M = which_M.reshape(-1)  # numpy 2.0.0 alone gives it two axes
        drawn = _draws(len(sum_UM), num_resamples, seed)
        chunks = [_ratio(drawn_RU @ sum_UM, (drawn_RU @ count_UD)[:, which_M]) for drawn_RU in drawn]
        mean_RM = np.concatenate(chunks)
        low_M[fit_M], high_M[fit_M] = _bca(mean_RM, sum_UM, count_UM)
    return Intervals(sums.mean_M, low_M, high_M)


def chunk_sizes(num_users: int, num_resamples: int) -> Iterator[int]:
    """Numbers of resamples to hold at once, `num_resamples` in all: bounds memory, whatever the number of users."""
    size = max(1, _ENTRIES_PER_CHUNK // max(1, num_users))
    for start in range(0, num_resamples, size):
        yield min(size, num_resamples - start)


def _draws(num_users: int, num_resamples: int, seed: int) -> Iterator[Float64]:
    """How often each user is drawn in each resample: float64 [R, U] of whole numbers that sum to U, in chunks."""
    rng = np.random.default_rng(seed)
    for num in chunk_sizes(num_users, num_resamples):
        drawn_RU = rng.integers(num_users, size=(num, num_users)) + num_users * np.arange(num)[:, None]
        count_X = np.bincount(drawn_RU.reshape(-1), minlength=num * num_users)
        yield count_X.reshape(num, num_users).astype(np.float64)


def _bca(mean_RM: Float64, sum_UM: Float64, count_UM: Float64) -> tuple[Float64, Float64]:
    """Bounds float64 [M] of the BCa interval; `mean_RM` are the resampled means, all of them."""
    observed_M = _ratio(sum_UM.sum(axis=0), count_UM.sum(axis=0))
    mean_RM = np.sort(mean_RM, axis=0)  # NaN, of resamples without a value, goes to the end
    num_M = np.count_nonzero(~np.isnan(mean_RM), axis=0)
    # Resamples equal to the observed mean count half on either side, or discrete means would seem biased.
    slack_M = _ROUND_OFF * np.abs(observed_M)
    num_below_M, num_not_above_M = (np.count_nonzero(mean_RM < observed_M + sign * slack_M, axis=0) for sign in (-1, 1))
    below_M = (num_below_M + num_not_above_M) / 2
    bias_M = _normal_quantile(np.clip(below_M / num_M, 0.5 / num_M, 1 - 0.5 / num_M))
    influence_UM = sum_UM - observed_M * count_UM
    spread_M = (influence_UM**2).sum(axis=0) ** 1.5
    acceleration_M = (influence_UM**3).sum(axis=0) / np.where(spread_M > 0, 6 * spread_M, 1.0)
    bounds = []
    for tail in _TAILS:
        shifted_M = bias_M + NormalDist().inv_cdf(tail)
        # The divisor is positive unless one user decides and there are millions of resamples.
        share_M = _normal_cdf(bias_M + shifted_M / np.maximum(1 - acceleration_M * shifted_M, 1e-3))
        bounds.append(_quantile(mean_RM, num_M, share_M))
    return bounds[0], bounds[1]


def _quantile(sorted_RM: Float64, num_M: NDArray[np.intp], share_M: Float64) -> Float64:
    """The quantile of each column's first `num_M` values, interpolated linearly: float64 [M]."""
    place_M = share_M * (num_M - 1)
    below_M = np.floor(place_M).astype(np.int64)
    above_M = np.minimum(below_M + 1, num_M - 1)
    column_M = np.arange(len(num_M))
    low_M, high_M = sorted_RM[below_M, column_M], sorted_RM[above_M, column_M]
    between_M: Float64 = low_M + (place_M - below_M) * (high_M - low_M)
    return between_M


def _ratio(sum_X: Float64, count_X: Float64) -> Float64:
    """Sum by count, NaN where the count is 0."""
    ratio_X: Float64 = np.divide(sum_X, count_X, out=np.full(sum_X.shape, np.nan), where=count_X > 0)
    return ratio_X


def _normal_cdf(z_M: Float64) -> Float64:
    return np.array([(1 + erf(z / 2**0.5)) / 2 for z in z_M.tolist()])


def _normal_quantile(share_M: Float64) -> Float64:
    return np.array([NormalDist().inv_cdf(share) for share in share_M.tolist()])
