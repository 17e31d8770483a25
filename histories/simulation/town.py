"""A simulated town: people with known tastes choose by a softmax, so each probability is known at every event.

The utility of item i for person u at hour h, in rain or not, coming from place l, is

    taste_ui + appeal_i + hour_c(h) + weekend_c + rain_c - distance(l, i) / REACH_KM

for items of category c that are open, and minus infinity for others. The person chooses by p(i) = softmax of it
(McFadden, "Conditional logit analysis of qualitative choice behavior", 1974). A person starts each day at home and
comes from the last chosen place after that. Rain is drawn for each hour apart, so that earlier hours say nothing of it.

Shapes: U = people, I = items, R = days of people, T = hours of a day, S = hours of a week, H = hours of the town,
E = events.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ...arrays import Bool, Float64, Int64
from ..distance import distance_km, points
from .bounds import Bounds
from .scenes import SCENES, Category, Scene, SceneName

TownWeather = Literal["shown", "hidden", "shuffled"]
START: Final = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
LATITUDE: Final = 52.5
LONGITUDE: Final = 13.4
REACH_KM: Final = 0.5
RAIN_SHARE: Final = 0.35
_RADIUS_KM: Final = 3.0
_KM_PER_DEGREE: Final = 111.2
_TASTE_ITEM, _TASTE_CATEGORY, _APPEAL = 2.0, 1.0, 0.5  # standard deviations
_MOST_EVENTS: Final = 8  # of a person in a day
_BLOCK: Final = 50_000  # days of people whose utilities are held at once


class TownSettings(BaseModel):
    """What is simulated.

    Attributes:
        people, days: how many; the first day is 1 January 2024.
        scene: what there is to choose.
        seed: of everything random.
        anomalies: share of all events that other people did, who are no users themselves.
        weather: whether the table of weather is `shown`, `hidden` (there is none), or `shuffled`: the same weather at
            other hours, so that it says nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    people: int = Field(default=100, ge=2)
    days: int = Field(default=60, ge=2)
    scene: SceneName = "shopping"
    seed: int = Field(default=7, ge=0)
    anomalies: float = Field(default=0.0, ge=0, lt=0.5)
    weather: TownWeather = "shown"


@dataclass(frozen=True)
class Town:
    """Items, people and weather.

    Attributes:
        categories: of all items, one entry an item.
        titles: of all items.
        place_I2, home_U2: latitude and longitude in degrees.
        taste_UI: taste and appeal, the part of the utility that never changes.
        rains_H: whether it rains, of each hour from `START`.
        rate_U: mean events of a person in a day.
    """

    scene: Scene
    categories: list[Category]
    titles: list[str]
    place_I2: Float64
    home_U2: Float64
    taste_UI: Float64
    rains_H: Bool
    rate_U: Float64


@dataclass(frozen=True)
class Chosen:
    """Events of the town in the order of person and time: person, item, seconds from `START`, and what was known."""

    user_E: Int64
    item_E: Int64
    second_E: Int64
    bounds: Bounds


def build_town(settings: TownSettings, num_people: int, rng: np.random.Generator) -> Town:
    """Draw items, people and weather."""
    scene = SCENES[settings.scene]
    categories = [category for category in scene.categories for _ in category.titles]
    number_I = np.repeat(np.arange(len(scene.categories)), [len(one.titles) for one in scene.categories])
    num_items = len(categories)
    taste_UI = rng.normal(0, _TASTE_ITEM, (num_people, num_items))
    taste_UI += rng.normal(0, _TASTE_CATEGORY, (num_people, len(scene.categories)))[:, number_I]
    taste_UI += rng.normal(0, _APPEAL, num_items)
    return Town(
        scene=scene,
        categories=categories,
        titles=[title for category in scene.categories for title in category.titles],
        place_I2=_places(num_items, rng),
        home_U2=_places(num_people, rng),
        taste_UI=taste_UI,
        rains_H=rng.random(24 * settings.days) < RAIN_SHARE,
        rate_U=scene.events_per_day * rng.uniform(0.5, 1.5, num_people),
    )


def choose(town: Town, days: int, rng: np.random.Generator) -> Chosen:
    """Let everybody live through all days."""
    num_people = len(town.taste_UI)
    user_R, day_R = np.divmod(np.arange(num_people * days), days)
    parts = [
        _live(town, user_R[start : start + _BLOCK], day_R[start : start + _BLOCK], rng)
        for start in range(0, len(user_R), _BLOCK)
    ]
    user_E, item_E, second_E = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("user_E", "item_E", "second_E")
    )
    order_E = np.lexsort((second_E, user_E))
    bounds = Bounds.concatenated([part.bounds for part in parts]).take(order_E)
    return Chosen(user_E[order_E], item_E[order_E], second_E[order_E], bounds)


def _live(town: Town, user_R: Int64, day_R: Int64, rng: np.random.Generator) -> Chosen:
    """Days of people, all at once: the first event of each, then the second, and so on."""
    num_R = np.minimum(rng.poisson(town.rate_U[user_R]), _MOST_EVENTS)
    hour_RT = _hours(town, len(user_R), num_R, rng)
    home_UI, away_II = _distances(town)
    last_R = np.full(len(user_R), -1)
    steps = []
    for step in range(int(num_R.max(initial=0))):
        goes_E = np.flatnonzero(num_R > step)
        hour_E = 24 * day_R[goes_E] + hour_RT[goes_E, step]
        user_E, last_E = user_R[goes_E], last_R[goes_E]
        distance_EI = np.where((last_E < 0)[:, None], home_UI[user_E], away_II[last_E])
        steady_EI = town.taste_UI[user_E] + _of_hour(town, hour_E) - distance_EI / REACH_KM
        rain_I = np.array([category.rain for category in town.categories])
        dry_EI, wet_EI = _softmax(steady_EI), _softmax(steady_EI + rain_I)
        seen_EI = np.where(town.rains_H[hour_E][:, None], wet_EI, dry_EI)
        item_E = (rng.random(len(goes_E))[:, None] > seen_EI.cumsum(axis=1)).sum(axis=1)
        item_E = np.minimum(item_E, seen_EI.shape[1] - 1)
        blind_EI = RAIN_SHARE * wet_EI + (1 - RAIN_SHARE) * dry_EI
        second_E = 3600 * hour_E + rng.integers(0, 3600, len(goes_E))
        steps.append(Chosen(user_E, item_E, second_E, Bounds.of(seen_EI, blind_EI, item_E)))
        last_R[goes_E] = item_E
    user_E, item_E, second_E = (
        np.concatenate([np.zeros(0, np.int64), *(getattr(one, name) for one in steps)])
        for name in ("user_E", "item_E", "second_E")
    )
    return Chosen(user_E, item_E, second_E, Bounds.concatenated([one.bounds for one in steps]))


def _hours(town: Town, num_days: int, num_R: Int64, rng: np.random.Generator) -> Int64:
    """Distinct hours of a day, drawn by the rhythm; the first `num_R` of each row are in order: int64 [R, T]."""
    # The largest of weights and Gumbel noise are a sample without replacement (arXiv 1903.06059).
    key_RT = np.log(np.array(town.scene.rhythm)) + rng.gumbel(size=(num_days, 24))
    drawn_RT = np.argsort(-key_RT, axis=1)
    drawn_RT = np.where(np.arange(24) < num_R[:, None], drawn_RT, 24)
    return np.sort(drawn_RT, axis=1)


def _of_hour(town: Town, hour_E: Int64) -> Float64:
    """What hour and day of the week add to the utilities, minus infinity where closed: float64 [E, I]."""
    table_SI = np.empty((7 * 24, len(town.categories)))
    hour_S = np.arange(7 * 24)
    for item, category in enumerate(town.categories):
        apart_S = np.abs(hour_S % 24 - category.peak)
        apart_S = np.minimum(apart_S, 24 - apart_S)
        hourly_S = -0.5 * (apart_S / category.width_hours) ** 2
        hourly_S = np.maximum(hourly_S, -4.0) + np.where(hour_S // 24 >= 5, category.weekend, 0.0)
        table_SI[:, item] = np.where(_is_open(category, hour_S), hourly_S, -np.inf)
    return table_SI[hour_E % (7 * 24)]


def _is_open(category: Category, hour_S: Int64) -> Bool:
    """Whether it is open in hours since Monday 00:00; after midnight the hours of the day before count."""
    day_S, clock_S = hour_S // 24, hour_S % 24
    today_S = (day_S < category.days) & (clock_S >= category.opens) & (clock_S < category.closes)
    yesterday_S = (day_S + 6) % 7 < category.days
    is_open_S: Bool = today_S | (yesterday_S & (clock_S + 24 < category.closes))
    return is_open_S


def _distances(town: Town) -> tuple[Float64, Float64]:
    """Kilometres from homes to items [U, I] and between items [I, I]; 0 where the scene has no places."""
    if not town.scene.has_places:
        return np.zeros_like(town.taste_UI), np.zeros((len(town.titles), len(town.titles)))
    item_I3, home_U3 = (
        points(latitude=place_X2[:, 0], longitude=place_X2[:, 1]) for place_X2 in (town.place_I2, town.home_U2)
    )
    return distance_km(home_U3[:, None], item_I3), distance_km(item_I3[:, None], item_I3)


def _places(num: int, rng: np.random.Generator) -> Float64:
    """Places drawn evenly from a disc around the middle of the town: degrees, float64 [num, 2], to about 10 cm."""
    radius_X, angle_X = _RADIUS_KM * np.sqrt(rng.random(num)), 2 * np.pi * rng.random(num)
    latitude_X = LATITUDE + radius_X * np.sin(angle_X) / _KM_PER_DEGREE
    longitude_X = LONGITUDE + radius_X * np.cos(angle_X) / (_KM_PER_DEGREE * np.cos(np.radians(LATITUDE)))
    return np.stack([latitude_X, longitude_X], axis=1).round(6)


def _softmax(utility_EI: Float64) -> Float64:
    power_EI = np.exp(utility_EI - utility_EI.max(axis=1, keepdims=True))
    share_EI: Float64 = power_EI / power_EI.sum(axis=1, keepdims=True)
    return share_EI
