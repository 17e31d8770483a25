"""The context's numbers, selected and scaled for rankers that read them: weather, and further columns of the events.

Mean and spread, principal components (Hotelling, "Analysis of a complex of statistical variables into principal
components", Journal of Educational Psychology 24, 1933) and what the next choice has to do with each column are of
events in earlier splits alone.

Shapes: see `arrays`; W = columns, D = what is made of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import polars as pl

from ..arrays import Bool, Float64, Int64
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.information import Information, information, whole_users
from ..histories.questions import SPLIT_CODES
from ..histories.weather import WEATHER_COLUMNS
from .cached import cached
from .clock import DAY_S, is_weekend, local_seconds

Numbers = Literal["standard", "min-max", "informative", "components"]
"""What a ranker makes of them: every column, less its mean and divided by its standard deviation; every column, less
its mean and divided by its range; as the first, but only columns that say more of the next choice than 99 columns of
chance; or the principal components of all columns, each of variance 1."""

LEAST_VARIANCE: Final = 0.05  # of a component that is kept, where each column has 1
_SURE: Final = 0.01  # the p-value of a column that says more than each of 99 shuffled ones
_SEED: Final = 0  # of the shuffles: a column is chosen whatever the seed of a ranker


def number_columns(known: Histories) -> tuple[str, ...]:
    """The context's columns of numbers, the weather first."""
    schema = known.events.schema
    named = dict.fromkeys((*WEATHER_COLUMNS, *known.manifest.get("context_columns", [])))
    return tuple(name for name in named if name in schema and schema[name].is_numeric())


def number_values(histories: Histories, names: tuple[str, ...]) -> Float64:
    """float64 [N, W]; NaN where there is no number, which a request may lack."""
    value_NW = np.full((histories.events.height, len(names)), np.nan)
    for at, name in enumerate(names):
        if name in histories.events.columns and (column := histories.events[name]).dtype.is_numeric():
            value_NW[:, at] = column.cast(pl.Float64).to_numpy()  # NaN for null
    return value_NW


@dataclass(frozen=True)
class Scaling:
    """(value - centre) * scale, `centre_W` and `scale_W` float64, and then `turn_WD` where there is one, in which what
    is unknown is 0, the mean."""

    names: tuple[str, ...]
    centre_W: Float64
    scale_W: Float64
    turn_WD: Float64 | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the D numbers."""
        if self.turn_WD is None:
            return self.names
        return tuple(f"component {number}" for number in range(1, self.turn_WD.shape[1] + 1))

    def of(self, value_XW: Float64) -> Float64:
        """What is made of values in the order of `names`: float64 [X, D]; without a turn, NaN where unknown."""
        scaled_XW: Float64 = (value_XW - self.centre_W) * self.scale_W
        return scaled_XW if self.turn_WD is None else np.nan_to_num(scaled_XW) @ self.turn_WD


@cached
def scaling(known: Histories, split: EvaluatedSplit | None, numbers: Numbers) -> Scaling:
    """By the events of splits before `split`; None: by all events."""
    names = number_columns(known) if numbers != "informative" else informative_columns(known, split)
    value_NW = number_values(known, names)[_earlier(known, split)]
    known_NW = ~np.isnan(value_NW)
    num_W = np.maximum(known_NW.sum(axis=0), 1)
    mean_W = np.where(known_NW, value_NW, 0).sum(axis=0) / num_W
    centred_NW = np.where(known_NW, value_NW - mean_W, 0.0)
    spread_W = np.sqrt((centred_NW**2).sum(axis=0) / num_W)
    if numbers == "min-max":
        spread_W = centred_NW.max(axis=0, initial=0.0) - centred_NW.min(axis=0, initial=0.0)
    scale_W = 1 / np.where(spread_W > 0, spread_W, 1.0)
    if numbers != "components":
        return Scaling(names, mean_W, scale_W)
    variance_D, turn_WD = principal_components(centred_NW * scale_W)
    held_D = variance_D > LEAST_VARIANCE
    return Scaling(names, mean_W, scale_W, turn_WD[:, held_D] / np.sqrt(variance_D[held_D]))


def principal_components(scaled_NW: Float64) -> tuple[Float64, Float64]:
    """Variances, the largest first, float64 [D], and loadings, float64 [W, D], of columns of mean 0.

    Each component has the sign with which its greatest loading is above 0.
    """
    variance_D, turn_WD = np.linalg.eigh(scaled_NW.T @ scaled_NW / max(len(scaled_NW), 1))
    turn_WD = turn_WD[:, ::-1]
    if turn_WD.size:
        turn_WD = turn_WD * np.sign(np.take_along_axis(turn_WD, np.abs(turn_WD).argmax(axis=0)[None], axis=0))
    return variance_D[::-1], turn_WD


@cached
def informative_columns(known: Histories, split: EvaluatedSplit | None) -> tuple[str, ...]:
    """Columns that say more of the next category (of the next item, where there are no categories) than chance does."""
    of: Literal["item", "category"] = "category" if "category" in known.items.columns else "item"
    return tuple(one.name for one in number_information(known, split, of) if one.p_value <= _SURE)


def number_information(
    known: Histories, split: EvaluatedSplit | None, of: Literal["item", "category"]
) -> list[Information]:  # fmt: skip
    """What each column of numbers says of the next choice given the user's routine, in events of earlier splits.

    A routine is a user, a kind of day and a quarter of the day: what a column says of the clock alone does not count.
    """
    events = whole_users(known.events.filter(_earlier(known, split)), _SEED)
    local_N = local_seconds(events)
    quarter_N = is_weekend(local_N).astype(np.int64) * 4 + local_N % DAY_S // (DAY_S // 4)
    routine_N: Int64 = events["user_idx"].to_numpy().astype(np.int64) * 8 + quarter_N
    chosen_N = events["item_idx"].to_numpy().astype(np.int64)
    if of == "category":
        chosen_N = known.items["category"].rank("dense").fill_null(0).to_numpy().astype(np.int64)[chosen_N]
    if not events.height:
        return []
    return information(events.select(number_columns(known)), routine_N, chosen_N, _SEED)


def _earlier(known: Histories, split: EvaluatedSplit | None) -> Bool:
    earlier_N: Bool = known.shared_N if split is None else known.split_N < SPLIT_CODES[split]
    return earlier_N
