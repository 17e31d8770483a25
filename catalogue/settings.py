"""Settings of the catalogue: how items get their titles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import polars as pl


class CatalogueSettings(BaseModel):
    """How items are called.

    Attributes:
        title: Jinja template over an item's columns, such as `{{ category }}, {{ borough }}`; without it, the recipe's
            own template, else the column `title`, else the `item_id`.
        title_attributes: columns whose values are added in brackets to equal titles, in this order
            ("Bar (Brooklyn)"); titles that are still equal get a number ("Bar (Brooklyn) 2").
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str | None = None
    title_attributes: list[str] = []

    def recipe(self, default_title: str | None) -> dict[str, Any]:
        """What titles are made by, as JSON."""
        return {"title": self.title or default_title, "title_attributes": self.title_attributes}

    def make_titles(
        self, items: pl.DataFrame, *, default_title: str | None, previous: Mapping[str, str] | None
    ) -> tuple[list[str], dict[str, int]]:
        """Unique titles of `items`; see `unique_titles`."""
        from .titles import unique_titles

        settings = self if self.title else self.model_copy(update={"title": default_title})
        return unique_titles(items, settings, previous)
