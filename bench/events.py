"""Acknowledged events outlive `kill -9`: of the server over SQLite, over PostgreSQL, and of PostgreSQL itself.

Clients post batches and send again what was not acknowledged. The process that is killed is `event_server.py`: router,
store and settings of the product under uvicorn, without vLLM and a model, which write no events. A killed process
leaves to the operating system what it has written, so this shows that an answer comes after the commit, that a batch is
whole or absent, and that sending again doubles nothing; what a machine without power keeps is a matter of flushing,
which both stores do at each commit.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from event_kills import EventServer, Victim, kill_again_and_again
from postgres_cluster import Cluster, postgres_programs
from record import bar, record


def main() -> int:
    """Run all three, write bench/results/events.json, and print the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder, Cluster() as cluster:
        log = Path(folder) / "log"
        for name, address, is_database in (
            ("sqlite", f"{folder}/events.sqlite", False),
            ("postgresql", cluster.new_place(), False),
            ("postgresql_itself", cluster.new_place(), True),
        ):
            server = EventServer(address, log)
            victim: Victim = cluster if is_database else server
            server.start()
            try:
                server.wait_until_ready()
                figures[name] = kill_again_and_again(server, victim, arguments.kills, arguments.clients, arguments.seed)
            finally:
                server.kill()
            print(f"{name}: {figures[name]}", file=sys.stderr)
    return record("events", arguments.seed, _bars(figures, arguments.kills), software=_software(), **figures)


def _bars(figures: dict[str, dict[str, Any]], num_kills: int) -> list[dict[str, Any]]:
    bars = []
    for name, figure in figures.items():
        named = name.replace("_", " ")
        bars.append(bar(f"{named}: kills amid writes", figure["kills"], "20", figure["kills"] >= 20))
        bars += [
            bar(f"{named}: acknowledged events {fault}", figure[fault], "0", figure[fault] == 0)
            for fault in ("missing", "doubled", "altered")
        ]
        surplus = figure["stored"] - figure["acknowledged"]
        bars.append(bar(f"{named}: events stored beyond those acknowledged in the end", surplus, "0", surplus == 0))
    return bars


def _software() -> dict[str, str]:
    packages = {name: importlib.metadata.version(name) for name in ("fastapi", "uvicorn", "psycopg")}
    programs = postgres_programs()
    assert programs is not None
    answer = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True)
    return {**packages, "sqlite": sqlite3.sqlite_version, "postgresql": answer.stdout.split()[-1]}


if __name__ == "__main__":
    sys.exit(main())
