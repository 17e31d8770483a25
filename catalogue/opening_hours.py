"""Opening hours in OpenStreetMap's syntax, such as `Mo-Fr 09:00-17:00; Sa 10:00-14:00` or `Fr-Sa 20:00-02:00`.

Parsed by `opening-hours-py`, https://wiki.openstreetmap.org/wiki/Key:opening_hours/specification. Each distinct text
is parsed once and laid out once per local day; asking for a minute of that day is then a look-up.

Of what the text alone cannot say: public and school holidays (PH, SH) are days like others, and sunrise and sunset
stand at the library's fixed hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import CatalogueError

if TYPE_CHECKING:
    from opening_hours import OpeningHours

Int8 = NDArray[np.int8]

CLOSED, OPEN, UNKNOWN = 0, 1, 2
_STATES = {"closed": CLOSED, "open": OPEN, "unknown": UNKNOWN}
# Requests at one time lie on up to three local days around the world; the fourth is for the turn of a day.
_KEPT_DAYS = 4


@dataclass(frozen=True)
class _Day:
    """The changes of C states in a day, text by text: `ptr_D` int64 [D] where each text's begin (at minute 0)."""

    ptr_D: NDArray[np.int64]
    minute_C: NDArray[np.int16]
    state_C: Int8


class Timetable:
    """The opening hours of D distinct texts.

    Raises CatalogueError on first use where `opening-hours-py` is not installed.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self._days: dict[date, _Day] = {}

    @cached_property
    def unreadable_D(self) -> NDArray[np.bool_]:
        """bool [D]: which texts are no opening hours; their state is unknown at all times."""
        return np.array([hours is None for hours in self._hours_D], bool)

    def states(self, local: datetime) -> Int8:
        """int8 [D]: CLOSED, OPEN or UNKNOWN at a local time (naive; seconds do not count)."""
        day = self._days.get(local.date())
        if day is None:
            day = self._lay_out(local.date())
            self._days = dict([*self._days.items(), (local.date(), day)][-_KEPT_DAYS:])
        if not len(self.texts):
            return np.empty(0, np.int8)
        begun = np.add.reduceat(day.minute_C <= 60 * local.hour + local.minute, day.ptr_D, dtype=np.int64)
        state_D: Int8 = day.state_C[day.ptr_D + begun - 1]
        return state_D

    @cached_property
    def _hours_D(self) -> list[OpeningHours | None]:
        return [_parse(text.strip()) for text in self.texts]

    def _lay_out(self, day: date) -> _Day:
        changes_D = [_changes(hours, day) if hours else [(0, UNKNOWN)] for hours in self._hours_D]
        ptr_D1 = np.cumsum([0, *map(len, changes_D)], dtype=np.int64)
        minute_C, state_C = np.array([change for each in changes_D for change in each], np.int16).reshape(-1, 2).T
        return _Day(ptr_D1[:-1], minute_C, state_C.astype(np.int8))


def _parse(text: str) -> OpeningHours | None:
    try:
        from opening_hours import OpeningHours
    except ImportError:
        raise CatalogueError(
            "Opening hours need the package opening-hours-py, which is not installed: pip install 'whereupon[hours]'."
        ) from None
    try:
        return OpeningHours(text)
    except Exception:  # its parser's error class is not among the names that it declares
        return None


def _changes(hours: OpeningHours, day: date) -> list[tuple[int, int]]:
    """Minute of the day and new state, the first one at minute 0."""
    midnight = datetime.combine(day, time())
    end = midnight + timedelta(days=1) if day < date.max else datetime.max
    intervals = hours.intervals(midnight, end)
    return [(60 * start.hour + start.minute, _STATES[str(state)]) for start, _, state, _ in intervals] or [(0, CLOSED)]
