"""Which column of a table is the user, the item, the time and so on: by its name, then by what is in it."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

_SAME: Final = re.compile(r"[^a-z0-9]")
# Our field -> names of its column in known data sets, without case and punctuation, likeliest first.
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "user_id": (
        "userid", "user", "uid", "customerid", "customer", "visitorid", "memberid", "personid", "reviewerid",
        "accountid", "playerid", "clientid", "username", "profileid", "deviceid", "subscriberid", "sessionid", "u",
    ),
    "item_id": (
        "itemid", "item", "iid", "movieid", "venueid", "venue", "locationid", "businessid", "parentasin", "asin",
        "isbn", "productid", "articleid", "poiid", "poi", "placeid", "bookid", "songid", "trackid", "artistid",
        "gameid", "appid", "newsid", "videoid", "recipeid", "streamid", "sku", "productcode", "stockcode", "location",
        "product", "i",
    ),
    "time": (
        "time", "timestamp", "unixreviewtime", "datetime", "eventtime", "utctime", "checkintime", "createdat", "tdat",
        "orderdate", "invoicedate", "visittime", "ts", "date", "reviewtime", "unixtime", "localtime", "t",
    ),
    "latitude": ("latitude", "lat", "venuelat", "venuelatitude", "y"),
    "longitude": ("longitude", "lon", "lng", "long", "venuelon", "venuelng", "venuelongitude", "x"),
    "utc_offset_minutes": ("utcoffsetminutes", "utcoffset", "timezoneoffset", "tzoffset", "offset", "timezone"),
    "value": ("value", "rating", "stars", "score", "overall", "bookrating", "playcount", "quantity"),
    "event": ("event", "eventtype", "action", "behavior", "behaviortype", "eventname"),
    "title": (
        "title", "name", "itemname", "movietitle", "booktitle", "prodname", "productname", "venuename", "artistname",
        "trackname", "displayname", "label", "venuecategoryname", "description",
    ),
    "category": ("category", "genres", "genre", "venuecategory", "venuecategoryname", "categories", "producttypename",
                 "maincategory", "class"),
}  # fmt: skip
EVENT_FIELDS: Final = ("user_id", "item_id", "time", "latitude", "longitude", "utc_offset_minutes", "value", "event")
ITEM_FIELDS: Final = ("item_id", "title", "category", "latitude", "longitude")

_UNIX: Final = r"^-?1?\d{9}(\d{3}|\d{6}|\d{9})?(\.\d+)?$"
_CLOCK: Final = r"^\d{4}-\d{2}-\d{2}|^\d{1,2}[./]\d{1,2}[./]\d{2,4}|\d{1,2}:\d{2}:\d{2}"
_MOST: Final = 0.9


def guess_by_names(names: Sequence[str], fields: Sequence[str] = tuple(_NAMES)) -> dict[str, str]:
    """Our fields -> the columns that are called like them; each column serves one field."""
    by_key: dict[str, str] = {}
    for name in names:
        by_key.setdefault(_key(name), name)
    found: dict[str, str] = {}
    for field in fields:
        column = next((by_key[key] for key in _NAMES[field] if key in by_key), None)
        if column is not None and column not in found.values():
            found[field] = column
    return found


def guess_events(table: pl.DataFrame) -> dict[str, str]:
    """Our fields of events -> columns: by name, and by content where names say nothing.

    By content: a time has the form of one; latitude and longitude are neighbours with fractions and in range; the users
    come before the items, as they do in every known data set, and both repeat.
    """
    found = guess_by_names(table.columns, EVENT_FIELDS)
    for field, column in _by_content(table, found).items():
        found.setdefault(field, column)
    order = {name: at for at, name in enumerate(EVENT_FIELDS)}
    return dict(sorted(found.items(), key=lambda pair: order[pair[0]]))


def guess_items(table: pl.DataFrame, item_ids: pl.Series | None = None) -> dict[str, str]:
    """Our fields of items -> columns; the item is the column that holds the most of `item_ids`, if they are known."""
    found = guess_by_names(table.columns, ITEM_FIELDS)
    if item_ids is not None and (key := _best_key(table, item_ids)) is not None:
        found = {field: column for field, column in found.items() if column != key} | {"item_id": key}
    if "item_id" not in found and table.width:
        found["item_id"] = table.columns[0]
    if "title" not in found and (title := _wordiest(table, set(found.values()))) is not None:
        found["title"] = title
    return {field: found[field] for field in ITEM_FIELDS if field in found}


def _best_key(table: pl.DataFrame, item_ids: pl.Series) -> str | None:
    known = item_ids.cast(pl.String).drop_nulls().unique()
    shares = {
        name: float(table[name].cast(pl.String, strict=False).is_in(known.implode()).mean() or 0)  # type: ignore[arg-type]
        for name, dtype in table.schema.items()
        if not dtype.is_nested()
    }
    best = max(shares, key=lambda name: shares[name], default=None)
    return best if best is not None and shares[best] > 0.5 else None


def _wordiest(table: pl.DataFrame, taken: set[str]) -> str | None:
    """The text column with letters in nearly every cell and the most distinct cells."""
    texts = [name for name, dtype in table.schema.items() if dtype == pl.String and name not in taken]
    lettered = [
        name for name in texts if _share(table[name], r"\p{L}{2}") > _MOST and _share(table[name], "^http") < 0.5
    ]
    return max(lettered, key=lambda name: table[name].n_unique(), default=None)


def _by_content(table: pl.DataFrame, known: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    free = [name for name, dtype in table.schema.items() if name not in known.values() and not dtype.is_nested()]
    cells = {name: table[name].cast(pl.String, strict=False) for name in free}
    if "time" not in known:
        times = [
            name for name in free if table[name].dtype.is_temporal() or _share(cells[name], f"{_CLOCK}|{_UNIX}") > _MOST
        ]
        if times:
            found["time"] = times[-1]
    if not {"latitude", "longitude"} & set(known):
        numbers = {name: cells[name].cast(pl.Float64, strict=False) for name in free if name not in found.values()}
        fractional = [name for name in free if name in numbers and _share(cells[name], r"^-?\d{1,3}\.\d{2,}$") > _MOST]
        for first, second in itertools.pairwise(fractional):
            if free.index(second) == free.index(first) + 1 and _in_range(numbers[first], numbers[second]):
                found |= {"latitude": first, "longitude": second}
                break
    ids = [name for name in free if name not in found.values() and _is_like_ids(cells[name])]
    for field in ("user_id", "item_id"):
        if field not in known and ids:
            found[field] = ids.pop(0)
    if "value" not in known and (rest := [name for name in ids if _is_like_ratings(cells[name])]):
        found["value"] = rest[0]
    return found


def _in_range(latitude: pl.Series, longitude: pl.Series) -> bool:
    return bool(latitude.abs().max() <= 90 and longitude.abs().max() <= 180)  # type: ignore[operator]


def _is_like_ids(cells: pl.Series) -> bool:
    return _share(cells, r"^[\w:.\-]{1,64}$") > _MOST and _share(cells, r"^-?\d+\.\d+$") < 0.5


def _is_like_ratings(cells: pl.Series) -> bool:
    return cells.n_unique() <= 11 and _share(cells, r"^\d{1,2}(\.5|\.0)?$") > _MOST


def _share(cells: pl.Series, pattern: str) -> float:
    given = cells.drop_nulls()
    return float(given.str.contains(pattern).mean() or 0) if len(given) else 0.0  # type: ignore[arg-type]


def _key(name: str) -> str:
    return _SAME.sub("", name.lower())
