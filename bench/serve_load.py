"""Questions to a server, one after another or so many at once, and how long the answers took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from serve_questions import Question

K = 10


@dataclass(frozen=True)
class Answer:
    """Items best first, None for a text that is no title, and their log-probabilities; what it took to get there.

    `num_calls` HTTP requests; `num_lost` children of trie nodes whose probability the client was not shown.
    """

    item_ids: list[str | None]
    log_probs: list[float] = field(default_factory=list)
    num_calls: int = 1
    num_lost: int = 0


Ask = Callable[[list[int]], Awaitable[Answer]]


@dataclass(frozen=True)
class Timed:
    """The answer to the question about the event `row`, after so many seconds."""

    row: int
    latency_s: float
    answer: Answer


@dataclass(frozen=True)
class Phase:
    """All questions at one concurrency; `wall_s` from the first question to the last answer."""

    concurrency: int
    wall_s: float
    timed: list[Timed]


async def timed(ask: Ask, question: Question) -> Timed:
    """One question."""
    began = time.perf_counter()
    answer = await ask(question.tokens)
    return Timed(question.row, time.perf_counter() - began, answer)


async def drive(ask: Ask, questions: Sequence[Question], concurrency: int) -> Phase:
    """Ask every question once, `concurrency` of them at any time."""
    waiting = iter(questions)

    async def work() -> list[Timed]:
        return [await timed(ask, question) for question in waiting]

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(work()) for _ in range(concurrency)]
    wall_s = time.perf_counter() - began
    return Phase(concurrency, wall_s, [one for worker in workers for one in worker.result()])


def figures(phases: list[Phase]) -> dict[str, Any]:
    """Times at each concurrency, and what the answers to all of its questions are worth."""
    return {
        "at": {str(phase.concurrency): _times(phase) for phase in phases},
        **quality([one.answer for phase in phases for one in phase.timed]),
        "answers": {str(one.row): one.answer.item_ids for phase in phases for one in phase.timed},
    }


def _times(phase: Phase) -> dict[str, Any]:
    latency_s = [one.latency_s for one in phase.timed]
    return {
        "num_prompts": len(latency_s),
        "p50_s": float(np.quantile(latency_s, 0.5)),
        "p99_s": float(np.quantile(latency_s, 0.99)),
        "wall_s": phase.wall_s,
        "requests_per_s": len(latency_s) / phase.wall_s,
    }


def quality(answers: list[Answer]) -> dict[str, Any]:
    """Shares among results of those that are no title, and among titles of those that are there twice; share of answers
    with K distinct titles."""
    titles = [[item for item in answer.item_ids if item is not None] for answer in answers]
    num_results = sum(len(answer.item_ids) for answer in answers)
    num_titles, num_distinct = sum(map(len, titles)), sum(len(set(items)) for items in titles)
    return {
        "num_answers": len(answers),
        "num_results": num_results,
        "invalid_rate": (num_results - num_titles) / num_results if num_results else 0.0,
        "duplicate_rate": (num_titles - num_distinct) / num_titles if num_titles else 0.0,
        "share_with_ten": sum(len(set(items)) >= K for items in titles) / len(answers),
        "calls_mean": sum(answer.num_calls for answer in answers) / len(answers),
        "lost_mean": sum(answer.num_lost for answer in answers) / len(answers),
    }


def overlap(answers: dict[str, list[str | None]], best: dict[str, list[str]]) -> tuple[float | None, int]:
    """Mean share of the ten best items (`best`, by event row) that the answers have, and over how many events."""
    common = sorted(answers.keys() & best.keys())
    shares = [len(set(answers[row]) & set(best[row])) / len(best[row]) for row in common]
    return (sum(shares) / len(shares) if shares else None), len(shares)
