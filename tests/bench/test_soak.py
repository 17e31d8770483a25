"""What the soak sends, what it takes for a fault, and its bars."""

import json
import os
from collections import Counter
from typing import Any

import httpx
import numpy as np
import pytest
from serve_checks import Tally, answer_flaws, refusal_flaw
from serve_memory import tree_rss_bytes
from serve_traffic import Limits, Request, Traffic
from soak import bars, items_of, two_catalogues

ITEMS: list[dict[str, Any]] = [
    {"item_id": str(number), "title": f"Bar {number}", "category": "Bar", "latitude": 40.7, "longitude": -74.0}
    for number in range(6)
]
GOOD = Request("completion", "answer", "/v1/completions", b"", most=2)


def _body(items: list[tuple[str, str]], **about: Any) -> dict[str, Any]:
    choices = [
        {"index": index, "item_id": item_id, "text": title, "probability": 0.5 / (index + 1)}
        for index, (item_id, title) in enumerate(items)
    ]
    said = {"version": "v1", "exact": True, "num_candidates": 6, "reason": ""}
    return {"choices": choices, "whereupon": said | about}


def _flaws(body: dict[str, Any], request: Request = GOOD) -> list[str]:
    return [what for what, _ in answer_flaws(request, body, items_of(ITEMS))]


def test_answer_with_the_version_s_titles_in_order_has_no_flaw() -> None:
    body = _body([("3", "Bar 3"), ("1", "Bar 1")])
    assert _flaws(body) == []
    rows = [{"rank": 1 + row["index"], "title": row["text"], **row} for row in body["choices"]]
    assert _flaws({**body["whereupon"], "data": rows}) == []


@pytest.mark.parametrize(
    ("body", "flaw"),
    [
        (_body([("3", "Bar 3"), ("1", "Bar 1 spring")]), "answer that mixes versions"),
        (_body([("3", "Bar 3"), ("1-spring", "Bar 1 spring")]), "answer that mixes versions"),
        (_body([("3", "Bar 3"), ("3", "Bar 3")]), "answer with an item twice"),
        (_body([("3", "Bar 3")], reason="so"), "answer of the wrong length"),
        (_body([("3", "Bar 3")], num_candidates=1), "short answer without a reason"),
    ],
)
def test_flaw_of_an_answer_is_named(body: dict[str, Any], flaw: str) -> None:
    assert _flaws(body) == [flaw]


def test_probabilities_that_rise_or_sum_to_more_than_one_are_flaws() -> None:
    body = _body([("3", "Bar 3"), ("1", "Bar 1")])
    body["choices"][1]["probability"] = 0.51
    assert _flaws(body) == ["probabilities that are none", "answer that is not in order"]


def test_item_that_the_filter_hides_is_a_flaw() -> None:
    body = _body([("3", "Bar 3"), ("1", "Bar 1")])
    assert _flaws(body, Request("c", "answer", "", b"", 2, only=frozenset({"3", "1"}))) == []
    for conditions in ({"only": frozenset({"3"})}, {"exclude": frozenset({"1"})}, {"category": "Museum"}):
        assert _flaws(body, Request("c", "answer", "", b"", 2, **conditions)) == ["item that the filter should hide"]


def test_answer_of_a_version_that_is_not_known_yet_is_judged_later() -> None:
    tally = Tally()
    tally.response(GOOD, httpx.Response(200, json=_body([("3", "Bar 3"), ("1", "Bar 1")])), 1.0)
    tally.response(GOOD, httpx.Response(200, json=_body([("3", "Bar 3"), ("1", "?")])), 1.0)
    assert (tally.num_valid, tally.problems) == (0, {})
    tally.catalogue("v1", items_of(ITEMS))
    assert (tally.num_valid, tally.problems) == (1, {"answer that mixes versions": 1})
    tally.response(GOOD, httpx.Response(200, json=_body([], version="v9")), 1.0)
    tally.finish()
    assert tally.problems["answer of an unknown version"] == 1


def _error(message: object, **changes: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": 400} | changes}


@pytest.mark.parametrize(
    ("content", "flaw"),
    [
        (_error("k should be at least 1, not 0."), None),
        ({"detail": "no"}, "no error of OpenAI's"),
        ({"error": {"message": "No."}}, "lacks code, param, type"),
        (_error("one\ntwo."), "no sentence"),
        (_error(["no."]), "no sentence"),
        (_error("no"), "no sentence"),
    ],
)
def test_refusal_is_one_sentence_in_the_format_of_openai(content: dict[str, Any], flaw: str | None) -> None:
    found = refusal_flaw(httpx.Response(400, json=content))
    assert found is None if flaw is None else found is not None and flaw in found


def test_refusal_without_json_is_a_flaw() -> None:
    assert "no error of OpenAI's" in str(refusal_flaw(httpx.Response(400, text="<html>")))


@pytest.mark.parametrize(
    ("expected", "status", "problem"),
    [
        ("refusal", 200, "bad request that was not refused"),
        ("refusal", 500, "5xx"),
        ("answer", 503, "5xx"),
        ("answer", 400, "good request that was refused"),
        ("stored", 409, "good request that was refused"),
        ("answer", 429, "refusal in another form"),
        ("refusal", 413, None),
    ],
)
def test_status_is_judged_by_what_was_expected(expected: Any, status: int, problem: str | None) -> None:
    tally = Tally()
    tally.response(Request("r", expected, "", b""), httpx.Response(status, json=_error("No.")), 1.0)
    assert tally.problems == ({problem: 1} if problem else {})
    assert tally.statuses == {"r": {str(status): 1}}


def test_too_many_requests_that_say_when_to_come_back_are_no_problem() -> None:
    tally = Tally()
    tally.response(GOOD, httpx.Response(429, json=_error("Full."), headers={"Retry-After": "1"}), 1.0)
    assert tally.problems == {}


def test_events_that_were_neither_stored_nor_known_are_a_problem() -> None:
    tally, request = Tally(), Request("events", "stored", "", b"", most=3)
    for accepted, duplicates in ((3, 0), (0, 3), (1, 1)):
        body = {"accepted": accepted, "duplicates": duplicates}
        tally.response(request, httpx.Response(200, json=body), 1.0)
    assert tally.problems == {"events that were miscounted": 1}


def test_two_catalogues_share_half_of_the_items_and_no_other() -> None:
    common, catalogues = two_catalogues([*ITEMS, {**ITEMS[0], "item_id": "9", "title": "?", "latitude": None}])
    first, second = map(items_of, catalogues)
    assert [item["item_id"] for item in common] == ["0", "2", "4"], "items without a place are not asked about"
    assert set(first.items()) & set(second.items()) == {(item, first[item]) for item in ("0", "2", "4", "9")}
    assert first["1-spring"] == ("Bar 1 spring", "Bar")
    assert len(first) == len(second) == 7


def _traffic() -> Traffic:
    limits = Limits(max_k=100, max_body_bytes=2000, max_events=5)
    return Traffic(np.random.default_rng(7), "c", "m", ["text", [1, 2]], ["u", "v"], ITEMS, limits)


def test_good_requests_ask_for_one_to_twenty_items_in_many_ways() -> None:
    traffic = _traffic()
    requests = [traffic.good() for _ in range(300)]
    kinds = Counter(request.kind for request in requests)
    assert len(kinds) > 12
    assert {request.most for request in requests} == set(range(1, 21))
    for request in requests:
        body = json.loads(request.content)
        assert request.most == body.get("k", body.get("n"))


def test_events_that_are_sent_again_are_the_same() -> None:
    traffic = _traffic()
    sent = [event for _ in range(200) for event in json.loads(traffic.events().content)["events"]]
    by_id: dict[str, Any] = {}
    assert all(by_id.setdefault(event["event_id"], event) == event for event in sent)
    assert len(by_id) < len(sent)


def test_bad_and_oversized_requests_are_to_be_refused() -> None:
    traffic = _traffic()
    bad, oversized = [traffic.bad() for _ in range(300)], [traffic.oversized() for _ in range(50)]
    assert {request.expected for request in bad + oversized} == {"refusal"}
    assert len({request.kind for request in bad}) > 20
    assert len({request.kind for request in oversized}) == 5


def test_memory_of_this_process_is_counted() -> None:
    assert tree_rss_bytes(os.getpid()) > 10 * 2**20


def _figures() -> dict[str, Any]:
    return {"rss": [{"mib": 1000.0}, {"mib": 1100.0}, {"mib": 900.0}], "replaced_per_minute": 5.0}


def test_soak_without_problems_keeps_every_bar() -> None:
    found = bars(Tally(num_valid=100), _figures(), True)
    assert [one["name"] for one in found if not one["ok"]] == []


@pytest.mark.parametrize(
    ("problem", "missed"),
    [
        ("5xx", "responses with 5xx"),
        ("answer that mixes versions", "answers that mix versions"),
        ("answer that is not in order", "other good requests without a valid answer"),
        ("connection lost", "other good requests without a valid answer"),
        ("bad request that was not refused", "bad requests not refused in one sentence"),
    ],
)
def test_problem_misses_its_bar(problem: str, missed: str) -> None:
    found = bars(Tally(num_valid=100, problems=Counter({problem: 1})), _figures(), True)
    assert [one["name"] for one in found if not one["ok"]] == [missed]


def test_memory_that_grows_misses_its_bar() -> None:
    figures = _figures()
    figures["rss"][2]["mib"] = 1101.0
    found = bars(Tally(num_valid=100), figures, True)
    assert [one["name"] for one in found if not one["ok"]] == ["memory, largest over first after the warm-up"]
