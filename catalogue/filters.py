"""Conditions that a request sets for its items: near here, of a category, open now, new to the user, listed.

An item is left in if it is *known* to fit: one without coordinates is not near, one without a category is of none, one
without readable opening hours is not open (unless `keep_unknown_hours`). How many were left out for that is said.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NaiveDatetime, ValidationError, model_validator

from ..arrays import Bool
from ..errors import CatalogueError
from .item_facts import ItemFacts
from .opening_hours import OPEN, UNKNOWN

NamesList = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]


class Filters(BaseModel):
    """Conditions that all hold for an allowed item; those left None or False are no conditions.

    Attributes:
        near_km, near_latitude, near_longitude: within so many kilometres of a place in degrees; all three or none.
        category: of one of these categories, whatever their case.
        open_at: open at this local time of the items' place, without an offset.
        keep_unknown_hours: with `open_at`, items whose state is then unknown stay.
        unseen: not in the history of the user, which the caller of `select_items` brings along.
        only: one of these item ids; an empty list allows nothing.
        exclude: none of these item ids.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    near_km: float | None = Field(None, gt=0, allow_inf_nan=False)
    near_latitude: float | None = Field(None, ge=-90, le=90)
    near_longitude: float | None = Field(None, ge=-180, le=180)
    category: NamesList | None = Field(None, min_length=1)
    open_at: NaiveDatetime | None = None
    keep_unknown_hours: bool = False
    unseen: bool = False
    only: NamesList | None = None
    exclude: NamesList = ()

    @model_validator(mode="after")
    def _place_is_whole(self) -> Self:
        near = (self.near_km, self.near_latitude, self.near_longitude)
        if len({value is None for value in near}) > 1:
            raise ValueError("should name near_km, near_latitude and near_longitude together or none of them")
        return self

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Filters:
        """Filters from untyped values, such as those of `flat`. Raises CatalogueError for one that cannot be."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
        name = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, cls.model_fields, n=1)
            known = f"did you mean {near[0]}?" if near else f"known are {', '.join(cls.model_fields)}."
            raise CatalogueError(f"There is no filter {name!r}; {known}")
        said = problem["msg"].removeprefix("Value error, ").removeprefix("Input ").removeprefix("Value ")
        which, found = (f" {name}", f" (found {repr(problem['input'])[:60]})") if name else ("s", "")
        raise CatalogueError(f"The filter{which} {said[:1].lower()}{said[1:]}{found}; correct it.")

    def flat(self) -> dict[str, str | int | float | list[str]]:
        """The conditions that are set, in strings, numbers and flat lists only; `read` gives the same filters again."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        return {name: int(value) if isinstance(value, bool) else value for name, value in values.items()}


@dataclass(frozen=True)
class Selection:
    """What filters leave of I items: `allowed_I` bool [I] by item index, and a sentence that says how it came about."""

    allowed_I: Bool
    reason: str

    @property
    def num_allowed(self) -> int:
        return int(np.count_nonzero(self.allowed_I))


def select_items(facts: ItemFacts, filters: Filters, seen_idx: NDArray[np.integer] | None = None) -> Selection:
    """Apply filters; `seen_idx` int [M] are the item indices of the user's history, for `unseen`.

    Counts of the sentence are those of the items that the filters before it left. Raises CatalogueError for a filter
    that needs a column which items do not have, an unknown category or item id; ValueError for `unseen` without
    `seen_idx`.
    """
    allowed_I = np.ones(facts.num_items, bool)
    parts = [f"Of {facts.num_items:,} item{'s' if facts.num_items != 1 else ''}"]
    left = facts.num_items
    for condition in _conditions(facts, filters, seen_idx):
        notes = [(np.count_nonzero(allowed_I & which_I), text) for which_I, text in condition.notes]
        allowed_I &= condition.fits_I
        if left == 0:
            continue
        left = int(np.count_nonzero(allowed_I))
        of_these = " of these" if len(parts) > 1 else ""
        counted = ", ".join(f"{count:,} {text}" for count, text in notes if count)
        known = f" ({counted})" if counted else ""
        num, verb = f"{left:,}" if left else "none", "are" if left > 1 else "is"
        parts.append(f"{num}{of_these} {verb} {condition.what}{known}")
    return Selection(allowed_I, ", ".join(parts) + "." if len(parts) > 1 else "")


@dataclass(frozen=True)
class _Condition:
    """`fits_I` bool [I]; `what` completes "are ..."; `notes`: items (bool [I]) of which nothing is known, in words."""

    fits_I: Bool
    what: str
    notes: tuple[tuple[Bool, str], ...] = ()


def _conditions(facts: ItemFacts, filters: Filters, seen_idx: NDArray[np.integer] | None) -> Iterator[_Condition]:
    if filters.near_km is not None and filters.near_latitude is not None and filters.near_longitude is not None:
        latitude, longitude, km = filters.near_latitude, filters.near_longitude, filters.near_km
        fits_I = facts.near(latitude=latitude, longitude=longitude, km=km)
        what = f"within {km:g} km of {latitude:.4f},{longitude:.4f}"
        yield _Condition(fits_I, what, ((~facts.places.known_I, "without coordinates"),))
    if filters.category is not None:
        fits_I, what = facts.in_category(filters.category), f"of category {_either(filters.category)}"
        yield _Condition(fits_I, what, ((facts.categories.code_I < 0, "without category"),))
    if filters.open_at is not None:
        yield _open(facts, filters.open_at, filters.keep_unknown_hours)
    if filters.unseen:
        if seen_idx is None:
            raise ValueError("the filter `unseen` needs the item indices of the user's history")
        yield _Condition(_without(facts.num_items, seen_idx), "new to this user")
    if filters.only is not None:
        yield _Condition(facts.listed(filters.only), f"among the {len(filters.only):,} listed")
    if filters.exclude:
        yield _Condition(~facts.listed(filters.exclude), f"not among the {len(filters.exclude):,} excluded")


def _open(facts: ItemFacts, local: datetime, keep_unknown: bool) -> _Condition:
    state_I = facts.states(local)
    unknown_I, absent_I, kept = state_I == UNKNOWN, facts.hours.code_I < 0, " and kept" if keep_unknown else ""
    fits_I = (state_I == OPEN) | unknown_I if keep_unknown else state_I == OPEN
    notes = (
        (absent_I, f"without opening hours{kept}"),
        (facts.unreadable_I, f"with opening hours that cannot be read{kept}"),
        (unknown_I & ~absent_I & ~facts.unreadable_I, f"with opening hours that do not say{kept}"),
    )
    return _Condition(fits_I, f"open at {local:%Y-%m-%d %H:%M} local time", notes)


def _without(num_items: int, item_idx: NDArray[np.integer]) -> Bool:
    if len(item_idx) and not 0 <= item_idx.min() <= item_idx.max() < num_items:
        raise ValueError(f"item indices should lie between 0 and {num_items - 1}")
    unseen_I = np.ones(num_items, bool)
    unseen_I[item_idx] = False
    return unseen_I


def _either(names: tuple[str, ...]) -> str:
    shown = names if len(names) <= 3 else (*names[:2], f"{len(names) - 2} others")
    return " or ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
