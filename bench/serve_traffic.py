"""Requests of all kinds for bench/soak.py: good, bad, oversized, and events; each says what should come back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

MAX_N = 20
Expected = Literal["answer", "stored", "refusal"]
Body = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A POST of `content`. `most`: how many items an answer may have; `only`, `exclude`, `category`: which."""

    kind: str
    expected: Expected
    path: str
    content: bytes
    most: int = 0
    only: frozenset[str] | None = None
    exclude: frozenset[str] = frozenset()
    category: str | None = None


@dataclass(frozen=True)
class Limits:
    """What the server says that it accepts."""

    max_k: int
    max_body_bytes: int
    max_events: int


@dataclass
class Traffic:
    """Random requests about items (`item_id`, `category`, `latitude`, `longitude`) that are in every version."""

    rng: np.random.Generator
    name: str
    model: str
    prompts: list[list[int] | str]
    user_ids: list[str]
    items: list[Body]
    limits: Limits
    _posted: int = field(default=0, init=False)

    def good(self) -> Request:
        """A completion or a recommendation that has an answer."""
        return self._completion() if self.rng.random() < 0.5 else self._recommendation()

    def events(self) -> Request:
        """Some events; one time in five those of a request before, which counts once."""
        first = self._posted if self.rng.random() < 0.8 else self.rng.integers(self._posted + 1)
        num = 1 + int(first) % 5
        self._posted = max(self._posted, int(first) + 1)
        rng = np.random.default_rng(int(first))  # so that what is sent again is the same
        user_id = self.user_ids[rng.integers(len(self.user_ids))]
        made = [_event(f"soak-{first}-{i}", user_id, self.items[rng.integers(len(self.items))]) for i in range(num)]
        return Request("events", "stored", "/v1/events", _json({"events": made}), num)

    def bad(self) -> Request:
        """A request that is wrong in one of many ways."""
        names = sorted(self._bad_ones())
        name = names[self.rng.integers(len(names))]
        path, body = self._bad_ones()[name]
        return Request(f"bad: {name}", "refusal", path, body if isinstance(body, bytes) else _json(body))

    def oversized(self) -> Request:
        """A body that is too large, or too many events."""
        user_id, item = self._user(), self._item()
        too_many = [_event(f"many-{i}", user_id, item) for i in range(self.limits.max_events + 1)]
        given = [{name: event[name] for name in ("item_id", "time")} for event in too_many]
        large = b" " * (self.limits.max_body_bytes + 1)
        choices: list[tuple[str, str, bytes]] = [
            ("body of a completion", "/v1/completions", large), ("body of events", "/v1/events", large),
            ("body of a recommendation", "/v1/recommendations", large),
            ("events", "/v1/events", _json({"events": too_many})),
            ("events given", "/v1/recommendations", _json({"user_id": user_id, "events": given})),
        ]  # fmt: skip
        name, path, content = choices[self.rng.integers(len(choices))]
        return Request(f"oversized: {name}", "refusal", path, content)

    def _completion(self) -> Request:
        prompt = self.prompts[self.rng.integers(len(self.prompts))]
        n, item = int(self.rng.integers(1, MAX_N + 1)), self._item()
        some = self._some_ids()
        near = {"near_km": 2.0, "near_latitude": item["latitude"], "near_longitude": item["longitude"]}
        filters: list[Body] = [{}, {}, {"category": item["category"]}, near, {"only": some}, {"exclude": some}]
        flat = filters[self.rng.integers(len(filters))]
        body = {"model": self.model, "prompt": prompt, "n": n, "temperature": 0,
                "vllm_xargs": {"catalogue": self.name, **flat}}  # fmt: skip
        kind = f"completion, {'text' if isinstance(prompt, str) else 'tokens'}{_named(flat)}"
        return Request(kind, "answer", "/v1/completions", _json(body), n, *_conditions(flat))

    def _recommendation(self) -> Request:
        k, item, some = int(self.rng.integers(1, MAX_N + 1)), self._item(), self._some_ids()
        place = {"latitude": item["latitude"], "longitude": item["longitude"]}
        filters: list[Body] = [
            {}, {}, {"category": [item["category"]]}, {"unseen": True}, {"only": some}, {"exclude": some},
        ]  # fmt: skip
        wanted = filters[self.rng.integers(len(filters))]
        body: Body = {"user_id": self._user(), "k": k, "filters": wanted}
        if self.rng.random() < 0.3:
            body["events"] = [{"item_id": item["item_id"], "time": datetime.now(UTC).isoformat(), **place}]
        if self.rng.random() < 0.5:
            body["context"] = {"at": f"2013-02-{self.rng.integers(10, 15)}T19:00", "weather": "snow, -3 C"}
            body.pop("events", None)  # which would be later than that
        kind = f"recommendation{', events' if 'events' in body else ''}{_named(wanted)}"
        return Request(kind, "answer", "/v1/recommendations", _json(body), k, *_conditions(wanted))

    def _bad_ones(self) -> dict[str, tuple[str, Body | bytes]]:
        recommend, complete, events = "/v1/recommendations", "/v1/completions", "/v1/events"
        user, xargs = {"user_id": self.user_ids[0]}, {"catalogue": self.name}
        prompt: Body = {"model": self.model, "prompt": [1, 2, 3]}
        event = _event("bad", self.user_ids[0], self.items[0])
        return {
            "unknown user": (recommend, {"user_id": "no user at all"}),
            "nobody": (recommend, {}),
            "k of 0": (recommend, {**user, "k": 0}),
            "k too large": (recommend, {**user, "k": self.limits.max_k + 1}),
            "k in words": (recommend, {**user, "k": "ten"}),
            "user id of the wrong type": (recommend, {"user_id": ["a"]}),
            "events of the wrong type": (recommend, {"events": "many"}),
            "unreadable time": (recommend, {**user, "context": {"at": "yesterday"}}),
            "unreadable weather": (recommend, {**user, "context": {"weather": "plaid"}}),
            "half a place": (recommend, {**user, "context": {"latitude": 40.7}, "filters": {"near_km": 1}}),
            "unknown field": (recommend, {**user, "colour": "red"}),
            "unknown category": (recommend, {**user, "filters": {"category": ["no such category"]}}),
            "broken JSON": (recommend, b'{"user_id": "'),
            "no JSON": (recommend, b"\xff\xfe\x00"),
            "a list": (recommend, b"[1, 2]"),
            "unknown catalogue": (complete, {**prompt, "vllm_xargs": {"catalogue": "nowhere"}}),
            "n of 0": (complete, {**prompt, "n": 0, "vllm_xargs": xargs}),
            "n too large": (complete, {**prompt, "n": self.limits.max_k + 1, "vllm_xargs": xargs}),
            "unknown filter": (complete, {**prompt, "vllm_xargs": {**xargs, "colour": "red"}}),
            "nested catalogue": (complete, {**prompt, "vllm_xargs": {"catalogue": {"name": self.name}}}),
            "prompt of the wrong type": (complete, {**prompt, "prompt": {"a": 1}, "vllm_xargs": xargs}),
            "unknown token": (complete, {**prompt, "prompt": [2**30], "vllm_xargs": xargs}),
            "empty prompt": (complete, {**prompt, "prompt": [], "vllm_xargs": xargs}),
            "broken JSON of a completion": (complete, b'{"model": '),
            "event without a time": (events, {"events": [{**event, "time": None}]}),
            "event on Pluto": (events, {"events": [{**event, "latitude": 1e9, "longitude": 0}]}),
            "event with a newline": (events, {"events": [{**event, "item_id": "a\nb"}]}),
            "broken JSON of events": (events, b"{"),
        }

    def _item(self) -> Body:
        return self.items[self.rng.integers(len(self.items))]

    def _user(self) -> str:
        return self.user_ids[self.rng.integers(len(self.user_ids))]

    def _some_ids(self) -> list[str]:
        return sorted({str(self._item()["item_id"]) for _ in range(self.rng.integers(1, 40))})


def _event(event_id: str, user_id: str, item: Body) -> Body:
    return {"event_id": event_id, "user_id": user_id, "item_id": item["item_id"], "time": "2013-02-15T12:00:00Z"}


def _conditions(filters: Body) -> tuple[frozenset[str] | None, frozenset[str], str | None]:
    """`only`, `exclude` and `category` of a `Request`."""
    category = filters.get("category")
    only = frozenset(filters["only"]) if "only" in filters else None
    return only, frozenset(filters.get("exclude", ())), category[0] if isinstance(category, list) else category


def _named(filters: Body) -> str:
    return f", {sorted(filters)[0]}" if filters else ""


def _json(body: Body) -> bytes:
    return json.dumps(body).encode()
