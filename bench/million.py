"""A server with a million titles beside one with 3,248: what an answer, the memory and the start cost.

    make bench-million ARGS="[--items 1000000] [--people 60] [--queried 7] [--folder runs/million]"

Made-up titles (`titles.py`) of which each of some people has favourites; SmolLM2 fine-tuned until it knows these
habits, on top of popularity and own counts. One server is given three catalogues, one after another, and the same
requests, each after the prefix cache was emptied:
few      the 3,248 titles of the histories
million  these among a million
wide     these among titles that begin with as many different tokens as the tokenizer has words: the topmost node of the
         trie has some 25,000 edges, and every request needs the score of each
Beside seconds, the CPU seconds of all processes of the server are measured, which other programs hardly change. What
the million adds to a start is what taking it over adds to the first request. Answers at a million titles are compared
with the exact search of `recommend`, in this process, by transformers. What the topmost node costs is the CPU time of
`wide` less that of `few`; beside it, what Python lists alone would cost.

What was trained in the folder is not trained again. Writes bench/results/million.json; exits with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import requests
import titles
from record import bar, record
from serve_memory import tree_rss_bytes

from whereupon.arrays import Float64
from whereupon.config import Config, load_config
from whereupon.decode.tokenizer import Tokenizer
from whereupon.finetune.train import finetune
from whereupon.histories import prepare
from whereupon.recommend import Recommender, Request
from whereupon.recommend.context import RequestContext
from whereupon.serve.launcher.merged import merged_weights
from whereupon.tests.serve.processes import Server, serving

ROOT: Final = Path(__file__).parents[1]
SEED, K, FEW = 7, 10, 3248
EVENTS_EACH, LIKED = 40, 14
EXPLORING = 0.1  # share of events that are not among a person's favourites
WARM_UP = 2  # requests to each catalogue before those that are timed
DTYPE = "float32"
AT: Final = "2026-02-15T12:00:00"  # of all requests: answers depend on the hour
NAMES = ("few", "million", "wide")
CONFIG = """
run: run
histories: {events: {path: events.csv}, items: {path: items.csv}, time_zone: UTC, split: {train: 0.9, valid: 0.05}}
model: {base: smollm2-135m, dtype: float32, device: cpu}
prompts: {budget_tokens: 384, profile_tokens: 64, align_tokens: 32}
priors: [popularity, own counts]
finetune: {epochs: 1, learning_rate: 1.0e-3, batch_tokens: 512, validations_per_epoch: 0}
"""
DEVELOPMENT = {"VLLM_SERVER_DEV_MODE": "1"}  # has /reset_prefix_cache
COUNTED = ("rounds", "expansions")

Figures = dict[str, Any]


@dataclass
class Block:
    """The requests to one catalogue: of each the seconds, the CPU seconds of the server, and the answer."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    answers: list[Figures] = field(default_factory=list)
    num_titles: int = 0
    rss_gib: float = 0.0
    counts: Figures = field(default_factory=dict)

    def figures(self) -> Figures:
        """Medians of the timed requests; the first one takes the catalogue over."""
        timed = slice(WARM_UP, None)
        return {
            "num_titles": self.num_titles, "num_requests": len(self.wall_s[timed]),
            "p50_s": float(np.median(self.wall_s[timed])), "p90_s": float(np.quantile(self.wall_s[timed], 0.9)),
            "cpu_s_median": float(np.median(self.cpu_s[timed])),
            "take_over_cpu_s": self.cpu_s[0] - float(np.median(self.cpu_s[timed])), "rss_gib": self.rss_gib,
            "share_exact": float(np.mean([one["exact"] for one in self.answers[timed]])), **self.counts,
        }  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """The server, and the run folder whose catalogue it serves."""

    served: Server
    run: Path

    def block(self, catalogue: Path, users: list[str]) -> Block:
        """Put a catalogue in place of the one before, and ask about each user. Raises HTTPError for a wrong answer."""
        new = self.run / "new"
        new.symlink_to(catalogue)
        new.replace(self.run / "catalogue")  # the server sees another CURRENT, or none
        block, before = Block(), self._counts()
        for user_id in users:
            while not requests.post(f"{self.served.url}/reset_prefix_cache", timeout=600).json()["success"]:
                time.sleep(0.05)  # blocks of a request that has just ended are still held
            cpu_before, began = self._cpu_s(), time.perf_counter()
            answer = requests.post(
                f"{self.served.url}/v1/recommendations",
                json={"user_id": user_id, "k": K, "context": {"at": AT}},
                timeout=None,
            )
            block.wall_s.append(time.perf_counter() - began)
            answer.raise_for_status()
            block.cpu_s.append(self._cpu_s() - cpu_before)
            block.answers.append(answer.json())
            print(f"{catalogue.parent.name}, {user_id}: {block.wall_s[-1]:.2f} s, {block.cpu_s[-1]:.2f} s of CPU",
                  file=sys.stderr, flush=True)  # fmt: skip
        card = requests.get(f"{self.served.url}/v1/catalogues/{self.served.model}?limit=0", timeout=600).json()
        block.num_titles, block.rss_gib = card["num_items"], tree_rss_bytes(self.served.launcher.pid) / 2**30
        num, *sums = (after - was for after, was in zip(self._counts(), before, strict=True))
        block.counts = {f"{name}_mean": total / num for name, total in zip(COUNTED, sums, strict=True)}
        return block

    def _cpu_s(self) -> float:
        """CPU seconds of the server's processes since their start."""
        ticks = 0
        for pid in self.served.processes():
            with contextlib.suppress(OSError):
                ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def _counts(self) -> list[float]:
        """Searches, and the sums of what is counted of each, as /metrics says."""
        lines = requests.get(f"{self.served.url}/metrics", timeout=600).text.splitlines()
        said = dict(line.rsplit(" ", 1) for line in lines if line.startswith("whereupon_search_"))
        names = ["rounds_count", *(f"{name}_sum" for name in COUNTED)]
        return [float(said[f"whereupon_search_{name}"]) for name in names]


def main() -> int:
    """Make, train, serve, ask, compare; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000, help="titles of the largest catalogue")
    parser.add_argument("--people", type=int, default=60, help="people of the histories")
    parser.add_argument("--queried", type=int, default=7, help="people of requests, of these; two warm up")
    parser.add_argument("--compared", type=int, default=3, help="answers compared with the exact search in process")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "million")
    parser.add_argument("--output", type=Path, help="folder to write to instead of bench/results")
    options = parser.parse_args()
    folder = options.folder.resolve()
    config = trained(folder, options.people)
    edges = {name: catalogue(folder, name, options.items) for name in NAMES}
    users = [f"p{person:03}" for person in range(options.queried)]
    (config.run / "catalogue").unlink(missing_ok=True)  # of another time
    with serving(folder / "million.yaml", config.run, ["serve.plain_routes=true"], DEVELOPMENT) as served:
        server = Measured(served, config.run)
        blocks = {name: server.block(folder / name / "catalogue", users) for name in NAMES}
    of = {name: block.figures() | {"root_edges": edges[name]} for name, block in blocks.items()}
    compared = slice(WARM_UP, WARM_UP + options.compared)
    same, difference = agreement(folder, users[compared], blocks["million"].answers[compared])
    bars = bars_of(of, same, len(users[compared]), difference)
    root_ms = 1e3 * (of["wide"]["cpu_s_median"] - of["few"]["cpu_s_median"])
    return record(
        "million", SEED, bars, folder=options.output, catalogues=of, root_cpu_ms=root_ms,
        lists_cpu_ms=lists_cpu_ms(edges["wide"]), load_average=os.getloadavg()[0],
    )  # fmt: skip


def lists_cpu_ms(num: int) -> float:
    """What the Python lists of vLLM's own log-probabilities would cost the server for one node with `num` edges: in the
    request, the tokens that are allowed; in the answer, ids, log-probabilities, ranks and texts. Median CPU time."""
    from vllm.logprobs import FlatLogprobs, append_logprobs_for_next_position

    token_J, log_prob_J, took = np.arange(num), np.zeros(num, np.float32), []
    for _ in range(9):
        began = time.process_time()
        copy.deepcopy(token_J.tolist())  # vLLM copies what a request asks for
        flat = FlatLogprobs()
        append_logprobs_for_next_position(
            flat, token_J.tolist(), log_prob_J.tolist(), itertools.repeat(None), 1, num - 1
        )
        np.array(flat.token_ids), np.array(flat.logprobs, np.float32)
        took.append(time.process_time() - began)
    return 1e3 * float(np.median(took))


def bars_of(of: dict[str, Figures], same: int, num: int, difference: float) -> list[Figures]:
    """The figures and their bounds."""
    few, million, wide = (of[name] for name in NAMES)
    added_gib, added_s, edges = million["rss_gib"] - few["rss_gib"], million["take_over_cpu_s"], wide["root_edges"]
    ratios = []
    for key, what in (("p50_s", "p50"), ("cpu_s_median", "median CPU time")):
        for one, which, most in ((million, f"{million['num_titles']:,} titles", 3), (wide, f"{edges:,} edges", 2)):
            ratio = one[key] / few[key]
            ratios.append(bar(f"{what} with {which} over that with {FEW:,} titles", ratio, f"<= {most}", ratio <= most))
    return [
        *ratios,
        bar("edges of the topmost node of the wide trie", edges, ">= 20000", edges >= 20_000),
        bar("memory that the million adds to the server, GiB", added_gib, "<= 2", added_gib <= 2),
        bar("CPU seconds that the million adds to a start", added_s, "<= 30", added_s <= 30),
        bar("answers at the million whose ten items are those of the exact search in process", same, f"= {num}",
            same == num > 0),
        bar("largest difference of their probabilities", difference, "<= 1e-3", difference <= 1e-3),
        bar("share of answers at the million that are exact", million["share_exact"], "= 1",
            million["share_exact"] == 1),
    ]  # fmt: skip


def trained(folder: Path, people: int) -> Config:
    """The people, their events and the model; its weights are merged, too."""
    path = folder / "million.yaml"
    if not path.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        titles.items(FEW, SEED).select("item_id", "title").write_csv(folder / "items.csv")
        _events(people).write_csv(folder / "events.csv")
        path.write_text(CONFIG, encoding="utf-8")
    config = load_config(path, [])
    if not (config.run / "adapters" / "CURRENT").is_file():
        prepare(config.histories, config.catalogue, config.run, config.seed)
        finetune(config)
    with merged_weights(config, DTYPE):
        return config


def _events(people: int) -> pl.DataFrame:
    """One event a day of each person: one of their favourites, by Zipf's law, or any title, by its popularity."""
    rng, start = np.random.default_rng(SEED), datetime(2026, 1, 1, 9)
    popularity = _zipf(FEW)[rng.permutation(FEW)]
    rows = []
    for person in range(people):
        liked = rng.choice(FEW, LIKED, replace=False, p=popularity)
        favourite, other = rng.choice(liked, EVENTS_EACH, p=_zipf(LIKED)), rng.choice(FEW, EVENTS_EACH, p=popularity)
        for day, item in enumerate(np.where(rng.random(EVENTS_EACH) < EXPLORING, other, favourite).tolist()):
            moment = start + timedelta(days=day, minutes=int(rng.integers(0, 600)))
            rows.append({"user_id": f"p{person:03}", "item_id": f"i{item}", "time": f"{moment.isoformat()}Z"})
    return pl.DataFrame(rows)


def _zipf(num: int) -> Float64:
    """float64 [num]: shares of ranks, the first rank's being the largest."""
    weight = 1 / np.arange(1.0, num + 1)
    return np.asarray(weight / weight.sum())


def catalogue(folder: Path, name: str, num: int) -> int:
    """A run folder in which the titles of the histories are among others; the edges of the trie's topmost node."""
    run = folder / name
    if not run.exists():
        run.mkdir()
        for shared in ("adapters", "histories", "priors", "served"):
            (run / shared).symlink_to((folder / "run" / shared).resolve())
    with Recommender.load(load_config(folder / "million.yaml", [f"run={run}"]), only_prompts=True) as recommender:
        version = recommender.catalogues.current
        if version.items.height == FEW and name != "few":
            known = titles.items(FEW, SEED).select("item_id", "title")
            many = titles.items(num, SEED).select("item_id", "title")[FEW:] if name == "million" else None
            more = _wide(recommender.tokenizer) if many is None else many
            items = pl.concat([known, more]).unique("title", keep="first", maintain_order=True)
            version = recommender.catalogues.edit(lambda saved: saved.rebuild(items))
        return int(version.trie.child_ptr_B1[1])


def _wide(tokenizer: Tokenizer) -> pl.DataFrame:
    """A title for every token that can begin one: a word behind a space."""
    texts = [tokenizer.decode([token]) for token in range(len(tokenizer.tokenizer))]
    words = [text[1:] for text in texts if text.startswith(" ") and text[1:].isalnum()]
    return pl.DataFrame({"item_id": [f"w{i}" for i in range(len(words))], "title": [f"{word} Shop" for word in words]})


def agreement(folder: Path, users: list[str], answers: list[Figures]) -> tuple[int, float]:
    """How many answers have the items of the exact search in process, in its order, and how far probabilities are."""
    same, difference = 0, 0.0
    with Recommender.load(load_config(folder / "million.yaml", [f"run={folder / 'million'}"])) as recommender:
        for user_id, answer in zip(users, answers, strict=True):
            rows = recommender.answer(
                recommender.question(Request(user_id=user_id, context=RequestContext(at=AT))), K
            ).rows()
            got = [(one["item_id"], one["probability"]) for one in answer["data"]]
            same += [row["item_id"] for row in rows] == [item_id for item_id, _ in got]
            expected = {row["item_id"]: row["probability"] for row in rows}
            difference = max([difference, *(abs(expected.get(item_id, 0.0) - p) for item_id, p in got)])
    return same, difference


if __name__ == "__main__":
    sys.exit(main())
