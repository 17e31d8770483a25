"""Three replicas behind HAProxy, one killed again and again: is anything lost, late, or mixed?

    make bench-replicas ARGS="[--minutes 10] [--every 20] [--output FOLDER]"

Three real servers (vLLM) share one PostgreSQL and one run folder, behind HAProxy with
`examples/production/haproxy.cfg`, of which only the ports are changed. Clients ask for recommendations, post events and
edit the catalogue; each tries once again where no answer comes, or one of 5xx. Another version of the adapter is
promoted at 40% of the time, and taken back at 70%. Every `--every` seconds all processes of one replica get SIGKILL,
and it is started again. While a replica is not ready yet, the next kill waits, so that two answer at any time.

Each acknowledged event is looked for at every replica that is ready, and at the end in the database; each edit is
looked for at every replica. One request is sent again and again: answers that name the same adapter and the same
catalogue must be the same. The model is tiny, so that three servers fit into two cores. What is measured is how servers
share a run folder and a database, not how quickly a model answers.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from postgres_cluster import Cluster
from record import bar, record
from replicas_load import Load, Seen, apart, asked, late, lost, outside_of_kills, spread
from safetensors.torch import load_file, save_file

import whereupon
from whereupon.config import load_config
from whereupon.recommend.store import open_store
from whereupon.tests import conftest
from whereupon.tests.serve.processes import Server, serving

SEED, NUM_REPLICAS = 5, 3
CONFIG = Path(__file__).parents[1] / "examples" / "production" / "haproxy.cfg"
PORT = 8000  # in that file; those of the replicas follow
KEYS = {"WHEREUPON_API_KEY": "asking", "WHEREUPON_ADMIN_KEY": "administering"}
PROMOTED, TAKEN_BACK = 0.4, 0.7  # of the time
PROPAGATION_S, SAME = 1.0, 1e-3
START_S, POLL_S = 1200.0, 0.25
MODEL = "a Llama of two layers, hidden size 32, with random weights and two adapters; no stack of rankers"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two kills, at least")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds that a client waits between two requests")
    parser.add_argument("--output", type=Path, help="folder to write to instead of bench/results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="whereupon-replicas-") as scratch, Cluster() as cluster:
        config, run = _town(Path(scratch))
        place, ports = cluster.new_place(), free_ports(NUM_REPLICAS + 1)
        replicas = [Replica(config, run, place, port) for port in ports[1:]]
        with contextlib.ExitStack() as stack:
            for replica in replicas:
                stack.callback(replica.end)
                replica.start()
            wait_until_all_are_ready(replicas)
            stack.enter_context(_haproxy(Path(scratch), ports))
            load = Load(ports[0], KEYS["WHEREUPON_ADMIN_KEY"], run.name, lambda: _ready(replicas), options.pause)
            kills_s = _endure(load, replicas, options.minutes * 60, options.every)
            store = open_store(place)
            stored = {event.event_id: event.user_id for event in store.all()}
            store.close()
    figures = figures_of(load.seen, stored, kills_s)
    restarts = [seconds for replica in replicas for seconds in replica.start_seconds[1:]]
    return record(
        "replicas", SEED, bars_of(figures), folder=options.output, **figures, minutes=options.minutes, model=MODEL,
        restart_s=_percentiles(restarts), haproxy=_version("haproxy", "-v"), replicas=NUM_REPLICAS,
        least_seconds_between_kills=options.every,
    )  # fmt: skip


class Replica:
    """One server, which can be killed and started again; `start` returns at once."""

    def __init__(self, config: Path, run: Path, place: str, port: int) -> None:
        self.port, self.is_ready, self.start_seconds = port, False, list[float]()
        self._arguments = config, run, [f"serve.port={port}", f"serve.events={place}"], KEYS
        self._stack, self._starting = contextlib.ExitStack(), threading.Thread()

    def start(self) -> None:
        """Start it; `is_ready` says when it answers."""
        self._starting = threading.Thread(target=self._start, daemon=True)
        self._starting.start()

    def kill(self) -> None:
        """SIGKILL to all of its processes at once."""
        self.is_ready = False
        self._stack.close()

    def end(self) -> None:
        """The same, also while it starts."""
        self._starting.join(START_S)
        self.kill()

    def wait(self) -> None:
        """Until it is ready. Raises RuntimeError where it cannot be started."""
        self._starting.join(START_S)
        if not self.is_ready:
            raise RuntimeError(f"the replica at port {self.port} does not start")

    def _start(self) -> None:
        began = time.monotonic()
        served: Server = self._stack.enter_context(serving(*self._arguments))
        while asked(self.port, "GET", "/ready", "")[0] != 200:
            time.sleep(POLL_S)
        assert served.url.endswith(f":{self.port}")
        self.start_seconds.append(time.monotonic() - began)
        self.is_ready = True


def _endure(load: Load, replicas: list[Replica], seconds: float, every_s: float) -> list[float]:
    """Load, kills and promotions for a while; when the kills were, by `time.monotonic`."""
    threads = [
        threading.Thread(target=work, daemon=True)
        for work in (load.recommendations, load.recommendations, load.events, load.edits)
    ]
    for thread in threads:
        thread.start()
    began, kills_s, changes = time.monotonic(), list[float](), [(TAKEN_BACK, "rollback"), (PROMOTED, "promote")]
    while (elapsed := time.monotonic() - began) < seconds:
        if changes and elapsed >= changes[-1][0] * seconds:
            route = changes.pop()[1]
            load.change(route, {"version": "0002"} if route == "promote" else None)
        last = kills_s[-1] if kills_s else began
        if time.monotonic() - last >= every_s and all(replica.is_ready for replica in replicas):
            replica = replicas[len(kills_s) % len(replicas)]
            kills_s.append(time.monotonic())
            replica.kill()
            replica.start()
        time.sleep(POLL_S)
    load.ended.set()
    for thread in threads:
        thread.join()
    wait_until_all_are_ready(replicas)
    return kills_s


def wait_until_all_are_ready(replicas: list[Replica]) -> None:
    """Raises RuntimeError where one cannot be started."""
    for replica in replicas:
        replica.wait()


def _ready(replicas: list[Replica]) -> list[int]:
    return [replica.port for replica in replicas if replica.is_ready]


def _town(folder: Path) -> tuple[Path, Path]:
    """A tiny town with two adapters: its configuration, and its run folder."""
    make_town = inspect.unwrap(conftest._make_town)(inspect.unwrap(conftest._make_model)())
    path: Path = make_town(folder / "town", people=4, days=12, head_dim=32)
    run = folder / "shop"
    config = load_config(path, ["finetune.epochs=0.1", f"run={run}"])
    whereupon.prepare(config)
    whereupon.finetune(config)
    shutil.copytree(run / "adapters" / "0001", run / "adapters" / "0002")
    weights = run / "adapters" / "0002" / "adapter_model.safetensors"
    save_file({name: -3 * values for name, values in load_file(weights).items()}, weights)
    return path, run


@contextlib.contextmanager
def _haproxy(folder: Path, ports: list[int]) -> Iterator[None]:
    """HAProxy in front of the replicas, at the first port, once it answers."""
    file = folder / "haproxy.cfg"
    file.write_text(haproxy_text(CONFIG.read_text(encoding="utf-8"), ports), encoding="utf-8")
    process = subprocess.Popen(["haproxy", "-f", str(file), "-db"], stdout=subprocess.DEVNULL)
    try:
        while asked(ports[0], "GET", "/health", "")[0] != 200:
            if process.poll() is not None:
                raise RuntimeError(f"HAProxy ended with {process.returncode}")
            time.sleep(POLL_S)
        yield
    finally:
        process.kill()
        process.wait()


def haproxy_text(text: str, ports: list[int]) -> str:
    """The configuration with other ports: first its own, then those of the replicas."""
    other = {f"127.0.0.1:{PORT + number}": f"127.0.0.1:{port}" for number, port in enumerate(ports)}
    return re.sub(r"127\.0\.0\.1:\d+", lambda found: other[found[0]], text)


def free_ports(num: int) -> list[int]:
    """Ports that are free."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(num)]
        return [one.getsockname()[1] for one in found]


def figures_of(seen: Seen, stored: dict[str, str], kills_s: list[float]) -> dict[str, Any]:
    """What is written down."""
    elsewhere = outside_of_kills(seen.failures, kills_s)
    return {
        "kills": len(kills_s), "requests": seen.num_requests, "answers": len(seen.answers),
        "answers_by_adapter": {name: sum(one.adapter == name for one in seen.answers) for name in ("0001", "0002")},
        "acknowledged_events": len(seen.events), "stored_events": len(stored), "lost_events": lost(seen.events, stored),
        "failed_first_tries": len(seen.failures), "healed": sum(one.healed for one in seen.failures),
        "not_healed": [one.what for one in seen.failures if not one.healed],
        "failed_apart_from_kills": [one.what for one in elsewhere], "problems": seen.problems[:20],
        "promotion_s": [one.acknowledged_s - one.asked_s for one in seen.promotions],
        "promotions": [one.adapter for one in seen.promotions],
        "late_answers": len(late(seen.answers, seen.promotions, PROPAGATION_S)),
        "event_delay_s": _percentiles(seen.event_delays_s), "edit_delay_s": _percentiles(seen.edit_delays_s),
        "difference_between_answers_of_one_version": spread(seen.answers),
        "difference_between_adapters": apart(seen.answers),
    }  # fmt: skip


def _percentiles(values: list[float]) -> dict[str, Any] | None:
    if not values:
        return None
    p50, p99 = np.percentile(values, [50, 99]).tolist()
    return {"count": len(values), "p50": p50, "p99": p99, "most": max(values)}


def bars_of(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """One for each requirement."""
    made = [
        bar("acknowledged events that were lost", len(figures["lost_events"]), "0", not figures["lost_events"]),
        bar("requests that one retry did not heal, or refused", len(figures["not_healed"]) + len(figures["problems"]),
            "0", not figures["not_healed"] and not figures["problems"]),
        bar("5xx or broken connections more than 5 s away from a kill", len(figures["failed_apart_from_kills"]), "0",
            not figures["failed_apart_from_kills"]),
    ]  # fmt: skip
    for what in ("event", "edit"):
        p99 = (figures[f"{what}_delay_s"] or {}).get("p99")
        ok = p99 is not None and p99 < PROPAGATION_S
        made.append(bar(f"{what}s: seconds until all replicas show it, p99", p99, f"below {PROPAGATION_S:g}", ok))
    both = figures["promotions"] == ["0002", "0001"]
    differ, between = figures["difference_between_answers_of_one_version"], figures["difference_between_adapters"]
    return [
        *made,
        bar("promotions, there and back", len(figures["promotions"]), "2", both),
        bar("answers of the old adapter to requests sent more than 1 s after a promotion", figures["late_answers"], "0",
            both and not figures["late_answers"]),
        bar("largest difference between answers that name the same adapter and catalogue", differ, f"at most {SAME}",
            differ <= SAME < between),
        bar("kills", figures["kills"], "at least 1", figures["kills"] > 0),
    ]  # fmt: skip


def _version(*command: str) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return said[0]


if __name__ == "__main__":
    sys.exit(main())
