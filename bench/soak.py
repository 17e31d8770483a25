"""Ten minutes of good, bad, cancelled and oversized requests, while the catalogue is replaced every ten seconds.

    WHEREUPON_NYC_CHECKINS=<folder of the three files> python bench/soak.py [--minutes 10]

Starts the server of examples/nyc-checkins.yaml (needs its run folder after `whereupon finetune`, and vLLM) on a run
folder of its own, so that nothing that is done here stays. Two catalogues take turns: half of the items are in both;
the others have ids and titles of the one or of the other, so that an answer which mixes the two, or is of another
version than it says, is found out. Memory is that of all processes of the server; it is compared from a minute after
the start on, and after each block of the prefix cache was used once: what was never touched is not resident.

Writes bench/results/soak.json; exits with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from record import bar, record
from serve_checks import CatalogueItems, Tally
from serve_contestants import Completions
from serve_memory import tree_rss_bytes
from serve_processes import Server, client, our_server
from serve_questions import Task, read_task
from serve_traffic import Limits, Request, Traffic

from whereupon.config import Config, load_config
from whereupon.decode.models import load_tokenizer
from whereupon.histories import read_histories

CONFIG = Path(__file__).parents[1] / "examples" / "nyc-checkins.yaml"
SEED = 7
WARM_UP_S, SAMPLE_S, REPLACE_S, SAY_S, GRACE_S = 60.0, 5.0, 10.0, 30.0, 300.0
SHARES = {"good": 0.5, "bad": 0.15, "cancelled": 0.2, "oversized": 0.05, "events": 0.1}
MARKS = ("spring", "autumn")
NUM_PROMPTS, FILL_AT_ONCE = 40, 8

Body = dict[str, Any]


@dataclass
class Soak:
    """Everything that runs against one server."""

    server: Server
    http: httpx.AsyncClient
    traffic: Traffic
    catalogues: list[list[Body]]
    tally: Tally
    rng: np.random.Generator
    replaced_s: list[float] = field(default_factory=list)
    rss: list[tuple[float, int]] = field(default_factory=list)

    async def work(self, until: float) -> None:
        """One client: one request after another."""
        kinds, shares = list(SHARES), list(SHARES.values())
        while time.monotonic() < until:
            kind = str(self.rng.choice(kinds, p=shares))
            if kind == "cancelled":
                await self._ask(self.traffic.good(), self.rng.random())
            else:
                await self._ask(getattr(self.traffic, kind)())

    async def _ask(self, request: Request, patience_s: float | None = None) -> None:
        """Send a request and judge what comes back; with `patience_s`, leave unless that is soon enough."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(patience_s):
                response = await self.http.post(
                    request.path, content=request.content, headers={"Content-Type": "application/json"}
                )
        except TimeoutError:
            self.tally.status(request, "cancelled")
        except httpx.TransportError as error:
            self.tally.status(request, type(error).__name__)
            if not request.kind.startswith("oversized"):  # there the server may hang up before all was sent
                self.tally.problem("connection lost", request.kind, repr(error))
        else:
            self.tally.response(request, response, time.perf_counter() - began)
            if response.status_code == 429:
                await asyncio.sleep(float(response.headers.get("Retry-After", 1)))

    async def replace(self, until: float) -> None:
        """Put one catalogue and the other in turns, every ten seconds."""
        turn = 0
        while time.monotonic() < until:
            began = time.monotonic()
            items = self.catalogues[turn % len(self.catalogues)]
            try:
                response = await self.http.put(f"/v1/catalogues/{self.traffic.name}", json={"items": items})
            except httpx.TransportError as error:
                self.tally.problem("connection lost", "catalogue", repr(error))
                continue
            if response.status_code == 200:
                self.tally.catalogue(response.json()["version"], items_of(items))
                self.replaced_s.append(time.monotonic() - began)
            else:
                detail = f"{response.status_code} {response.text[:300]}"
                self.tally.problem("catalogue that was not replaced", "catalogue", detail)
            turn += 1
            await asyncio.sleep(max(0.0, REPLACE_S - (time.monotonic() - began)))

    async def tell(self, until: float) -> None:
        """How it goes, every half minute."""
        began = time.monotonic()
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(SAY_S, left))
            tally, mib = self.tally, tree_rss_bytes(self.server.process.pid) / 2**20
            _say(f"{time.monotonic() - began:4.0f} s: {sum(map(len, tally.latency_s.values()))} responses, "
                 f"{tally.num_valid} valid answers, {len(self.replaced_s)} catalogues, {mib:,.0f} MiB, "
                 f"{tally.problems.total()} problems")  # fmt: skip

    async def watch(self, until: float) -> None:
        """Memory, from after the warm-up on: seconds and bytes."""
        began = time.monotonic()
        await asyncio.sleep(WARM_UP_S)
        while time.monotonic() < until:
            self.rss.append((time.monotonic() - began, tree_rss_bytes(self.server.process.pid)))
            await asyncio.sleep(SAMPLE_S)


def main() -> int:
    """Run, and the exit status."""
    args = _arguments()
    config = load_config(args.config, args.settings)
    task = read_task(config, NUM_PROMPTS)
    with our_server(args.config, args.settings, config.run / "bench" / "soak.log") as server:
        soak, is_healthy = asyncio.run(_soak(server, config, task, args))
    figures = summary(soak, args.minutes)
    bars_ = bars(soak.tally, figures, is_healthy)
    for what, detail in soak.tally.shown.items():
        print(f"{what}: {detail}", file=sys.stderr)
    return record("soak", SEED, bars_, concurrency=args.concurrency, minutes=args.minutes, **figures)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, metavar="MIN", help="how long, the warm-up included")
    parser.add_argument("--concurrency", type=int, default=32, metavar="N", help="clients")
    parser.add_argument("--config", type=Path, default=CONFIG, help="another configuration")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="A.B=C", help="a setting")
    args = parser.parse_args()
    if args.minutes * 60 < WARM_UP_S + 2 * SAMPLE_S:
        parser.error(f"--minutes should be more than {(WARM_UP_S + 2 * SAMPLE_S) / 60:.2g}, not {args.minutes:g}")
    return args


async def _soak(server: Server, config: Config, task: Task, args: argparse.Namespace) -> tuple[Soak, bool]:
    rng = np.random.default_rng(SEED)
    async with client(server) as http:
        card, items = await _items(http, server.model)
        common, catalogues = two_catalogues(items)
        limits = Limits(config.serve.max_k, config.serve.max_body_kib * 1024, config.serve.max_events)
        decode = load_tokenizer(config.model).decode
        prompts: list[list[int] | str] = [
            decode(question.tokens) if number % 2 else question.tokens for number, question in enumerate(task.questions)
        ]
        traffic = Traffic(rng, card["name"], server.model, prompts, _old_users(config), common, limits)
        tally = Tally()
        tally.catalogue(card["version"], items_of(items))
        _say(f"{server.url} answers; using every block of its prefix cache once")
        await _fill_cache(http, server.model, task, rng)
        soak = Soak(server, http, traffic, catalogues, tally, rng)
        until = time.monotonic() + 60 * args.minutes
        async with asyncio.timeout(60 * args.minutes + GRACE_S), asyncio.TaskGroup() as group:
            group.create_task(soak.replace(until))
            group.create_task(soak.watch(until))
            group.create_task(soak.tell(until))
            for _ in range(args.concurrency):
                group.create_task(soak.work(until))
        tally.finish()
        return soak, (await http.get("/health")).status_code == 200


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _old_users(config: Config) -> list[str]:
    """Users with events before any time of a request."""
    histories = read_histories(config.run)
    first_U = histories.split_N[histories.offset_U1[:-1]]
    return [user_id for user_id, split in zip(histories.user_ids, first_U.tolist(), strict=True) if split == 0]


async def _items(http: httpx.AsyncClient, name: str) -> tuple[Body, list[Body]]:
    """What there is to know of the catalogue, and all of its items."""
    items: list[Body] = []
    while True:
        response = await http.get(f"/v1/catalogues/{name}", params={"limit": 1000, "offset": len(items)})
        found: Body = response.raise_for_status().json()
        items += found["data"]
        if not found["has_more"]:
            return found, items


def two_catalogues(items: list[Body]) -> tuple[list[Body], list[list[Body]]]:
    """The items that stay, and two catalogues of them and of the others, which are marked."""
    stays, changes = items[::2], items[1::2]
    catalogues = [
        [
            *stays,
            *({**item, "item_id": f"{item['item_id']}-{mark}", "title": f"{item['title']} {mark}"} for item in changes),
        ]
        for mark in MARKS
    ]
    whole = [item for item in stays if None not in (item.get("category"), item.get("latitude"), item.get("longitude"))]
    return whole, catalogues


def items_of(items: list[Body]) -> CatalogueItems:
    """The items as answers are compared with them."""
    return {item["item_id"]: (item["title"], item.get("category")) for item in items}


async def _fill_cache(http: httpx.AsyncClient, model: str, task: Task, rng: np.random.Generator) -> None:
    """Use every block of the prefix cache once."""
    metrics = (await http.get("/metrics")).text
    config = next(line for line in metrics.splitlines() if line.startswith("vllm:cache_config_info"))
    num_blocks, block_tokens = (_number(config, name) for name in ("num_gpu_blocks", "block_size"))
    known = np.array([token for tokens in task.title_tokens for token in tokens])
    (card, *_) = (await http.get("/v1/models")).json()["data"]
    num_tokens = card["max_model_len"] - 1
    complete, left = Completions(http, model), iter(range(1 + num_blocks * block_tokens // num_tokens))

    async def work() -> None:
        for _ in left:
            await complete(rng.choice(known, num_tokens).tolist(), max_tokens=1)

    async with asyncio.TaskGroup() as group:
        for _ in range(FILL_AT_ONCE):
            group.create_task(work())


def _number(line: str, name: str) -> int:
    found = re.search(rf'\b{name}="(\d+)"', line)
    if not found:
        raise RuntimeError(f"vLLM's /metrics has no {name} in {line[:200]!r}.")
    return int(found[1])


def summary(soak: Soak, minutes: float) -> dict[str, Any]:
    """Counts, latencies in seconds, and the memory curve."""
    tally = soak.tally
    statuses = {kind: dict(counts) for kind, counts in sorted(tally.statuses.items())}
    total: dict[str, int] = {}
    for counts in statuses.values():
        for status, count in counts.items():
            total[status] = total.get(status, 0) + count
    return {
        "requests": sum(total.values()), "statuses": total, "by_kind": statuses, "valid_answers": tally.num_valid,
        "versions_in_answers": len(tally.versions), "replaced": len(soak.replaced_s),
        "replaced_per_minute": len(soak.replaced_s) / minutes, "problems": dict(tally.problems), "shown": tally.shown,
        "latency_s": {
            kind: {"num": len(s), "p50": float(np.quantile(s, 0.5)), "p99": float(np.quantile(s, 0.99)), "max": max(s)}
            for kind, s in {**tally.latency_s, "catalogue": soak.replaced_s}.items() if s
        },
        "rss": [{"after_s": round(after_s, 1), "mib": round(num_bytes / 2**20, 1)} for after_s, num_bytes in soak.rss],
    }  # fmt: skip


def bars(tally: Tally, figures: dict[str, Any], is_healthy: bool) -> list[dict[str, Any]]:
    """The required figures."""
    problems = tally.problems
    refused = ("bad request that was not refused", "refusal in another form")
    apart = {"5xx", "answer that mixes versions", *refused}
    others = sum(count for what, count in problems.items() if what not in apart)
    mib = [one["mib"] for one in figures["rss"]]
    growth, per_minute = max(mib) / mib[0], figures["replaced_per_minute"]
    num_refused = sum(problems[what] for what in refused)
    return [
        bar("responses with 5xx", problems["5xx"], "= 0", problems["5xx"] == 0),
        bar("answers that mix versions", problems["answer that mixes versions"], "= 0",
            problems["answer that mixes versions"] == 0),
        bar("other good requests without a valid answer", others, "= 0", others == 0),
        bar("bad requests not refused in one sentence", num_refused, "= 0", num_refused == 0),
        bar("valid answers", tally.num_valid, ">= 100", tally.num_valid >= 100),
        bar("catalogue replaced, times a minute", per_minute, ">= 5", per_minute >= 5),
        bar("memory, largest over first after the warm-up", growth, "<= 1.10", growth <= 1.10),
        bar("healthy at the end", float(is_healthy), "= 1", is_healthy),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
