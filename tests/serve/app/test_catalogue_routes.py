"""A catalogue that is changed by HTTP while it is served."""

import json
from typing import Any

import polars as pl
import pytest

from whereupon.recommend import catalogue_verbs
from whereupon.tests.serve.app.answers import recommended, refused

pytestmark = pytest.mark.usefixtures("vllm_imported")


def test_catalogue_is_edited_while_it_is_served(server: Any) -> None:
    added = server.post("/v1/catalogues/run/items", json={"items": [{"item_id": "zoo", "title": "Old Zoo"}]})
    assert added.json()["num_items"] == 6
    assert {item["item_id"] for item in recommended(server)["data"]} >= {"zoo", "park"}
    removed = server.request("DELETE", "/v1/catalogues/run/items", json={"item_ids": ["park"]})
    assert removed.json()["num_items"] == 5
    assert removed.json()["version"] != added.json()["version"]
    found = recommended(server)
    assert found["version"] == removed.json()["version"]
    assert "park" not in {item["item_id"] for item in found["data"]}
    renamed = server.put("/v1/catalogues/run/items", json={"items": [{"item_id": "zoo", "title": "New Zoo"}]})
    assert renamed.status_code == 200
    assert "New Zoo" in {item["title"] for item in recommended(server)["data"]}
    assert server.get("/v1/catalogues").json()["data"][0]["num_items"] == 5
    page = server.get("/v1/catalogues/run?limit=2&offset=1").json()
    assert (len(page["data"]), page["has_more"]) == (2, True)


def test_event_of_an_added_item_is_reported(server: Any) -> None:
    server.post("/v1/catalogues/run/items", json={"items": [{"item_id": "zoo", "title": "Old Zoo"}]})
    before = recommended(server)
    event = {"event_id": "z", "user_id": "p00", "item_id": "zoo", "time": "2024-01-20T10:30:00Z"}
    server.post("/v1/events", json={"events": [event]})
    assert recommended(server)["num_events"] == before["num_events"] + 1
    unseen = recommended(server, filters={"unseen": True})
    assert "zoo" not in {item["item_id"] for item in unseen["data"]}


def test_whole_catalogue_is_replaced(server: Any) -> None:
    items = [{"item_id": f"x{i}", "title": f"Hall {i}"} for i in range(30)]
    assert server.put("/v1/catalogues/run", json={"items": items}).json()["num_items"] == 30
    found = recommended(server, k=30)
    assert {item["item_id"] for item in found["data"]} == {item["item_id"] for item in items}
    assert sum(item["probability"] for item in found["data"]) == pytest.approx(1, abs=1e-4)


def test_same_rows_by_http_and_by_file_make_the_same_catalogue(start: Any, tmp_path: Any) -> None:
    """With a template: a given title wins, the template makes the others, and equal ones are made distinct."""
    rows = [
        {"item_id": "x", "title": "Mill", "kind": "Pub", "street": "A"},
        {"item_id": "y", "title": None, "kind": "Pub", "street": "B"},
        {"item_id": "z", "title": "", "kind": "Pub", "street": "C"},
    ]
    changes = [{"item_id": "x", "kind": "Pub", "street": "D"}, {"item_id": "y", "kind": "Inn", "street": None}]
    pl.DataFrame(rows).write_csv(tmp_path / "rows.csv")
    pl.DataFrame(changes).write_csv(tmp_path / "changes.csv")
    server = start()
    manifest = server.config.run / "histories" / "manifest.json"
    recipe = {"title": "{{ kind }}", "title_attributes": ["street"]}
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"title_recipe": recipe}))
    server.app.state.whereupon.recommender.histories.manifest["title_recipe"] = recipe
    tables = []
    for edit in ("http", "file"):
        if edit == "http":
            assert server.post("/v1/catalogues/run/items", json={"items": rows}).status_code == 200
            assert server.put("/v1/catalogues/run/items", json={"items": changes}).status_code == 200
        else:
            catalogue_verbs.reset(server.config)
            catalogue_verbs.add(server.config, tmp_path / "rows.csv")
            catalogue_verbs.replace(server.config, tmp_path / "changes.csv")
        tables.append(server.get("/v1/catalogues/run").json()["data"])
    assert tables[0] == tables[1]
    assert [item["title"] for item in tables[0][5:]] == ["Mill", "Inn", "Pub (C)"]


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([{"item_id": "a", "title": "A", "flag": 1.5}], "'flag' holds true or false in the catalogue"),
        ([{"item_id": "a", "title": "A", "flag": "true"}], "'flag' holds true or false in the catalogue"),
        ([{"item_id": "a", "title": "A", "word": True}], "'word' holds text in the catalogue"),
        ([{"item_id": "a", "title": "A", "": "x"}, {"item_id": "b", "title": "B", "": 1}], "begins with text"),
        ([{"item_id": "a", "title": "A", "": "x"}], "has no name"),
        ([{"item_id": "a", "title": "A", "new": True}, {"item_id": "b", "title": "B", "new": 1}], "'new' begins with"),
        ([{"item_id": "a", "title": "A", "tags": ["x"]}], "items[0].tags"),
        ([{"item_id": "a", "title": "A", "latitude": 91}], "items[0].latitude"),
        ([{"item_id": " ", "title": "A"}], "items[0].item_id"),
    ],
)
def test_attribute_of_another_kind_is_refused_in_one_sentence(server: Any, items: Any, said: str) -> None:
    first = [{"item_id": "zoo", "title": "Old Zoo", "flag": True, "word": "x"}]
    assert server.post("/v1/catalogues/run/items", json={"items": first}).status_code == 200
    assert said in refused(server.post("/v1/catalogues/run/items", json={"items": items}), 400)
    if "in the catalogue" in said:
        changed = [{**item, "item_id": "zoo"} for item in items]
        assert said in refused(server.put("/v1/catalogues/run/items", json={"items": changed}), 400)
    else:
        assert said in refused(server.put("/v1/catalogues/run", json={"items": items}), 400)
    assert len(server.get("/v1/catalogues/run").json()["data"]) == 6


def test_numbers_that_json_cannot_hold_are_refused(server: Any) -> None:
    body = '{"items": [{"item_id": "a", "title": "A", "stars": NaN}]}'
    refused(server.post("/v1/catalogues/run/items", content=body, headers={"Content-Type": "application/json"}), 400)
