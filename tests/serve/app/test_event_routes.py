"""The routes of events, on an application without vLLM."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import ValidationError

from whereupon.errors import StoreError
from whereupon.recommend.private_store import PrivateStore
from whereupon.recommend.store import EventStore, open_store
from whereupon.serve.app.routes import event_router, the_store
from whereupon.serve.app.schemas import NewEvents
from whereupon.serve.settings import ServeSettings

EVENT = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "time": "2026-03-01T18:30:00+01:00"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    store = open_store(tmp_path / "events.sqlite")
    yield store
    store.close()


@pytest.fixture
def client(store: EventStore) -> TestClient:
    app = FastAPI()
    app.dependency_overrides[the_store] = lambda: PrivateStore(store, None)
    app.include_router(event_router(ServeSettings(max_events=4)))

    @app.get("/other")
    def other(number: int) -> int:
        return number

    return TestClient(app)


def numbered(*numbers: int, **fields: Any) -> dict[str, Any]:
    return {"events": [{**EVENT, "event_id": f"e{number}", **fields} for number in numbers]}


def error_of(response: Any, status: int) -> dict[str, Any]:
    """The error of an answer in OpenAI's format."""
    assert response.status_code == status
    assert response.json().keys() == {"error"}
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["code"], error["type"]) == (
        status, "server_error" if status >= 500 else "invalid_request_error"
    )  # fmt: skip
    assert error["message"].endswith(".")
    return error


def test_events_that_were_posted_are_given_back_in_utc(client: TestClient) -> None:
    answer = client.post(
        "/v1/events", json={"events": [EVENT, {**EVENT, "event_id": "e0", "time": "2026-02-28T09:00Z"}]}
    )
    assert (answer.status_code, answer.json()) == (200, {"accepted": 2, "duplicates": 0})
    answer = client.get("/v1/events/u1")
    assert answer.json()["object"] == "list"
    assert answer.json()["has_more"] is False
    assert [event["event_id"] for event in answer.json()["data"]] == ["e0", "e1"]
    assert answer.json()["data"][1] == {
        **EVENT, "time": "2026-03-01T17:30:00Z", "utc_offset_minutes": 60, "latitude": None, "longitude": None,
        "event": None, "value": None, "context": {},
    }  # fmt: skip


def test_same_request_again_is_safe_and_so_is_posting_what_was_read(client: TestClient) -> None:
    full = numbered(1, 2, latitude=1.5, longitude=2, value=3, context={"rain": True, "guests": 2})
    assert client.post("/v1/events", json=full).json() == {"accepted": 2, "duplicates": 0}
    assert client.post("/v1/events", json=full).json() == {"accepted": 0, "duplicates": 2}
    read = client.get("/v1/events/u1").json()["data"]
    assert client.post("/v1/events", json={"events": read}).json() == {"accepted": 0, "duplicates": 2}
    assert len(client.get("/v1/events/u1").json()["data"]) == 2


def test_known_id_with_other_content_is_a_conflict_that_names_it_and_stores_nothing(client: TestClient) -> None:
    client.post("/v1/events", json=numbered(1))
    error = error_of(client.post("/v1/events", json=numbered(0, 1, item_id="i2")), 409)
    assert "'e1'" in error["message"]
    assert len(client.get("/v1/events/u1").json()["data"]) == 1


def test_more_events_than_the_bound_are_refused_and_none_is_fine(client: TestClient) -> None:
    error = error_of(client.post("/v1/events", json=numbered(*range(5))), 413)
    assert error["message"] == "At most 4 events go into one request, not 5; send them in parts."
    assert client.get("/v1/events/u1").json()["data"] == []
    assert client.post("/v1/events", json=numbered(*range(4))).json()["accepted"] == 4
    assert client.post("/v1/events", json={"events": []}).json() == {"accepted": 0, "duplicates": 0}


def test_limit_keeps_the_latest_and_says_that_there_are_more(client: TestClient) -> None:
    client.post("/v1/events", json=numbered(1, 2, 3))
    answer = client.get("/v1/events/u1", params={"limit": 2}).json()
    assert ([event["event_id"] for event in answer["data"]], answer["has_more"]) == (["e2", "e3"], True)
    answer = client.get("/v1/events/u1", params={"limit": 3}).json()
    assert (len(answer["data"]), answer["has_more"]) == (3, False)


@pytest.mark.parametrize("limit", ["0", "5", "many", "-1"])
def test_limit_out_of_bounds_is_refused(client: TestClient, limit: str) -> None:
    error = error_of(client.get("/v1/events/u1", params={"limit": limit}), 400)
    assert error["param"] == "limit"


@pytest.mark.parametrize("user_id", ["a/b c?d#e", "喫茶店", "..x", "u1/"])
def test_user_id_may_hold_anything_printable(client: TestClient, user_id: str) -> None:
    client.post("/v1/events", json=numbered(1, user_id=user_id))
    assert len(client.get(f"/v1/events/{quote(user_id, safe='')}").json()["data"]) == 1
    assert client.get("/v1/events/nobody").json() == {"object": "list", "data": [], "has_more": False}


@pytest.mark.parametrize("user_id", ["", "%0A", "a%0Ab", "a%00b", "x" * 201])
def test_user_id_that_no_user_can_have_is_refused(client: TestClient, user_id: str) -> None:
    assert error_of(client.get(f"/v1/events/{user_id}"), 400)["param"] == "user_id"


TOMORROW = (datetime.now(UTC) + timedelta(days=2)).isoformat()


@pytest.mark.parametrize(
    ("change", "param", "said"),
    [
        ({"time": "2026-03-01T18:30:00"}, "events[1].time", "should say its offset to UTC"),
        ({"time": TOMORROW}, "events[1].time", "should lie between 1900 and a day from now"),
        ({"time": 5}, "events[1].time", "should be a time in ISO 8601 such as 2026-03-01T18:30:00+01:00 (found 5)."),
        ({"user_id": None}, "events[1].user_id", "should be a valid string (found None)."),
        ({"user_id": ""}, "events[1].user_id", "should have at least 1 character"),
        ({"item_id": "a\x07"}, "events[1].item_id", "such as newlines; take them out (found 'a\\x07')."),
        ({"latitude": 91, "longitude": 0}, "events[1].latitude", "should be less than or equal to 90 (found 91)."),
        ({"latitude": 9}, "events[1]", "should have both latitude and longitude or neither."),
        ({"value": float("nan")}, "events[1].value", "should be a finite number (found nan)."),
        ({"context": {"a": [1]}}, "events[1].context.a", "should be text, a finite number, true, false or null."),
        ({"context": {"time": 1}}, "events[1].context", "should not repeat the event's own field time"),
        ({"colour": "red"}, "events[1].colour", "not permitted (found 'red')."),
        ({"\ud800": 1}, "events[1]", "should be a valid string"),
    ],
)
def test_event_with_a_fault_is_refused_in_a_sentence_that_names_it(
    client: TestClient, change: dict[str, Any], param: str, said: str
) -> None:
    body = json.dumps({"events": [EVENT, {**EVENT, **change}]})
    answer = client.post("/v1/events", content=body, headers={"Content-Type": "application/json"})
    error = error_of(answer, 400)
    assert error["param"].startswith(param)
    assert said in error["message"]
    assert error["message"].startswith(error["param"])
    assert client.get("/v1/events/u1").json()["data"] == []


def test_missing_field_is_named(client: TestClient) -> None:
    without = {name: value for name, value in EVENT.items() if name != "event_id"}
    error = error_of(client.post("/v1/events", json={"events": [without]}), 400)
    assert error["param"] == "events[0].event_id"
    assert "required" in error["message"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "should be a JSON object"),
        (b"[]", "should be a JSON object"),
        (b"{'events': []}", "should be JSON but is not, at character 1."),
        (b"\xff\xfe{}", "."),
        (b"[" * 100_000, "."),
        (b"{}", "events: Field required."),
        (b'{"events": "none"}', "events: Input should be a valid list (found 'none')."),
        (b'{"events": [], "event": 1}', "event: Extra inputs are not permitted"),
    ],
)
def test_body_that_is_no_json_or_something_else_is_refused(client: TestClient, body: bytes, said: str) -> None:
    answer = client.post("/v1/events", content=body, headers={"Content-Type": "application/json"})
    assert said in error_of(answer, 400)["message"]


def test_body_full_of_faults_is_given_up_at_the_first() -> None:
    with pytest.raises(ValidationError) as raised:
        NewEvents.model_validate({"events": [0] * 1000})
    assert raised.value.error_count() == 1


def test_failing_store_is_a_503_that_keeps_the_reason_for_the_log(
    client: TestClient, store: EventStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise StoreError("/secret/events.sqlite should keep events but lies on a full disk; free some space.")

    monkeypatch.setattr(store, "append", fail)
    monkeypatch.setattr(store, "of_user", fail)
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler()])
    answers = [client.post("/v1/events", json=numbered(1)), client.get("/v1/events/u1")]
    for answer in answers:
        assert "secret" not in error_of(answer, 503)["message"]
        assert answer.headers["Retry-After"] == "1"
    log = capsys.readouterr().err
    assert log.count("/secret/events.sqlite should keep events but lies on a full disk") == 2
    assert "u1" not in log


def test_routes_of_others_keep_their_own_errors(client: TestClient) -> None:
    answer = client.get("/other", params={"number": "one"})
    assert (answer.status_code, list(answer.json())) == (422, ["detail"])


def test_schema_shows_fields_bounds_and_errors(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    post, get = schema["paths"]["/v1/events"]["post"], schema["paths"]["/v1/events/{user_id}"]["get"]
    assert set(post["responses"]) == {"200", "400", "401", "409", "413", "4XX", "503"}
    assert set(get["responses"]) == {"200", "400", "401", "403", "4XX", "503"}
    assert set(schema["paths"]["/v1/users/{user_id}"]["delete"]["responses"]) == set(get["responses"])
    error = post["responses"]["409"]["content"]["application/json"]["schema"]
    assert error == {"$ref": "#/components/schemas/ErrorBody"}
    event = next(model for name, model in schema["components"]["schemas"].items() if name.startswith("Event"))
    assert all(field.get("description") for field in event["properties"].values())
    assert event["properties"]["user_id"]["maxLength"] == 200
    assert set(event["required"]) == {"event_id", "user_id", "item_id", "time"}
