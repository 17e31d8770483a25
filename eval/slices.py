"""For which events is a ranker good? Events divided by time, weather, distance, user and item.

A slice divides the evaluated events by one property into values, in a fixed order; `unknown` is a value of its own.
Properties may be outcomes that no ranker was shown (the distance moved, whether the item is new): they say where it
fails, not what it knew. Data without what a slice needs has no such slice.

Shapes: E = evaluated events, N = rows of the histories, I = items.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..arrays import Bool, Float64, Int64
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.distance import PlacesOnSphere, has_coordinates
from ..histories.questions import num_previous
from ..prompts.context import DAYPARTS, SEASONS, TEMPERATURE_WORDS, WINDY_MPS
from ..rankers.cached import cached
from .beyond_accuracy import earlier_counts

UNKNOWN: Final = "unknown"
_KM: Final = (0.1, 1.0, 5.0, 20.0)
_ACTIVITY: Final = (1, 5, 10, 20, 50, 100)
_WET: Final = {"precipitation_mm": 0.2, "snowfall_cm": 0.0}  # more counts as rain or snow in a prompt, too
_MOST_CONDITIONS: Final = 8
_OTHER: Final = "other"
_POPULARITY: Final = ("head", "torso", "tail", "unseen")


def slices_of(histories: Histories, split: EvaluatedSplit, row_E: Int64) -> pl.DataFrame:
    """To which value of each slice an event belongs: a row an event, a column a slice, Enum in the order to be shown.

    `daypart`, `week`, `season`: of local time (seasons of the northern hemisphere), as prompts name them.
    `weather` (wet: more than 0.2 mm of rain or any snow), `temperature`, `wind`, `condition` (the commonest).
    `distance`: from the user's last event to the true item, in km.
    `activity`: number of the user's earlier events.
    `user`: new without any event in the train split.
    `item`: new if no user had an event of it before, in time (of others, only what `Histories.shared_N` lets count).
    `popularity`: of the item in earlier splits, see `_popularity`.
    `visit`: whether it is the user's first event of the item.
    `followed`: whether the true item directly followed the user's last one anywhere in the train split, so that one
    remembered move leads to it (arXiv 2606.17276).

    `row_E` are int64 [E], rows of events of `split`; popularity is counted in earlier splits.
    """
    found = [*_of_time(histories, row_E), *_of_weather(histories.events[row_E]), *_of_place(histories, row_E)]
    user_E, item_E = histories.user_idx_N[row_E], histories.item_idx_N[row_E]
    num_trained_U = np.bincount(histories.user_idx_N[histories.split_N == 0], minlength=len(histories.user_ids))
    first_visit_E = first_visits(histories)[row_E]
    first_s_I, shared_N = np.full(histories.items.height, np.iinfo(np.int64).max), histories.shared_N
    np.minimum.at(first_s_I, histories.item_idx_N[shared_N], histories.time_s_N[shared_N])
    new_item_E = first_visit_E & (first_s_I[item_E] >= histories.time_s_N[row_E])
    popularity_E = _popularity(earlier_counts(histories, split))[item_E]
    activity = ["0", *(f"{low} to {high - 1}" for low, high in pairwise(_ACTIVITY)), f"{_ACTIVITY[-1]} and more"]
    found += [
        _banded("activity", num_previous(histories)[row_E].astype(np.float64), _ACTIVITY, activity),
        _coded("user", (num_trained_U[user_E] > 0).astype(np.int64), ("new", "known")),
        _coded("item", 1 - new_item_E, ("new", "known")),
        _coded("popularity", popularity_E, _POPULARITY),
        _coded("visit", 1 - first_visit_E, ("first", "repeat")),
        _coded("followed", _followed(histories, row_E), ("yes", "no")),
    ]
    return pl.DataFrame(found)


def _of_time(histories: Histories, row_E: Int64) -> Iterator[pl.Series]:
    local = histories.events["local_time"].gather(row_E)
    part = local.dt.hour().cast(pl.Int64) // 6
    if "hour_known" in histories.events.columns:
        part = part.set(~histories.events["hour_known"].gather(row_E).fill_null(True), -1)
    yield _coded("daypart", part.to_numpy(), DAYPARTS)
    yield _coded("week", (local.dt.weekday() >= 6).cast(pl.Int64).to_numpy(), ("weekday", "weekend"))
    yield _coded("season", (local.dt.month().cast(pl.Int64) % 12 // 3).to_numpy(), SEASONS)


def _of_weather(events: pl.DataFrame) -> Iterator[pl.Series]:
    known = {name for name in events.columns if events[name].null_count() < events.height}
    fall = [pl.col(name) > bound for name, bound in _WET.items() if name in known]
    if fall:
        wet = events.select(pl.any_horizontal(fall)).to_series()
        yield _coded("weather", wet.cast(pl.Int64).fill_null(-1).to_numpy(), ("dry", "wet"))
    if "temperature_c" in known:
        bounds_c = [bound for bound, _ in TEMPERATURE_WORDS]
        words = [*(word for _, word in TEMPERATURE_WORDS), "hot"]
        names = [f"{word} ({range_})" for word, range_ in zip(words, _ranges(bounds_c, "°C"), strict=True)]
        yield _banded("temperature", _floats(events["temperature_c"]), bounds_c, names)
    if "wind_mps" in known:
        yield _banded("wind", _floats(events["wind_mps"]), [WINDY_MPS], ("calm", "windy"))
    if "condition" in known:
        yield _condition(events["condition"])


def _condition(condition: pl.Series) -> pl.Series:
    """The commonest; what the user's table calls "unknown" is not known, and what it calls "other" is of the rest."""
    condition = condition.replace(UNKNOWN, None)
    counted = condition.drop_nulls().value_counts().sort("count", "condition", descending=[True, False])
    names = counted.filter(pl.col("condition") != _OTHER)["condition"].head(_MOST_CONDITIONS).to_list()
    code_E = condition.replace_strict(names, range(len(names)), default=len(names), return_dtype=pl.Int64).to_numpy()
    rest = [_OTHER] if counted.height > len(names) else []
    return _coded("condition", np.where(condition.is_null().to_numpy(), -1, code_E), [*names, *rest])


def _of_place(histories: Histories, row_E: Int64) -> Iterator[pl.Series]:
    """Distance by the coordinates of items; where they have none, by those of events, if those are the items'."""
    if has_coordinates(histories.items):
        places, place_N = PlacesOnSphere.of(histories.items), histories.item_idx_N.astype(np.int64)
    elif histories.location == "outcome" and has_coordinates(histories.events):
        places, place_N = PlacesOnSphere.of(histories.events), np.arange(len(histories.item_idx_N))
    else:
        return
    has_past_E = num_previous(histories)[row_E] > 0
    km_E = places.km(np.where(has_past_E, place_N[row_E - 1], -1), place_N[row_E])
    yield _banded("distance", km_E, _KM, _ranges(_KM, "km"))


def _popularity(count_I: Int64) -> Int64:
    """Code into `_POPULARITY` of each item: int64 [I].

    The head are the most popular items that have a third of all events between them, the torso those of the second
    third, the tail all others with any event. Equally popular items are never parted: they belong where the first of
    them, in order of popularity, begins.
    """
    order_I = np.argsort(-count_I, kind="stable")
    sorted_I = count_I[order_I]
    before_I = np.cumsum(sorted_I) - sorted_I
    first_I = np.searchsorted(-sorted_I, -sorted_I, side="left")  # where one's equals begin
    code_I = np.empty(len(count_I), np.int64)
    code_I[order_I] = np.where(sorted_I == 0, 3, np.minimum(3 * before_I[first_I] // max(1, count_I.sum()), 2))
    return code_I


def _followed(histories: Histories, row_E: Int64) -> Int64:
    """int64 [E]: 0 where a user went from the last item of the event's user to its item in train, 1 where none did, -1
    where there is no last item."""
    has_past_N, item_N = num_previous(histories) > 0, histories.item_idx_N.astype(np.int64)
    move_N = np.roll(item_N, 1) * histories.items.height + item_N
    is_train_N = histories.split_N == 0
    known = np.unique(move_N[has_past_N & is_train_N & np.roll(is_train_N, 1)])
    return np.where(has_past_N[row_E], 1 - np.isin(move_N[row_E], known), -1)


@cached
def first_visits(histories: Histories) -> Bool:
    """bool [N]: whether the user has no earlier row of the item."""
    key_N = histories.user_idx_N.astype(np.int64) * histories.items.height + histories.item_idx_N
    is_first_N = np.zeros(len(key_N), bool)
    is_first_N[np.unique(key_N, return_index=True)[1]] = True
    return is_first_N


def _ranges(bounds: Sequence[float], unit: str) -> list[str]:
    """ "below 1 km", "1 to 5 km", "5 km and more"; a bound belongs to what is above it."""
    between = [f"{low:g} to {high:g} {unit}" for low, high in pairwise(bounds)]
    return [f"below {bounds[0]:g} {unit}", *between, f"{bounds[-1]:g} {unit} and more"]


def _banded(name: str, value_E: Float64, bounds: Sequence[float], names: Sequence[str]) -> pl.Series:
    code_E = np.searchsorted(bounds, value_E, side="right")
    return _coded(name, np.where(np.isnan(value_E), -1, code_E), names)


def _coded(name: str, code_E: NDArray[np.integer], names: Sequence[str]) -> pl.Series:
    """Codes, -1 for unknown, as an Enum of the names and then `unknown`."""
    shifted_E = np.where(code_E < 0, len(names), code_E).astype(np.uint32)
    return pl.Series(name, shifted_E).cat.to(pl.Enum([*names, UNKNOWN]))


def _floats(column: pl.Series) -> Float64:
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy()
