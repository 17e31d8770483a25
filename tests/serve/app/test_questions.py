"""The page's files, and the routes of what a question rests on: users, context, past and prompt."""

from pathlib import Path
from typing import Any

import pytest

from whereupon.recommend import Request, RequestContext
from whereupon.recommend.reading import read_pieces

AT = "2024-01-20T12:00:00"
RAIN = {"at": AT, "weather": "rain, 18 C"}
KEYS = {"WHEREUPON_SERVE_QUERY_KEY": "a5k", "WHEREUPON_SERVE_ADMIN_KEY": "adm1n"}

pytestmark = pytest.mark.usefixtures("vllm_imported")


def shown(server: Any, **body: Any) -> Any:
    answer = server.post("/v1/questions", json={"user_id": "p00", "context": RAIN} | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_prompt_shown_is_what_the_model_reads_with_all_its_tokens(server: Any) -> None:
    found = shown(server)
    recommender = server.app.state.whereupon.recommender
    question = recommender.question(Request("p00", None, RequestContext(AT, "rain, 18 C")))
    text = "".join(field["text"] for piece in found["prompt"] for field in piece["fields"])
    assert text == recommender.tokenizer.decode(question.prompt.tokens_L.tolist())
    assert sum(piece["num_tokens"] for piece in found["prompt"]) == found["prompt_tokens"]
    assert found["prompt_tokens"] == len(question.prompt.tokens_L) <= found["budget_tokens"]
    assert [piece["kind"] for piece in found["prompt"]][-1] == "question"


def test_words_of_a_line_are_marked_with_their_kind(server: Any) -> None:
    *_, event, question = shown(server)["prompt"]
    said = {field["field"]: field["text"] for field in question["fields"]}
    assert "rain" in said["weather"]
    assert "Saturday" in said["time"]
    assert "title" not in said
    titles = [field["text"].strip() for field in event["fields"] if field["field"] == "title"]
    assert titles[0] in {"Old Cinema", "City Park", "Bar One", "Bar Two", "Bar Three"}


def test_past_is_that_of_the_user_before_the_request(server: Any) -> None:
    recommender = server.app.state.whereupon.recommender
    own = recommender.histories.events.filter(user_id="p00")
    found = shown(server)
    assert [event["item_id"] for event in found["events"]] == own["item_id"].to_list()
    assert found["num_events"] == own.height
    assert [event["has_line"] for event in found["events"]] == sorted(event["has_line"] for event in found["events"])
    early = shown(server, context={"at": "2024-01-05T00:00"})
    assert early["num_events"] == len(early["events"]) < own.height
    assert all(event["time"] < "2024-01-05" for event in early["events"])


def test_event_of_an_item_that_came_later_has_its_title(server: Any) -> None:
    server.post("/v1/catalogues/run/items", json={"items": [{"item_id": "zoo", "title": "Old Zoo"}]})
    events = [{"item_id": "zoo", "time": "2024-01-20T10:30:00Z"}]
    found = shown(server, events=events)
    assert found["events"][-1]["title"] == "Old Zoo"
    assert found["events"][-1]["has_line"]


def test_someone_unknown_has_a_question_and_no_past(server: Any) -> None:
    found = shown(server, user_id=None, events=[])
    assert (found["events"], found["num_events"]) == ([], 0)
    assert found["prompt"][-1]["kind"] == "question"


def test_question_is_refused_as_the_recommendation_is(server: Any) -> None:
    for body in ({"user_id": "p0"}, {"user_id": "p00", "context": {"weather": "frogs"}}, {}):
        answers = [server.post(path, json=body) for path in ("/v1/questions", "/v1/recommendations")]
        assert answers[0].status_code == answers[1].status_code >= 400
        assert answers[0].json() == answers[1].json()


def test_users_are_listed_by_the_beginning_of_their_ids(server: Any) -> None:
    assert server.get("/v1/users").json() == {
        "object": "list", "data": ["p00", "p01", "p02", "p03"], "has_more": False,
    }  # fmt: skip
    assert server.get("/v1/users?starting=p&limit=2").json()["has_more"] is True
    assert server.get("/v1/users?starting=p02").json()["data"] == ["p02"]
    assert server.get("/v1/users?starting=x").json()["data"] == []
    assert server.delete("/v1/users/p02").status_code == 200
    assert "p02" not in server.get("/v1/users").json()["data"]


def test_context_says_what_a_request_may_say(server: Any) -> None:
    found = server.get("/v1/context").json()
    assert (found["weather"], found["place"], found["columns"]) == (True, False, [])
    assert found["latest"].startswith("2024-01-1")


def test_items_are_found_by_title_by_id_and_by_ids(server: Any) -> None:
    def ids(query: str) -> list[str]:
        return [item["item_id"] for item in server.get(f"/v1/catalogues/run?{query}").json()["data"]]

    assert ids("query=BAR%20t") == ["bar2", "bar3"]
    assert ids("query=cinema") == ["cinema"]
    assert ids("query=.*") == []
    assert ids("item_id=park&item_id=bar1&item_id=none") == ids("item_id=bar1&item_id=park")
    assert set(ids("item_id=park&item_id=bar1&item_id=none")) == {"park", "bar1"}
    page = server.get("/v1/catalogues/run?query=bar&limit=2").json()
    assert (page["num_found"], page["has_more"], page["num_items"]) == (3, True, 5)


def test_keys_guard_the_data_of_the_page_and_not_its_files(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    server = start()
    data = [("GET", "/v1/users"), ("POST", "/v1/questions"), ("GET", "/v1/context"), ("GET", "/v1/catalogues/run")]
    for method, path in data:
        assert server.request(method, path, json={}).status_code == 401
    queries = {"Authorization": "Bearer a5k"}
    assert [server.request(method, path, json={}, headers=queries).status_code for method, path in data[:3]] == [
        403, 403, 200,
    ]  # fmt: skip
    assert server.get("/").status_code == 200
    assert server.get("/page/page.js").status_code == 200


def test_page_runs_its_own_files_and_nothing_else(server: Any) -> None:
    page = server.get("/")
    paths = ["/page/page.css", *(f"/page/{file.name}" for file in _folder().glob("*.js"))]
    for answer in (page, *map(server.get, paths)):
        policy = answer.headers["Content-Security-Policy"]
        assert answer.status_code == 200
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in answer.text
    assert "style=" not in page.text
    assert "<script type" in page.text
    assert page.text.count("<script") == 1
    again = server.get("/", headers={"If-None-Match": page.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    for outside in ("/page/../page_files.py", "/page/%2e%2e/page_files.py", "/page/none.js"):
        assert server.get(outside).status_code == 404


def test_page_can_be_switched_off(start: Any) -> None:
    server = start("serve.page=false")
    assert server.get("/").status_code == 404
    assert server.get("/page/page.js").status_code == 404
    assert server.get("/v1/catalogues").status_code == 200


def test_files_of_the_page_are_shipped_and_short() -> None:
    import tomllib

    root = Path(__file__).resolve().parents[3]
    data = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    shipped = {file for pattern in data["whereupon.serve.app"] for file in (root / "serve" / "app").glob(pattern)}
    assert shipped == set(_folder().iterdir())
    assert all(len(file.read_text().splitlines()) <= 400 for file in shipped)


def test_pieces_join_to_the_prompt_for_every_user(server: Any) -> None:
    recommender = server.app.state.whereupon.recommender
    for user in recommender.user_ids:
        question = recommender.question(Request(user))
        pieces = read_pieces(question, recommender.tokenizer)
        text = "".join(text for piece in pieces for _, text in piece.fields)
        assert text == recommender.tokenizer.decode(question.prompt.tokens_L.tolist())


def _folder() -> Path:
    return Path(__file__).resolve().parents[3] / "serve" / "app" / "page"
