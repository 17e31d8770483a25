"""ST-CNN: a convolution over a map of the last hours says where the next hour's demand is; needs torch.

After Zhang, Zheng and Qi, "Deep spatio-temporal residual networks for citywide crowd flows prediction", AAAI 2017. The
map has cells and, in each, groups of categories. The network reads how many events each had in recent hours, a day and
a week ago, and the clock and the weather; it gives the shares of all cells and groups in the demand of that hour,
as a change of their shares in all. An item has the share of its cell and group, divided as in earlier splits.

All that is read of an hour had happened before the hour began, so that one map answers all questions of the hour.

Shapes: N = events (rows of the histories), M = events in the order of time, I = items, H = hours, F = frames of the
recent hours, G = groups, S = cells of the map (north times east), X = G * S slots, Y = features of an hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from ..arrays import Bool, Float64, Int64, ragged
from ..histories import Histories
from ..histories.candidates import EvaluatedSplit
from ..histories.distance import has_coordinates
from ..histories.questions import SPLIT_CODES
from ..histories.weather import WEATHER_COLUMNS
from .cached import cached
from .clock import HOURS_OF_WEEK, local_seconds, stream_of
from .popular import popular_shares
from .protocol import Arrays, Family, Fitted, Fitting, UnfitDataError, require

HOUR_S: Final = 3600
_INNER: Final = (0.01, 0.99)  # quantiles of the items' coordinates that the map spans; what is outside is at its edge
_WAVES: Final = ((24, 1), (24, 2), (24, 3), (168, 1), (168, 2))  # period in hours, and how many waves in it


@dataclass(frozen=True)
class MapSettings:
    """A map, the network that reads it, and its training; the grid names the fields that differ from these defaults.

    Attributes:
        cells: of the map, in each direction; groups: categories at most, the rarest together.
        hours: how many of the last hours are read one by one.
        hidden, layers: channels, and how many convolutions of 3 by 3 cells.
        learning_rate, weight_decay: of AdamW; a batch has `batch_size` hours.
        max_epochs, patience: training ends after so many epochs, or when so many in a row brought nothing better on the
            last tenth of the hours.
        epochs_unwatched: how many epochs where there are too few hours to hold some out.
    """

    cells: int = 12
    groups: int = 8
    hours: int = 6
    hidden: int = 16
    layers: int = 2
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    batch_size: int = 32
    max_epochs: int = 20
    patience: int = 3
    epochs_unwatched: int = 20

    @property
    def frames(self) -> list[tuple[int, int]]:
        """Spans of hours that are read, as hours back from the query's, first and last: F of them."""
        lately = [(back, back) for back in range(1, self.hours + 1)]
        return [*lately, (self.hours + 1, 24), (24, 24), (25, HOURS_OF_WEEK), (HOURS_OF_WEEK, HOURS_OF_WEEK)]


@dataclass(frozen=True)
class ItemMap:
    """Where items are: `slot_I` int64, group * S + cell, -1 without coordinates; `num_groups`, `cells` in a row."""

    slot_I: Int64
    num_groups: int
    cells: int

    @classmethod
    def of(cls, histories: Histories, split: EvaluatedSplit, settings: MapSettings) -> ItemMap:
        """By the items' coordinates, and the categories that are most frequent in earlier splits."""
        axis_2I = [histories.items[name].cast(pl.Float64).to_numpy() for name in ("latitude", "longitude")]
        placed_I: Bool = ~np.isnan(np.stack(axis_2I)).any(axis=0)
        cell_I = np.zeros(len(placed_I), np.int64)
        for value_I in axis_2I:
            first, last = np.quantile(value_I[placed_I], _INNER)
            place_I = (value_I - first) / max(last - first, 1e-9) * settings.cells
            cell_I = cell_I * settings.cells + np.clip(np.nan_to_num(place_I), 0, settings.cells - 1).astype(np.int64)
        group_I = _groups(histories, split, settings.groups)
        slot_I = np.where(placed_I, group_I * settings.cells**2 + cell_I, -1)
        return cls(slot_I, int(group_I.max(initial=0)) + 1, settings.cells)

    @property
    def num_slots(self) -> int:
        """X of the module's text."""
        return self.num_groups * self.cells**2

    def base(self, share_I: Float64) -> Float64:
        """Logarithm of the share of each slot among the items with coordinates, -inf without an item: float64 [X]."""
        placed_I = self.slot_I >= 0
        share_X = np.bincount(self.slot_I[placed_I], share_I[placed_I], self.num_slots)
        with np.errstate(divide="ignore"):
            log_X: Float64 = np.log(share_X / share_X.sum())
        return log_X

    def log_probs(self, log_HX: Float64, share_I: Float64) -> Float64:
        """Of items, by those of the slots and by the items' own shares: float64 [H, I]."""
        placed_I = self.slot_I >= 0
        share_X = np.bincount(self.slot_I[placed_I], share_I[placed_I], self.num_slots)
        log_I = np.log(share_I)
        log_I[placed_I] += np.log(share_I[placed_I].sum()) - np.log(share_X[self.slot_I[placed_I]])
        log_HI: Float64 = log_I + np.where(placed_I, log_HX[:, np.maximum(self.slot_I, 0)], 0.0)
        return log_HI


def _groups(histories: Histories, split: EvaluatedSplit, most: int) -> Int64:
    """A number for the category of each item, the most frequent first, all rare ones alike: int64 [I]."""
    if "category" not in histories.items.columns:
        return np.zeros(histories.items.height, np.int64)
    names = histories.items["category"].fill_null("").to_list()
    known = dict.fromkeys(names, 0.0)
    for name, share in zip(names, popular_shares(histories, split).tolist(), strict=True):
        known[name] += share
    order = {name: at for at, name in enumerate(sorted(known, key=lambda name: (-known[name], name)))}
    return np.array([min(order[name], most - 1) for name in names], np.int64)


@dataclass(frozen=True)
class Happened:
    """Events in the order of time: hour since 1970 `hour_M` int64 ascending and item `item_M` int64.

    `feature_MY` float64 is what the last event before an hour says of the hour: its weather, NaN where unknown, and in
    the last column how far its clock is ahead of UTC, in hours.
    """

    hour_M: Int64
    item_M: Int64
    feature_MY: Float64

    def take(self, chosen_M: Bool) -> Happened:
        """Some of the events."""
        return Happened(self.hour_M[chosen_M], self.item_M[chosen_M], self.feature_MY[chosen_M])

    def counts(self, hour_H: Int64, items: ItemMap, frames: list[tuple[int, int]]) -> Float64:
        """Events of each slot in each frame before each hour, as log(1 + n): float64 [H, F, X]."""
        slot_M, num_slots = items.slot_I[self.item_M], items.num_slots
        counts = np.empty((len(hour_H), len(frames), num_slots))
        for at, (first, last) in enumerate(frames):
            start_H = np.searchsorted(self.hour_M, hour_H - last)
            stop_H = np.maximum(np.searchsorted(self.hour_M, hour_H - first, side="right"), start_H)
            hour_Z, event_Z = ragged(start_H, stop_H - start_H)
            placed_Z = slot_M[event_Z] >= 0
            key_Z = hour_Z[placed_Z] * num_slots + slot_M[event_Z[placed_Z]]
            counts[:, at] = np.bincount(key_Z, minlength=len(hour_H) * num_slots).reshape(-1, num_slots)
        log_HFX: Float64 = np.log1p(counts)
        return log_HFX

    def features(self, hour_H: Int64, scale_2Y: Float64) -> Float64:
        """Clock and scaled weather of each hour, as of the last event before it: float64 [H, Y]."""
        last_H = np.searchsorted(self.hour_M, hour_H) - 1
        known_HY = np.full((len(hour_H), self.feature_MY.shape[1]), np.nan)
        known_HY[last_H >= 0] = self.feature_MY[last_H[last_H >= 0]]
        # Day 0, 1 January 1970, was a Thursday.
        clock_H = hour_H + 72 + np.nan_to_num(known_HY[:, -1])
        waves = [wave(2 * np.pi * num * clock_H / period) for period, num in _WAVES for wave in (np.sin, np.cos)]
        # Clipped: snow, and seasons that no learnt event had, would lead far from what was learnt.
        weather_HY = np.clip(np.nan_to_num((known_HY[:, :-1] - scale_2Y[0]) / scale_2Y[1]), -2, 2)
        return np.concatenate([np.stack(waves, axis=1), weather_HY], axis=1)

    def scale(self) -> Float64:
        """Mean and standard deviation of each column of weather: float64 [2, Y - waves], 0 and 1 where unknown."""
        weather_MY = self.feature_MY[:, :-1]
        num_Y = (~np.isnan(weather_MY)).sum(axis=0)
        mean_Y = np.nansum(weather_MY, axis=0) / np.maximum(num_Y, 1)
        spread_Y = np.sqrt(np.nansum((weather_MY - mean_Y) ** 2, axis=0) / np.maximum(num_Y, 1))
        return np.stack([mean_Y, np.where(spread_Y > 0, spread_Y, 1.0)])


@cached
def happened(known: Histories) -> Happened:
    """All shared events, see `Stream`."""
    stream = stream_of(known)
    present = [name for name in WEATHER_COLUMNS if name in known.events.columns and name != "condition"]
    columns = [known.events[name].cast(pl.Float64).to_numpy() for name in present]
    ahead_N = np.round((local_seconds(known.events) - known.time_s_N) / HOUR_S)
    return Happened(stream.time_N // HOUR_S, stream.item_N, np.stack([*columns, ahead_N], axis=1)[stream.row_N])


def learnt_from(histories: Histories, split: EvaluatedSplit) -> Happened:
    """The events of splits before `split`."""
    return happened(histories).take(histories.split_N[stream_of(histories).row_N] < SPLIT_CODES[split])


def _st_cnn(fitting: Fitting) -> Fitted:
    """Fitted on the splits before the evaluated one."""
    _check(fitting.histories)
    from .st_cnn_training import MapRanker, train

    settings = MapSettings(**fitting.settings)
    network = train(fitting.histories, fitting.split, settings, fitting.seed)
    return MapRanker.of(network, fitting.histories, fitting.split, settings)


def _restored(settings: Mapping[str, Any], arrays: Arrays, known: Histories, split: EvaluatedSplit) -> Fitted:
    _check(known)
    from .st_cnn_training import MapRanker, restored

    one = MapSettings(**settings)
    return MapRanker.of(restored(arrays, known, split, one), known, split, one)


def _check(histories: Histories) -> None:
    require("torch", "train", "ST-CNN")
    if not has_coordinates(histories.items):
        raise UnfitDataError(
            "The baseline 'ST-CNN' needs items with latitude and longitude, but none has both; add these columns to "
            "the items, or leave it out of evaluate.baselines."
        )


_GRID: Final = [{"cells": cells, "groups": groups} for cells in (8, 16) for groups in (8, 24)]
FAMILIES: Final = (Family("ST-CNN", _GRID, _st_cnn, _restored),)
