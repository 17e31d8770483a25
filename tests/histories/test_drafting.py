"""`whereupon init`: the configuration that it writes loads, and `prepare` works on it."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from whereupon.cli import app
from whereupon.config import load_config
from whereupon.histories import prepare

DAYS = range(1, 25)


def movielens(folder: Path) -> list[Path]:
    ratings = "".join(f"{day % 4}::{10 + day % 6}::{day % 5 + 1}::{978300000 + day * 90000}\n" for day in DAYS)
    (folder / "ratings.dat").write_text(ratings)
    movies = "".join(f"{10 + at}::Café {at}, The (199{at})::Drama|Comedy\n" for at in range(6))
    (folder / "movies.dat").write_bytes(movies.encode("latin-1"))
    return [folder / "movies.dat", folder / "ratings.dat"]


def foursquare(folder: Path) -> list[Path]:
    rows = [
        f"{day % 4}\t49bbd6c0f964a{day % 6}\t4bf58dd8d48988d12{day % 6}\tCafé {day % 6}\t40.7{day:02}81\t"
        f"-74.0{day:02}46\t-240\t{datetime(2012, 4, day, 18):%a %b %d %H:%M:%S} +0000 2012\n"
        for day in DAYS
    ]
    (folder / "dataset_NYC.txt").write_bytes("".join(rows).encode("latin-1"))
    return [folder / "dataset_NYC.txt"]


def amazon(folder: Path) -> list[Path]:
    rows = [
        {"reviewerID": f"A{day % 4}", "asin": f"B{day % 6}", "overall": 5.0, "unixReviewTime": 1400000000 + day * 90000}
        for day in DAYS
    ]
    (folder / "reviews.json").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    items = [{"asin": f"B{at}", "title": f"Thing {at}"} for at in range(6)]
    (folder / "meta.json").write_text("".join(f"{json.dumps(row)}\n" for row in items))
    return [folder / "reviews.json", folder / "meta.json"]


def shop(folder: Path) -> list[Path]:
    rows = [f"2024-03-{day:02} 10:00:00;c{day % 4};art{day % 6};{day},50\n" for day in DAYS]
    (folder / "shop.csv").write_text("order_date;customer_id;sku;price\n" + "".join(rows))
    items = "".join(f"art{at};Thing, number {at}\n" for at in range(6))
    (folder / "articles.csv").write_text("sku;prod_name\n" + items)
    return [folder / "shop.csv", folder / "articles.csv"]


@pytest.mark.parametrize(
    ("make", "facts"),
    [
        (movielens, {"user_id": 1, "item_id": 2, "time": 4, "value": 3}),
        (foursquare, {"user_id": 1, "item_id": 2, "time": 8, "latitude": 5, "longitude": 6}),
        (amazon, {"user_id": "reviewerID", "item_id": "asin", "time": "unixReviewTime", "value": "overall"}),
        (shop, {"user_id": "customer_id", "item_id": "sku", "time": "order_date"}),
    ],
)
def test_drafted_configuration_prepares_what_people_bring(make: Any, facts: dict[str, Any], tmp_path: Path) -> None:
    files = make(tmp_path)
    out = tmp_path / "first.yaml"
    result = CliRunner().invoke(app, ["init", *map(str, files), "-o", str(out)])
    assert result.exit_code == 0, result.output
    config = load_config(out)
    assert config.histories.events is not None
    assert facts.items() <= config.histories.events.columns.items()
    report = prepare(config.histories, config.catalogue, config.run, config.seed)
    assert (report.manifest["num_events"], report.manifest["num_users"], report.manifest["num_items"]) == (24, 4, 6)
    assert not report.manifest["rejects"]
    titles = [line for line in report.manifest["read_as"] if line.startswith("titles")]
    assert not titles


def test_draft_goes_to_stdout_and_never_over_a_file(tmp_path: Path) -> None:
    files = list(map(str, shop(tmp_path)))
    shown = CliRunner().invoke(app, ["init", *files])
    assert "histories:" in shown.stdout
    (tmp_path / "mine.yaml").write_text("run: mine\n")
    refused = CliRunner().invoke(app, ["init", *files, "-o", str(tmp_path / "mine.yaml")])
    assert refused.exit_code == 1
    assert (tmp_path / "mine.yaml").read_text() == "run: mine\n"


def test_files_without_events_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("item_id,title\na,Bar\nb,Zoo\n")
    result = CliRunner().invoke(app, ["init", str(tmp_path / "a.csv")])
    assert result.exit_code == 1
    assert "time" in result.stderr
