"""Titles: made, cleaned, and made distinct."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

import jinja2
import jinja2.meta
import jinja2.sandbox
import polars as pl

from ..errors import CatalogueError

# Spaces and control characters, those for text direction included.
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2066-\u2069\ufeff]+")

_LIKELY = ("name", "title", "category")
_ADDED = re.compile(r"( \(.*\))*( \d+)?")  # what may have been added behind an item's own title


class TitleSettings(Protocol):
    """What titles depend on: `CatalogueSettings`, named by a protocol since those import this module."""

    @property
    def title(self) -> str | None: ...

    @property
    def title_attributes(self) -> list[str]: ...


def unique_titles(
    items: pl.DataFrame, settings: TitleSettings, previous: Mapping[str, str] | None = None,
    given: pl.Series | None = None,
) -> tuple[list[str], dict[str, int]]:  # fmt: skip
    """Give every item a title of its own, visibly and stably.

    Equal titles first get those attributes of the settings that differ among them (" (Brooklyn)"), then a number
    (" 2"); of those that only a number distinguishes, the first row keeps the bare title. A title that is unique by
    itself is never touched, also where it looks like a numbered one. Titles are compared after NFC, by case.

    An item keeps its previous title as long as the title that its columns give is the same but for what distinguishes
    it: adding items renames none, correcting an item's name does.

    `items` have `item_id`, and the columns that the template and the attributes name. `previous` are titles of an
    earlier catalogue by `item_id`; new items take none of them. `given` titles stand in for what the template would
    make; null where it makes one.

    Returns:
        Titles in the order of `items`, and counts: `cleaned` (of control characters, newlines, surplus spaces, other
        Unicode forms), `empty, item_id taken`, `distinguished by attribute`, `distinguished by number`, and against
        `previous`, `kept` and `renamed`.

    Raises CatalogueError: the template or an attribute names a column that items do not have, or the template fails.
    """
    counts: Counter[str] = Counter()
    ids = items["item_id"].to_list()
    bases = [_cleaned(text, item_id, counts) for text, item_id in zip(_bases(items, settings, given), ids, strict=True)]
    distinct = _with_attributes(items, bases, settings.title_attributes, counts)
    kept = _kept(ids, bases, previous or {}, counts)
    titles = _numbered(ids, distinct, kept, set((previous or {}).values()), counts)
    return titles, dict(counts)


def given_titles(items: pl.DataFrame, settings: TitleSettings) -> pl.Series | None:
    """The titles of items that are put into a catalogue, null where the template makes one.

    A given title is the item's title, unless the template itself names `title`: then it is a column like any other,
    out of which the template makes the title, as it does in the histories.
    """
    if "title" not in items.columns or "title" in _names(settings):
        return None
    titles = items["title"].cast(pl.String)
    return pl.Series([None if title is None or not _clean(title) else title for title in titles], dtype=pl.String)


def kept_titles(before: pl.DataFrame, items: pl.DataFrame, settings: TitleSettings) -> pl.Series:
    """The titles of items that get other values, null where the template makes one.

    An item keeps its title unless another one is given, or a column changes that the template names. `items` are those
    of `before` with their new values; `title` is null where none is given. Raises CatalogueError: the template names
    `title` and another column, which changes, but no title is given.
    """
    names, own, given = _names(settings), before["title"], given_titles(items, settings)
    changed = pl.Series([False]).new_from_index(0, items.height)
    for name in sorted(names & set(items.columns) - {"title"}):
        changed |= items[name].ne_missing(before[name]) if name in before.columns else items[name].is_not_null()
    if given is None:  # the template names it
        if (lacking := items["item_id"].filter(changed & items["title"].is_null())).len():
            raise CatalogueError(
                f"Titles are made of the columns {', '.join(sorted(names))}. If one of them changes, the column title "
                f"of the histories is needed too; add it for item {lacking[0]!r}."
            )
        changed |= items["title"].is_not_null() & (items["title"] != own)
    stays = pl.select(pl.when(~changed).then(own)).to_series()
    return stays if given is None else given.zip_with(given.is_not_null(), stays)


def _bases(items: pl.DataFrame, settings: TitleSettings, given: pl.Series | None) -> list[str]:
    """What titles are before they are made distinct."""
    if given is None:
        return _raw_titles(items, settings)
    made = iter(_raw_titles(items.filter(given.is_null()), settings) if given.null_count() else [])
    return [next(made) if title is None else title for title in given]


def _names(settings: TitleSettings) -> set[str]:
    """The columns that the template names."""
    if settings.title is None:
        return set()
    try:
        return jinja2.meta.find_undeclared_variables(jinja2.sandbox.SandboxedEnvironment().parse(settings.title))
    except jinja2.TemplateSyntaxError:  # said where titles are made
        return set()


def _raw_titles(items: pl.DataFrame, settings: TitleSettings) -> list[str]:
    if settings.title is None:
        column = "title" if "title" in items.columns else "item_id"
        return items[column].cast(pl.String).fill_null("").to_list()
    if "{{" not in settings.title and "{%" not in settings.title:
        some = "{{ " + next((name for name in _LIKELY if name in items.columns), "item_id") + " }}"
        raise CatalogueError(
            f"catalogue.title should name a column in double braces, such as {some!r}, but is "
            f"{settings.title!r}, so all items would have the same title."
        )
    environment = jinja2.sandbox.SandboxedEnvironment(undefined=jinja2.StrictUndefined, finalize=_text)
    try:
        template = environment.from_string(settings.title)
        rows = items.with_columns(pl.col(pl.String).fill_null("")).iter_rows(named=True)
        return [template.render(row) for row in rows]
    except jinja2.TemplateSyntaxError as error:
        problem = f"is no Jinja template ({error.message}); it reads {settings.title!r}"
    except jinja2.UndefinedError as error:
        problem = f"should name columns of the items ({', '.join(items.columns[:12])}) but {error.message}"
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        problem = f"cannot be rendered for the items ({error}); it reads {settings.title!r}"
    raise CatalogueError(f"catalogue.title {problem}.")


def _text(value: object) -> object:
    return "" if value is None else value


def _cleaned(text: str, item_id: str, counts: Counter[str]) -> str:
    if clean := _clean(text):
        counts["cleaned"] += clean != text
        return clean
    counts["empty, item_id taken"] += 1
    return _clean(item_id) or "untitled"


def _clean(text: str) -> str:
    # A control character or newline would end the title early where it is decoded.
    return _UNPRINTABLE.sub(" ", unicodedata.normalize("NFC", text)).strip()


def _with_attributes(items: pl.DataFrame, bases: list[str], attributes: list[str], counts: Counter[str]) -> list[str]:
    titles = pl.DataFrame({"base": bases, "title": bases})
    for name in attributes:
        if name not in items.columns:
            raise CatalogueError(
                f"catalogue.title_attributes names {name!r}, but items have only {', '.join(items.columns)}; fix it."
            )
        values = [_clean(value) for value in items[name].cast(pl.String).fill_null("")]
        shown = (pl.col("value").n_unique().over("title") > 1) & (pl.col("value") != "")
        longer = pl.when(shown).then(pl.format("{} ({})", "title", "value")).otherwise("title")
        titles = titles.with_columns(pl.Series("value", values)).select("base", longer.alias("title"))
    counts["distinguished by attribute"] += int((titles["base"] != titles["title"]).sum())
    return titles["title"].to_list()


def _kept(ids: list[str], bases: list[str], previous: Mapping[str, str], counts: Counter[str]) -> dict[str, str]:
    """Previous titles of items whose own title has not changed since."""
    kept: dict[str, str] = {}
    for item_id, base in zip(ids, bases, strict=True):
        title = previous.get(item_id)
        if title is not None and title.startswith(base) and _ADDED.fullmatch(title, len(base)):
            kept[item_id] = title
    counts["kept"] += len(kept)
    counts["renamed"] += sum(item_id in previous for item_id in ids) - len(kept)
    return kept


def _numbered(
    ids: list[str], distinct: list[str], kept: Mapping[str, str], reserved: set[str], counts: Counter[str]
) -> list[str]:
    """Numbers for what is still equal; no title of `distinct` or `reserved` is ever taken by a number."""
    forbidden = reserved | set(distinct)
    used = set(kept.values()) | reserved
    next_number: dict[str, int] = {}
    titles = []
    for item_id, title in zip(ids, distinct, strict=True):
        if item_id in kept:
            titles.append(kept[item_id])
            continue
        unique = title
        if title in used:
            number = next_number.get(title, 2)
            while (unique := f"{title} {number}") in forbidden or unique in used:
                number += 1
            next_number[title] = number + 1
            counts["distinguished by number"] += 1
        used.add(unique)
        titles.append(unique)
    return titles
