"""Items come and go without training: what `whereupon catalogue` changes and what `recommend` makes of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from whereupon.config import Config
from whereupon.errors import CatalogueError, DataError
from whereupon.recommend import catalogue_verbs as catalogue
from whereupon.recommend.context import RequestContext
from whereupon.recommend.selection import RequestFilters
from whereupon.recommend.shown import recommend_verb

Ask = Callable[..., dict[str, float]]


@pytest.fixture
def town(town_copy: Callable[..., Config]) -> Config:
    return town_copy()


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Probability of each title that `recommend` answers, by title, best first."""

    def ask(config: Config, **conditions: Any) -> dict[str, float]:
        capsys.readouterr()
        filters = RequestFilters(**conditions)
        recommend_verb(config, "p00", RequestContext(), filters, k=None, versus=None, as_json=True)
        [answer] = json.loads(capsys.readouterr().out)
        return {item["title"]: item["probability"] for item in answer["items"]}

    return ask


def _table(folder: Path, *rows: dict[str, str]) -> Path:
    pl.DataFrame(rows).write_csv(folder / "items.csv")
    return folder / "items.csv"


def test_added_item_is_recommended_and_all_still_sum_to_one(town: Config, tmp_path: Path, ask: Ask) -> None:
    before = ask(town)
    catalogue.add(town, _table(tmp_path, {"item_id": "bar4", "title": "Bar Four"}))
    after = ask(town)
    assert after.keys() == before.keys() | {"Bar Four"}
    assert sum(after.values()) == pytest.approx(1.0, abs=1e-5)


def test_removed_item_is_not_recommended_though_histories_hold_it(town: Config, ask: Ask) -> None:
    before = ask(town)
    catalogue.remove(town, ["park"])
    assert ask(town).keys() == before.keys() - {"City Park"}
    assert "City Park" not in ask(town, unseen=True)


def test_removing_leaves_the_others_in_their_order_among_themselves(town: Config, ask: Ask) -> None:
    before = ask(town)
    catalogue.remove(town, ["bar1"])
    ratio = {title: p / before[title] for title, p in ask(town).items() if not title.startswith("Bar")}
    assert max(ratio.values()) == pytest.approx(min(ratio.values()), rel=1e-4)


def test_replaced_item_has_its_new_title(town: Config, tmp_path: Path, ask: Ask) -> None:
    catalogue.replace(town, _table(tmp_path, {"item_id": "cinema", "title": "New Cinema"}))
    assert "New Cinema" in ask(town)
    assert "Old Cinema" not in ask(town)


def test_reset_gives_back_the_items_of_the_histories(
    town: Config, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    before = ask(town)
    catalogue.remove(town, ["bar1", "bar2"])
    assert len(ask(town)) == 3
    catalogue.reset(town)
    assert ask(town) == pytest.approx(before)
    capsys.readouterr()
    catalogue.show(town)
    assert capsys.readouterr().out == "5 items, those of the histories\n"


def test_show_counts_what_was_edited(town: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalogue.remove(town, ["bar1", "bar2"])
    catalogue.add(town, _table(tmp_path, {"item_id": "bar4", "title": "Bar Four"}))
    capsys.readouterr()
    catalogue.show(town)
    said = capsys.readouterr().out
    assert said.startswith("4 items, v000002 in ")
    assert said.endswith("1 were added to those of the histories, 2 taken out\n")


def test_rejected_rows_of_an_items_table_are_counted(
    town: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = _table(
        tmp_path, {"item_id": "x", "title": "X"}, {"item_id": "", "title": "Y"}, {"item_id": "x", "title": "Z"}
    )
    catalogue.add(town, table)
    said = capsys.readouterr()
    assert said.out == "5 items before, 6 now; written as v000001\n"
    assert "rejected, items.csv: missing item: 1 rows" in said.err
    assert "rejected, items.csv: repeated item: 1 rows" in said.err


def test_table_without_a_usable_row_is_one_sentence(town: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"should hold items but each of its 1 rows is rejected; correct them\.$"):
        catalogue.add(town, _table(tmp_path, {"item_id": "", "title": "Y"}))


def test_unknown_item_cannot_be_removed(town: Config) -> None:
    with pytest.raises(CatalogueError, match=r"^Item 'pub' is not in the catalogue of 5 items; correct the ids\.$"):
        catalogue.remove(town, ["pub"])
    assert not (town.run / "catalogue" / "CURRENT").exists()


def test_edits_of_other_histories_are_refused_until_reset(town: Config, tmp_path: Path, ask: Ask) -> None:
    catalogue.remove(town, ["bar1"])
    manifest = town.run / "histories" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"catalogue_hash": "other"}))
    with pytest.raises(CatalogueError, match=r"before the histories got other items .* `whereupon catalogue reset`"):
        catalogue.remove(town, ["bar2"])
    catalogue.reset(town)
    catalogue.remove(town, ["bar2"])
