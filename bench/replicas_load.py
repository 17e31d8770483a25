"""Clients of several replicas behind one address, what they saw, and what is wrong with it."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from typing import Any

TIMEOUT_S = 100.0
RETRY_AFTER_S = 0.5
SEEN_WITHIN_S = 60.0  # longer than any bound: what is not seen by then counts as so late
POLL_S = 0.01
EDITED = "bar3"
# HAProxy notices a dead replica after two checks of a second each; a connection that was open breaks at once.
AFTERMATH_S = 5.0

Ask = tuple[int, Any, float]  # status (0: no answer), JSON body, when it was sent


@dataclass(frozen=True)
class Answered:
    """One answer to the control question, which no event and no other user changes. Times are of `time.monotonic`.
    `title` is that of the item which is edited: it says what the whole catalogue was."""

    sent_s: float
    received_s: float
    adapter: str
    title: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class Failure:
    """A request that failed at the first try; `healed`: whether the only other try was answered."""

    at_s: float
    status: int
    healed: bool
    what: str


@dataclass(frozen=True)
class Promoted:
    """A change of the version: when it was requested, and when it was acknowledged."""

    adapter: str
    asked_s: float
    acknowledged_s: float


@dataclass
class Seen:
    """What all clients saw. Lists are appended to from several threads."""

    answers: list[Answered] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    event_delays_s: list[float] = field(default_factory=list)
    edit_delays_s: list[float] = field(default_factory=list)
    promotions: list[Promoted] = field(default_factory=list)
    num_requests: int = 0
    problems: list[str] = field(default_factory=list)


class Client:
    """Asks at one port with a key; tries once again where there is no answer, or one of 5xx."""

    def __init__(self, port: int, key: str, seen: Seen) -> None:
        self._port, self._key, self._seen = port, key, seen

    def ask(self, method: str, path: str, body: Any = None) -> Ask:
        """The status, the body and the time of the last try."""
        at_s, (status, answer) = time.monotonic(), asked(self._port, method, path, self._key, body)
        self._seen.num_requests += 1
        if status and status < 500:
            return status, answer, at_s
        time.sleep(RETRY_AFTER_S)
        again_s, (second, answer) = time.monotonic(), asked(self._port, method, path, self._key, body)
        healed = 0 < second < 500
        self._seen.failures.append(Failure(at_s, status, healed, f"{method} {path}: {status}, then {second}"))
        return second, answer, again_s


def asked(port: int, method: str, path: str, key: str, body: Any = None) -> tuple[int, Any]:
    """Status and JSON of an answer; status 0 where none came."""
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text.startswith((b"{", b"[")) else None
    except (OSError, HTTPException, ValueError):
        return 0, None
    finally:
        connection.close()


@dataclass
class Load:
    """Everything that clients do, each in a thread of its own until `ended`. `ready` gives the ports of the replicas
    that can be queried beside HAProxy; `catalogue` is the name of the model."""

    port: int
    key: str
    catalogue: str
    ready: Callable[[], Sequence[int]]
    pause_s: float
    seen: Seen = field(default_factory=Seen)
    ended: threading.Event = field(default_factory=threading.Event)

    def recommendations(self) -> None:
        """The control question again and again."""
        body = {"user_id": "p00", "k": 5, "context": {"at": "2024-01-20T12:00:00"}}
        client = Client(self.port, self.key, self.seen)
        while not self.ended.wait(self.pause_s):
            status, answer, sent_s = client.ask("POST", "/v1/recommendations", body)
            if status == 200:
                probabilities = {row["item_id"]: row["probability"] for row in answer["data"]}
                title = next(row["title"] for row in answer["data"] if row["item_id"] == EDITED)
                self.seen.answers.append(Answered(sent_s, time.monotonic(), answer["adapter"], title, probabilities))
            else:
                self._problem("POST /v1/recommendations", status, answer)

    def events(self) -> None:
        """One event after the other, each looked for at every replica once it is acknowledged."""
        client = Client(self.port, self.key, self.seen)
        for number in itertools.count():
            if self.ended.wait(self.pause_s):
                return
            now = datetime.now(UTC).isoformat()
            event = {"event_id": f"e-{number}", "user_id": f"u{number % 20}", "item_id": "park", "time": now}
            status, answer, _ = client.ask("POST", "/v1/events", {"events": [event]})
            if status != 200:
                self._problem("POST /v1/events", status, answer)
                continue
            self.seen.events[event["event_id"]] = event
            path, name = f"/v1/events/{event['user_id']}?limit=5", event["event_id"]
            self._await_everywhere(path, lambda body, name=name: name in _ids(body), self.seen.event_delays_s)

    def edits(self) -> None:
        """One edit of the catalogue after the other, each looked for at every replica."""
        client, path = Client(self.port, self.key, self.seen), f"/v1/catalogues/{self.catalogue}"
        for number in itertools.count():
            if self.ended.wait(4 * self.pause_s):
                return
            row = {"item_id": EDITED, "title": ("Bar Two and a Half", "Bar Three")[number % 2]}
            status, answer, _ = client.ask("PUT", f"{path}/items", {"items": [row]})
            if status != 200:
                self._problem("PUT items", status, answer)
                continue
            is_there = lambda body, version=answer["version"]: body["version"] == version  # noqa: E731
            self._await_everywhere(f"{path}?limit=0", is_there, self.seen.edit_delays_s)

    def change(self, route: str, body: Any = None) -> None:
        """Promote or roll back."""
        asked_s = time.monotonic()
        status, answer, _ = Client(self.port, self.key, self.seen).ask("POST", f"/v1/adapters/{route}", body)
        if status == 200:
            self.seen.promotions.append(Promoted(answer["served"], asked_s, time.monotonic()))
        else:
            self._problem(route, status, answer)

    def _await_everywhere(self, path: str, is_there: Callable[[Any], bool], delays_s: list[float]) -> None:
        """Note how long each replica that can be queried takes to show something; one that is killed meanwhile counts
        no more."""
        began, waiting = time.monotonic(), list(self.ready())
        while waiting and time.monotonic() - began < SEEN_WITHIN_S:
            for port in tuple(waiting):
                status, body = asked(port, "GET", path, self.key)
                if status == 200 and is_there(body):
                    delays_s.append(time.monotonic() - began)
                    waiting.remove(port)
            still = set(self.ready())
            waiting = [port for port in waiting if port in still]
            time.sleep(POLL_S if waiting else 0)
        delays_s += [SEEN_WITHIN_S] * len(waiting)

    def _problem(self, what: str, status: int, answer: Any) -> None:
        self.seen.problems.append(f"{what}: {status} {str(answer)[:200]}")


def _ids(body: Any) -> set[str]:
    return {event["event_id"] for event in body["data"]}


def outside_of_kills(failures: Iterable[Failure], kills_s: Sequence[float]) -> list[Failure]:
    """First tries that failed though no replica had been killed shortly before."""
    return [one for one in failures if not any(-1.0 <= one.at_s - at_s <= AFTERMATH_S for at_s in kills_s)]


def lost(acknowledged: Mapping[str, Mapping[str, Any]], stored: Mapping[str, str]) -> list[str]:
    """Ids of acknowledged events that are not stored, or of another user. `stored`: user by id."""
    return [name for name, event in acknowledged.items() if stored.get(name) != event["user_id"]]


def late(answers: Iterable[Answered], promotions: Sequence[Promoted], within_s: float) -> list[Answered]:
    """Answers that name another adapter, to what was sent more than `within_s` after a promotion was acknowledged, and
    answered before the next one was requested."""
    following = [*(one.asked_s for one in promotions[1:]), float("inf")]
    return [
        answer
        for promoted, end_s in zip(promotions, following, strict=True)
        for answer in answers
        if promoted.acknowledged_s + within_s < answer.sent_s
        and answer.received_s < end_s
        and answer.adapter != promoted.adapter
    ]


def spread(answers: Iterable[Answered]) -> float:
    """The largest difference of a probability between answers that name the same adapter and catalogue."""
    first: dict[tuple[str, str], Mapping[str, float]] = {}
    largest = 0.0
    for answer in answers:
        known = first.setdefault((answer.adapter, answer.title), answer.probabilities)
        names = known.keys() | answer.probabilities.keys()
        largest = max(largest, *(abs(known.get(name, 0) - answer.probabilities.get(name, 0)) for name in names))
    return largest


def apart(answers: Iterable[Answered]) -> float:
    """The largest difference of a probability between two adapters with the same catalogue: what `spread` would be if
    one answered in the other's name."""
    first = {(one.title, one.adapter): one.probabilities for one in answers}
    pairs = itertools.combinations(first.items(), 2)
    same = ((one, other) for ((title, _), one), ((its, _), other) in pairs if title == its)
    return max((abs(one[name] - other.get(name, 0)) for one, other in same for name in one), default=0.0)
