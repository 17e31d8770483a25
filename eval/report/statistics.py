"""Intervals and tests of whatever the report shows: a thin layer over `significance`, column by column.

A column is each event's own value, float64 [E], NaN where it does not belong (to a slice, to a day). All columns of a
call share their resamples and, as tests, their correction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from ...arrays import Bool, Float64
from ..intervals import UserSums, bootstrap
from ..significance import holm, paired, sign_flip

Key = TypeVar("Key", bound=Hashable)
Cell = tuple[str, str]  # a property of events, and one of its values

ALPHA: Final = 0.05  # corrected p-values below this bear a mark
LEVEL_TEXT: Final = "95\N{NARROW NO-BREAK SPACE}%"
DRAWS: Final = 10_000
FEW_DRAWS: Final = 2_000  # for pictures of many columns, where a third decimal cannot be seen
FEWEST_EVENTS: Final = 20  # of a slice that is tested, and of a day that is drawn: of fewer, an interval says nothing


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval over users (NaN where there is none), and what it is the mean of."""

    mean: float
    low: float
    high: float
    num_events: int
    num_users: int

    @property
    def has_interval(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def is_finite(self) -> bool:
        """Whether it can be drawn: a log-loss may be infinite, and a mean over nothing is NaN."""
        return math.isfinite(self.mean)

    @property
    def top(self) -> float:
        """The largest number that a picture of it must show; 0 if it cannot be drawn."""
        return max(self.mean, self.high) if self.has_interval else self.mean if self.is_finite else 0.0


@dataclass(frozen=True)
class Difference(Estimate):
    """A mean paired difference; `p` of no difference, `p_holm` the same corrected for all tests of the call."""

    p: float
    p_holm: float

    @property
    def sign(self) -> int:
        """1 significantly more, -1 significantly less, 0 neither."""
        return int(np.sign(self.mean)) if self.p_holm < ALPHA else 0


def estimates(
    keys: Collection[Key], column: Callable[[Key], Float64], user_E: ArrayLike, seed: int, draws: int = DRAWS
) -> dict[Key, Estimate]:
    """Mean and interval of the column of each key, by bootstrap over users; columns are made one by one."""
    return _estimates(keys, UserSums.of(map(column, keys), user_E), seed, draws)


def differences(
    keys: Collection[Key], column: Callable[[Key], Float64], user_E: ArrayLike, seed: int, draws: int = DRAWS
) -> dict[Key, Difference]:
    """The same for columns of paired differences, with a randomisation test each and Holm's correction over all."""
    sums = UserSums.of(map(column, keys), user_E)
    found, p_M = _estimates(keys, sums, seed, draws), sign_flip(sums, seed=seed)
    tested = zip(found.items(), p_M.tolist(), holm(p_M).tolist(), strict=True)
    return {key: Difference(**vars(one), p=p, p_holm=corrected) for (key, one), p, corrected in tested}


def _estimates(keys: Collection[Key], sums: UserSums, seed: int, draws: int) -> dict[Key, Estimate]:
    found = bootstrap(sums, seed=seed, num_resamples=draws)
    columns = (found.mean_M, found.low_M, found.high_M, sums.num_events_M, sums.num_users_M)
    rows = zip(*(column_M.tolist() for column_M in columns), strict=True)
    return {key: Estimate(*row) for key, row in zip(keys, rows, strict=True)}


def among(value_E: Float64, mask_E: Bool) -> Float64:
    """The column of some events alone."""
    return np.where(mask_E, value_E, np.nan)


def cells_of(slices: pl.DataFrame) -> tuple[list[Cell], int]:
    """The slices that divide the events with their values in the order of the Enums, and how many values are left out
    for having fewer than `FEWEST_EVENTS` events.
    """
    divided = [name for name in slices.columns if slices[name].n_unique() > 1]
    counted = [(name, *row) for name in divided for row in slices[name].value_counts().sort(name).iter_rows()]
    cells = [(name, str(value)) for name, value, num_events in counted if num_events >= FEWEST_EVENTS]
    return cells, len(counted) - len(cells)


def compared(
    ours_E: Float64, theirs_E: Float64 | None, slices: pl.DataFrame, user_E: ArrayLike, seed: int, draws: int = DRAWS
) -> tuple[dict[Cell, tuple[Estimate, Estimate | None, Difference | None]], int]:
    """Both rankers' means in each cell and their difference, None without the other; and how many cells are left out.

    Tests are corrected over all cells.
    """
    cells, num_thin = cells_of(slices)

    def cut(value_E: Float64) -> Callable[[Cell], Float64]:
        return lambda cell: among(value_E, (slices[cell[0]] == cell[1]).to_numpy())

    ours = estimates(cells, cut(ours_E), user_E, seed, draws)
    theirs = {} if theirs_E is None else estimates(cells, cut(theirs_E), user_E, seed, draws)
    tests = {} if theirs_E is None else differences(cells, cut(paired(ours_E, theirs_E)), user_E, seed, draws)
    return {cell: (ours[cell], theirs.get(cell), tests.get(cell)) for cell in cells}, num_thin
