"""What there is in a simulated town: kinds of items, when they are open, when people want them, what rain changes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

SceneName = Literal["shopping", "music", "news", "health"]
_PLACES: Final = ("Old", "River", "Station", "Garden", "North", "Corner")
_DAYS: Final = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")


@dataclass(frozen=True)
class Category:
    """A kind of items.

    Attributes:
        name: of the category.
        titles: of its items.
        peak: hour of the day at which people want it most.
        width_hours: standard deviation of a Gaussian around the peak.
        rain: what rain adds to the utility of its items.
        weekend: what Saturday and Sunday add.
        opens, closes: hours of the day; `closes` is above 24 where it is after midnight. 0 and 24: always open.
        days: how many days of the week, from Monday on, it opens.
    """

    name: str
    titles: tuple[str, ...]
    peak: float
    width_hours: float
    rain: float
    weekend: float = 0.0
    opens: int = 0
    closes: int = 24
    days: int = 7

    @property
    def opening_hours(self) -> str:
        """In OpenStreetMap's syntax."""
        if (self.opens, self.closes, self.days) == (0, 24, 7):
            return "24/7"
        return f"Mo-{_DAYS[self.days - 1]} {self.opens:02}:00-{(self.closes - 1) % 24 + 1:02}:00"


@dataclass(frozen=True)
class Scene:
    """A town of one kind.

    Attributes:
        categories: what there is.
        rhythm: weight of each hour of the day at which people do something.
        events_per_day: mean number of events of a person in a day.
        has_places: whether items have coordinates, so that distance counts.
    """

    categories: tuple[Category, ...]
    rhythm: tuple[float, ...]
    events_per_day: float
    has_places: bool


def _rhythm(**weights: float) -> tuple[float, ...]:
    """Weights of 24 hours from `from_to` ranges, such as `h9_12=2.0`; other hours have 0.02."""
    hours = [0.02] * 24
    for name, weight in weights.items():
        first, last = (int(part) for part in name.removeprefix("h").split("_"))
        for hour in range(first, last):
            hours[hour] = weight
    return tuple(hours)


def _places(noun: str) -> tuple[str, ...]:
    return tuple(f"{place} {noun}" for place in _PLACES)


def _kinds(noun: str, *kinds: str) -> tuple[str, ...]:
    return tuple(f"{kind} {noun}" for kind in kinds)


SCENES: Final[Mapping[SceneName, Scene]] = {
    "shopping": Scene(
        (
            Category("bakery", _places("Bakery"), 8, 1.5, 0.0, 0.3, 6, 14),
            Category("cafe", _places("Cafe"), 11, 3.0, 0.8, 0.3, 7, 20),
            Category("market", _places("Market"), 10, 2.0, -3.5, 0.8, 7, 16),
            Category("mall", _places("Mall"), 16, 3.0, 2.5, 0.4, 9, 21, 6),
            Category("park", _places("Park"), 15, 3.0, -4.0, 0.8),
            Category("cinema", _places("Cinema"), 20, 2.0, 2.5, 0.5, 14, 25),
            Category("restaurant", _places("Restaurant"), 19, 2.0, 0.0, 0.2, 11, 24),
            Category("bar", _places("Bar"), 23, 2.0, 0.0, 0.6, 18, 26),
        ),
        _rhythm(h7_10=1.0, h10_17=0.7, h17_21=1.2, h21_24=0.5), 2.5, has_places=True,
    ),
    "music": Scene(
        (
            Category("focus", _kinds("for work", "Piano", "Ambient", "Strings", "Minimal"), 10, 3.0, 0.5, -1.0),
            Category("commute", _kinds("on the way", "Pop", "Indie", "Soul", "Funk"), 8, 1.5, 0.0, -1.0),
            Category("sun", _kinds("in the sun", "Reggae", "Samba", "Surf", "Disco"), 15, 4.0, -3.0, 0.5),
            Category("rain", _kinds("for rainy days", "Jazz", "Blues", "Folk", "Fado"), 17, 5.0, 3.0),
            Category("party", _kinds("party", "House", "Techno", "Hip-hop", "Rock"), 22, 2.0, 0.0, 1.5),
            Category("sleep", _kinds("to fall asleep", "Cello", "Harp", "Choir", "Waves"), 23, 1.5, 0.3),
        ),
        _rhythm(h7_9=1.5, h9_17=0.7, h17_24=1.0), 4.0, has_places=False,
    ),
    "news": Scene(
        (
            Category("front page", _kinds("headlines", "World", "Country", "Town", "Evening"), 7, 1.5, 0.0),
            Category("business", _kinds("report", "Market", "Trade", "Housing", "Labour"), 9, 2.0, 0.0, -1.5),
            Category("sport", _kinds("results", "Football", "Tennis", "Cycling", "Athletics"), 19, 3.0, -0.5, 1.2),
            Category("weather", _kinds("warning", "Storm", "Flood", "Traffic", "Ferry"), 8, 4.0, 3.0),
            Category("outdoors", _kinds("guide", "Garden", "Hiking", "Beach", "Picnic"), 13, 4.0, -2.5, 1.0),
            Category("culture", _kinds("review", "Film", "Book", "Theatre", "Music"), 20, 2.5, 1.0, 0.6),
        ),
        _rhythm(h6_9=2.0, h9_12=0.7, h12_14=1.2, h14_18=0.5, h18_22=1.2), 3.5, has_places=False,
    ),
    "health": Scene(
        (
            Category("running track", _places("Track"), 7, 2.0, -3.0, 0.5),
            Category("gym", _places("Gym"), 18, 2.5, 1.5, 0.0, 6, 23),
            Category("swimming pool", _places("Pool"), 15, 3.0, 0.5, 0.6, 7, 21),
            Category("yoga studio", _places("Yoga Studio"), 19, 1.5, 0.8, -0.3, 9, 21, 6),
            Category("pharmacy", _places("Pharmacy"), 11, 3.0, 0.0, -0.5, 8, 19, 6),
            Category("clinic", _places("Clinic"), 10, 2.0, 0.0, -2.0, 8, 17, 5),
            Category("cycle path", _places("Cycle Path"), 17, 3.0, -2.5, 0.8),
        ),
        _rhythm(h6_9=1.5, h9_16=0.7, h16_21=1.3), 1.5, has_places=True,
    ),
}  # fmt: skip
"""Scenes by name. At every hour some category is open."""
