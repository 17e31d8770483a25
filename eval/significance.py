"""Is one ranker better than another, or was it luck? Paired tests over users.

Rankers answer the same events, so they are compared event by event, and signs are flipped user by user, as users and
not events are independent (see `intervals`). Values that are NaN are unknown: an event counts in a comparison where
both rankers' values are known. Where one of them is infinite (log-loss of an event held impossible), or fewer than two
users are left, there is neither interval nor test: NaN.

Shapes: E = events, U = users, M = comparisons, R = rounds of flips, T = tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from ..arrays import Float64
from .intervals import NUM_RESAMPLES, UserSums, bootstrap, chunk_sizes
from .metrics import LOWER_IS_BETTER

NUM_FLIPS: Final = 100_000  # no p-value is below a hundred-thousandth: Holm's correction multiplies it by dozens
_ROUND_OFF: Final = 1e-12  # sums of the same numbers in another order differ by less, relative to their absolute values


def compare(
    values: Mapping[str, Mapping[str, Float64]], user_E: ArrayLike, *, baseline: str, seed: int,
    num_resamples: int = NUM_RESAMPLES,
) -> pl.DataFrame:  # fmt: skip
    """Every ranker against one of them, on each metric that both have.

    `values` are ranker -> metric -> each event's own value, float64 [E]. The correction is over all comparisons
    returned, so pass the metrics that you are going to show and no others. `user_E`, integers [E], is whose event it
    is; `seed` is that of draws and flips.

    Returns:
        Columns ranker, baseline, metric, mean, baseline_mean, difference (ranker - baseline), low, high, is_better
        (whether the ranker's mean is; lower ones are for log-loss), p, p_holm (see `holm`), num_events, num_users.
    """
    pairs = [
        (ranker, baseline, metric)
        for metric in values[baseline]
        for ranker, metrics in values.items()
        if ranker != baseline and metric in metrics
    ]
    both = [(values[ranker][metric], values[baseline][metric]) for ranker, _, metric in pairs]
    sums = UserSums.of((paired(ours_E, theirs_E) for ours_E, theirs_E in both), user_E)
    found = bootstrap(sums, seed=seed, num_resamples=num_resamples)
    mean_M = UserSums.of((_where_known(ours_E, theirs_E) for ours_E, theirs_E in both), user_E).mean_M
    base_M = UserSums.of((_where_known(theirs_E, ours_E) for ours_E, theirs_E in both), user_E).mean_M
    sign_M = np.array([-1.0 if metric in LOWER_IS_BETTER else 1.0 for _, _, metric in pairs])
    p_M = sign_flip(sums, seed=seed)
    names = pl.DataFrame(pairs, dict.fromkeys(("ranker", "baseline", "metric"), pl.String), orient="row")
    with np.errstate(invalid="ignore"):  # both may be infinite
        difference_M = mean_M - base_M
    return pl.DataFrame({
        **names.to_dict(), "mean": mean_M, "baseline_mean": base_M,
        "difference": difference_M, "low": found.low_M, "high": found.high_M,
        "is_better": sign_M * mean_M > sign_M * base_M, "p": p_M, "p_holm": holm(p_M),
        "num_events": sums.num_events_M, "num_users": sums.num_users_M,
    })  # fmt: skip


def paired(ours_E: Float64, theirs_E: Float64) -> Float64:
    """Each event's difference, float64 [E]: NaN where either is unknown; infinite where either is infinite, even both.

    Infinity less infinity would be NaN, and the event be left out as if unknown; so, the column is not tested.
    """
    with np.errstate(invalid="ignore"):
        difference_E = ours_E - theirs_E
    return np.where(np.isinf(ours_E) & np.isinf(theirs_E), np.inf, difference_E)


def sign_flip(differences: UserSums, *, seed: int, num_flips: int = NUM_FLIPS) -> Float64:
    """Two-sided p-value of "both rankers are equally good" for each column of paired differences: float64 [M].

    Were they equally good, the sign of each user's summed difference would be a coin toss. p is the share of rounds of
    tosses that give a sum at least as far from 0 as the observed one. The observed one counts as a round, so p is
    never 0 (Phipson and Smyth, "Permutation p-values should never be zero", Stat. Appl. Genet. Mol. Biol. 9(1), 2010).
    This is Fisher's randomisation test as recommended by Smucker, Allan and Carterette, "A comparison of statistical
    significance tests for information retrieval evaluation", CIKM 2007, with users in the place of queries. All columns
    share their tosses.
    """
    p_M = np.full(len(differences.num_events_M), np.nan)
    fit_M = np.flatnonzero(differences.is_fit_M)
    sum_UM = differences.sum_UM[:, fit_M]
    bound_M = np.abs(sum_UM.sum(axis=0)) - _ROUND_OFF * np.abs(sum_UM).sum(axis=0)
    num_extreme_M = np.ones(len(fit_M))
    for sign_RU in _signs(len(sum_UM), num_flips if fit_M.size else 0, seed):
        num_extreme_M += np.count_nonzero(np.abs(sign_RU @ sum_UM) >= bound_M, axis=0)
    p_M[fit_M] = num_extreme_M / (num_flips + 1)
    return p_M


def holm(p_T: Float64) -> Float64:
    """p-values corrected for how many they are, so that the chance of any false discovery keeps the level: float64 [T].

    The i-th smallest of T is multiplied by T - i + 1; none falls below a smaller one's, none exceeds 1. NaN stays
    NaN and does not count. Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6(2), 1979.
    """
    tested_T = np.flatnonzero(~np.isnan(p_T))
    order_T = tested_T[np.argsort(p_T[tested_T], kind="stable")]
    corrected_T = np.full(len(p_T), np.nan)
    factor_T = np.arange(len(order_T), 0, -1)
    corrected_T[order_T] = np.minimum(np.maximum.accumulate(factor_T * p_T[order_T]), 1.0)
    return corrected_T


def _signs(num_users: int, num_flips: int, seed: int) -> Iterator[Float64]:
    """Coin tosses, 1 or -1: float64 [R, U], in chunks."""
    rng = np.random.default_rng(seed)
    for num in chunk_sizes(num_users, num_flips):
        bytes_X = np.frombuffer(rng.bytes((num * num_users + 7) // 8), np.uint8)
        heads_RU = np.unpackbits(bytes_X, count=num * num_users).reshape(num, num_users)
        yield 2.0 * heads_RU.astype(np.float64) - 1.0


def _where_known(value_E: Float64, other_E: Float64) -> Float64:
    return np.where(np.isnan(other_E), np.nan, value_E)
