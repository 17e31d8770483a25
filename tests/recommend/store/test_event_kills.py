"""`kill -9` amid event writes, in small; `make bench-events` does it in full, and with PostgreSQL."""

from pathlib import Path
from typing import Any

import pytest

from whereupon.bench.event_kills import EventServer, events_of, faults, kill_again_and_again


@pytest.mark.slow
def test_acknowledged_events_outlive_kills_and_none_is_doubled(tmp_path: Path) -> None:
    server = EventServer(str(tmp_path / "events.sqlite"), tmp_path / "log")
    server.start()
    try:
        server.wait_until_ready()
        found = kill_again_and_again(server, server, num_kills=3, num_clients=3, seed=7)
    finally:
        server.kill()
    assert (found["missing"], found["doubled"], found["altered"]) == (0, 0, 0)
    assert found["stored"] == found["acknowledged"] > 0
    assert found["kills"] == 3


FIVE = events_of("u", 0)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (FIVE, {}),
        ([*FIVE, *events_of("u", 1)], {}),  # stored, and not acknowledged yet
        (FIVE[1:], {"missing": 1}),
        ([*FIVE, FIVE[2]], {"doubled": 1}),
        ([*FIVE, {**FIVE[2], "event_id": "new"}], {"doubled": 1}),
        ([{**FIVE[0], "user_id": "v"}, *FIVE[1:]], {"altered": 1}),
        ([], {"missing": 5}),
    ],
)
def test_event_that_is_missing_doubled_or_altered_is_counted(
    stored: list[dict[str, Any]], expected: dict[str, int]
) -> None:
    assert dict(faults(FIVE, stored)) == {"missing": 0, "doubled": 0, "altered": 0} | expected
