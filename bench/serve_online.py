"""Whereupon, client-side beam search and the floors against servers, at concurrency 1, 8 and 32.

At concurrency 1 all that ask our server take turns, question by question, each after the prefix cache was emptied, so
that whatever else the machine does hits all alike. At 8 and 32 each asks all its questions by itself, again from an
empty cache. Every contestant gets the same prompts, those of different people, each once at each concurrency.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serve_contestants import ClientBeams, Completions, Greedy, OneToken, Whereupon
from serve_load import Ask, Phase, Timed, drive, figures, timed
from serve_processes import Server, client, our_server, reset_prefix_cache, stock_server
from serve_questions import Question, Task

Say = Callable[[str], None]
Plan = dict[int, int]


def plans(num: int) -> dict[str, Plan]:
    """For each contestant, how many prompts at which concurrency, where `num` is that of ours at 1; the slow have
    fewer, but one for everybody who asks at once."""
    few = max(1, num // 2)
    return {
        "one_token": {1: num},
        "ours": {1: num, 8: max(8, 2 * num), 32: max(32, 2 * num)},
        "a_tuned": {1: few, 8: max(8, num), 32: max(32, num)},
        "floor": {1: num, 8: max(8, num), 32: max(32, num)},
        "a_stock": {1: few, 8: max(8, num), 32: max(32, num)},
        "b": {1: max(1, num // 5), 8: 8, 32: 32},
    }


def measure(
    config_file: Path, settings: list[str], task: Task, num: int, weights: Path, dtype: str, logs: Path, say: Say
) -> dict[str, Any]:
    """The figures of each contestant, by its name."""
    with our_server(config_file, settings, logs / "serve-ours.log") as server:
        found = asyncio.run(_against_ours(server, task, plans(num), say))
    with stock_server(str(weights), dtype, logs / "serve-stock.log") as server:
        found |= asyncio.run(_against_stock(server, task, plans(num), say))
    return {name: figures(phases) for name, phases in found.items()}


async def _against_ours(server: Server, task: Task, plan: dict[str, Plan], say: Say) -> dict[str, list[Phase]]:
    async with client(server) as http:
        complete = Completions(http, server.model)
        asks: dict[str, Ask] = {
            "one_token": OneToken(complete), "ours": Whereupon(complete, task, server.model),
            "a_tuned": ClientBeams(complete, task), "floor": Greedy(complete, task),
        }  # fmt: skip
        return await _measured(server, asks, task, plan, say)


async def _against_stock(server: Server, task: Task, plan: dict[str, Plan], say: Say) -> dict[str, list[Phase]]:
    async with client(server) as http:
        return await _measured(server, {"a_stock": ClientBeams(Completions(http, server.model), task)}, task, plan, say)


async def _measured(
    server: Server, asks: dict[str, Ask], task: Task, plan: dict[str, Plan], say: Say
) -> dict[str, list[Phase]]:
    for ask in asks.values():
        await ask(task.questions[-1].tokens)  # for nothing: the first time is slower
    timed_of = await _in_turns(server, asks, task.questions, {name: plan[name][1] for name in asks}, say)
    phases = {name: [Phase(1, sum(one.latency_s for one in found), found)] for name, found in timed_of.items()}
    for name, ask in asks.items():
        for concurrency, num in plan[name].items():
            if concurrency > 1:
                reset_prefix_cache(server)
                phase = await drive(ask, task.questions[:num], concurrency)
                phases[name].append(phase)
                say(f"{name}: {num} prompts, {concurrency} at once, in {phase.wall_s:.0f} s")
    return phases


async def _in_turns(
    server: Server, asks: dict[str, Ask], questions: list[Question], num_of: dict[str, int], say: Say
) -> dict[str, list[Timed]]:
    """Each question to all whose number of questions is not used up, every time beginning with another of them."""
    found: dict[str, list[Timed]] = {name: [] for name in asks}
    began = time.perf_counter()
    for number, question in enumerate(questions[: max(num_of.values())]):
        names = [name for name in asks if number < num_of[name]]
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            reset_prefix_cache(server)
            found[name].append(await timed(asks[name], question))
    say(f"{', '.join(asks)} in turns: {len(found[max(num_of, key=lambda name: num_of[name])])} prompts, one at a time, "
        f"in {time.perf_counter() - began:.0f} s")  # fmt: skip
    return found
