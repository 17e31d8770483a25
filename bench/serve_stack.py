"""What the stack of rankers costs an answer: two servers, one with it and one of a model that was trained alone.

Both give ten recommendations for the same people, in turns, from an empty prefix cache: whatever else the
machine does hits both alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from serve_load import K
from serve_processes import Server, client, our_server, reset_prefix_cache

from whereupon.config import Config
from whereupon.histories import Histories

Say = Callable[[str], None]
Body = dict[str, Any]


def alone_run(config: Config) -> Path:
    """The run of the model that was trained alone: the other's name with "-alone"."""
    return config.run.with_name(config.run.name + "-alone")


def requests(histories: Histories, row_E: Sequence[int]) -> list[Body]:
    """A request about each user of some events, at the time of their last one."""
    last_U = histories.offset_U1[1:] - 1
    user_E = histories.user_idx_N[np.array(row_E)]
    times = histories.events["time"].gather(last_U[user_E])
    return [
        {"user_id": histories.user_ids[user], "k": K, "context": {"at": at.isoformat()}}
        for user, at in zip(user_E.tolist(), times.to_list(), strict=True)
    ]


def measure(
    config_file: Path, settings: list[str], alone: Path, bodies: Sequence[Body], logs: Path, say: Say
) -> dict[str, Any]:
    """Median and 99th percentile of both in seconds, and the ratio of the medians. The last request is for warming
    up."""
    without = [*settings, f"run={alone}", "priors=none"]
    with (
        our_server(config_file, settings, logs / "serve-stack.log") as stacked,
        our_server(config_file, without, logs / "serve-alone.log") as plain,
    ):
        found = asyncio.run(_in_turns({"stack": stacked, "alone": plain}, bodies))
    times = {name: {"p50_s": float(np.median(s)), "p99_s": float(np.quantile(s, 0.99))} for name, s in found.items()}
    ratio = times["stack"]["p50_s"] / times["alone"]["p50_s"]
    say(f"with the stack {times['stack']['p50_s']:.3f} s, without {times['alone']['p50_s']:.3f} s at the median")
    return {"num_users": len(bodies) - 1, "times": times, "p50_ratio": ratio}


async def _in_turns(servers: dict[str, Server], bodies: Sequence[Body]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in servers}
    async with client(servers["stack"]) as stacked, client(servers["alone"]) as plain:
        clients = {"stack": stacked, "alone": plain}
        for http in clients.values():
            await _ask(http, bodies[-1])
        for number, body in enumerate(bodies[:-1]):
            for name in list(servers)[:: 1 if number % 2 else -1]:
                reset_prefix_cache(servers[name])
                found[name].append(await _ask(clients[name], body))
    return found


async def _ask(http: httpx.AsyncClient, body: Body) -> float:
    """Seconds of one answer. Raises RuntimeError for an answer that is none."""
    began = time.perf_counter()
    response = await http.post("/v1/recommendations", json=body)
    if response.status_code != 200:
        raise RuntimeError(f"/v1/recommendations answers {response.status_code}: {response.text[:500]}")
    return time.perf_counter() - began
