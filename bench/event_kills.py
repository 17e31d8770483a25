"""Clients that post events to a server which is killed again and again, and what is left of the events afterwards."""

from __future__ import annotations

import http.client
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

BATCH = 5  # events in a request
MOST_BATCHES = 40  # acknowledged between two kills, at most
MOST_DELAY_S = 0.05  # after the last of them
PAUSE_S = 0.05  # before a client tries again
START_LIMIT_S = 300.0
ANSWER_LIMIT_S = 300.0

Row = dict[str, Any]


class Victim(Protocol):
    """What can be killed and started again."""

    def kill(self) -> None: ...

    def start(self) -> None: ...


class EventServer:
    """`event_server.py` in a process of its own; what it says goes to `log`."""

    def __init__(self, address: str, log: Path) -> None:
        self._address, self._log = address, log
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and do not wait: `wait_until_ready` does."""
        command = [sys.executable, str(Path(__file__).with_name("event_server.py")), self._address, str(self.port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_until_ready(self) -> None:
        """Until it gives events. Raises RuntimeError where it ends, or takes more than START_LIMIT_S."""
        ended = time.monotonic() + START_LIMIT_S
        while True:
            status, _ = ask(self.port, "GET", "/v1/events/nobody")
            if status == 200:
                return
            if self._process is None or self._process.poll() is not None or time.monotonic() > ended:
                raise RuntimeError(f"the event server does not answer: {self._log.read_text(errors='replace')[-500:]}")
            time.sleep(PAUSE_S)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@dataclass
class Client:
    """Posts batch after batch of events of one user, each until it is acknowledged."""

    name: str
    port: int
    acknowledged: list[Row] = field(default_factory=list)
    is_waiting: bool = False  # for an answer
    num_lost_answers: int = 0  # batches that were stored although no answer came
    num_retries: int = 0
    problem: str | None = None

    def work(self, ended: threading.Event) -> None:
        """Until `ended`, then finish the batch."""
        number = 0
        while not ended.is_set() and self.problem is None:
            self._post(events_of(self.name, number))
            number += 1

    def _post(self, events: list[Row]) -> None:
        body = json.dumps({"events": events})
        while True:
            self.is_waiting = True
            status, answer = ask(self.port, "POST", "/v1/events", body)
            self.is_waiting = False
            if status == 200:
                self.num_lost_answers += answer["duplicates"] > 0
                self.acknowledged.extend(events)
                return
            if status not in (0, 503):
                self.problem = f"a batch was answered by {status}: {answer}"
                return
            self.num_retries += 1
            time.sleep(PAUSE_S)


def ask(port: int, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
    """Status and JSON of an answer; status 0 where none came."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_LIMIT_S)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):  # ValueError: an answer that broke off
        return 0, None
    finally:
        connection.close()


def events_of(user_id: str, batch: int) -> list[Row]:
    """A batch; no other has an event with the same item, so that one stored twice shows whatever its id."""
    at = f"2026-03-01T{batch // 3600 % 24:02}:{batch // 60 % 60:02}:{batch % 60:02}.000000Z"
    names = [f"{user_id}-{batch}-{number}" for number in range(BATCH)]
    return [{"event_id": name, "user_id": user_id, "item_id": f"item of {name}", "time": at} for name in names]


def faults(acknowledged: Iterable[Mapping[str, Any]], stored: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """How many acknowledged events are `missing`, `doubled` or `altered` among the stored ones of the same user."""
    by_item: dict[str, list[Mapping[str, Any]]] = {}
    for event in stored:
        by_item.setdefault(event["item_id"], []).append(event)
    found: Counter[str] = Counter(missing=0, altered=0, doubled=sum(len(events) - 1 for events in by_item.values()))
    for event in acknowledged:
        kept = by_item.get(event["item_id"])
        found["missing"] += kept is None
        found["altered"] += kept is not None and any(kept[0][name] != event[name] for name in ("event_id", "user_id"))
    return found


def kill_again_and_again(server: EventServer, victim: Victim, num_kills: int, num_clients: int, seed: int) -> Row:
    """Kill `victim` (the server, or what it stands on) amid writes, start it, and compare, `num_kills` times.

    `server` is running, and so it is afterwards. Raises RuntimeError where a request is answered by anything but 200
    or 503, or the server does not come back.
    """
    rng, ended, began = random.Random(seed), threading.Event(), time.monotonic()
    clients = [Client(f"client-{number}", server.port) for number in range(num_clients)]
    threads = [threading.Thread(target=client.work, args=(ended,), daemon=True) for client in clients]
    found = Counter[str]()
    for thread in threads:
        thread.start()
    try:
        for _ in range(num_kills):
            _wait_for_batches(clients, rng.randint(1, MOST_BATCHES))
            time.sleep(rng.uniform(0, MOST_DELAY_S))
            while not any(client.is_waiting for client in clients):
                _check(clients)
            victim.kill()
            promised = [list(client.acknowledged) for client in clients]
            victim.start()
            server.wait_until_ready()
            found |= _compare(server, clients, promised)  # the most of any time: what is lost stays lost
    finally:
        ended.set()
        for thread in threads:
            thread.join(ANSWER_LIMIT_S)
    _check(clients)
    found |= _compare(server, clients, [client.acknowledged for client in clients])
    num_stored = sum(len(_stored(server, client.name)) for client in clients)
    return {
        "kills": num_kills, **{fault: found[fault] for fault in ("missing", "doubled", "altered")},
        "acknowledged": sum(len(client.acknowledged) for client in clients), "stored": num_stored,
        "answers_lost": sum(client.num_lost_answers for client in clients),
        "retries": sum(client.num_retries for client in clients), "clients": num_clients, "events_per_request": BATCH,
        "seconds": time.monotonic() - began,
    }  # fmt: skip


def _compare(server: EventServer, clients: list[Client], promised: list[list[Row]]) -> Counter[str]:
    each = zip(clients, promised, strict=True)
    return sum((faults(events, _stored(server, client.name)) for client, events in each), Counter[str]())


def _wait_for_batches(clients: list[Client], num: int) -> None:
    before, ended = sum(len(client.acknowledged) for client in clients), time.monotonic() + ANSWER_LIMIT_S
    while sum(len(client.acknowledged) for client in clients) < before + num * BATCH:
        _check(clients)
        if time.monotonic() > ended:
            raise RuntimeError(f"{num} batches took more than {ANSWER_LIMIT_S:g} s")
        time.sleep(0.001)


def _check(clients: list[Client]) -> None:
    for client in clients:
        if client.problem:
            raise RuntimeError(client.problem)


def _stored(server: EventServer, user_id: str) -> list[Row]:
    status, answer = ask(server.port, "GET", f"/v1/events/{user_id}?limit=1000000")
    if status != 200 or answer["has_more"]:
        raise RuntimeError(f"the request for the events of {user_id} was answered with {status}")
    return list(answer["data"])
