"""How fast do histories become text? Lines rendered in a second, and the time of one prompt.

    python bench/prompts.py [--events N] [--users U] [--seed S] [--templates NAME ...]

Generates histories with places, weather and times (seeded), and for each shipped template set renders all lines, from
events to texts, on one thread. Then asks for the prompts of users one by one with a tokenizer that costs next to
nothing, as a server does: variables, rendering, window and token ids. Every line of the hardest sets is another one.
The prompt of each user is made for the first time, and again, when the lines of the past are known.
Writes bench/results/prompts.json; exits with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import polars as pl
import record

from whereupon.catalogue import Catalogue
from whereupon.prompts import PromptEncoder, PromptSettings
from whereupon.recommend.prompt import prompt_of

LINES_A_SECOND, PROMPT_MS = 50_000.0, 5.0
TEMPLATES: Final = (
    "plain",
    "checkins",
    "terse",
    "terse-zh",
    "places",
    "descriptive",
    "descriptive-zh",
    "chat",
    "chat-zh",
)
NUM_ITEMS: Final = 2000
REPEATS: Final = 3
NUM_PROMPTS: Final = 200
_WORDS: Final = re.compile(r"\n| ?[^\s:]+|:")


class Words(dict[str, list[int]]):
    """A tokenizer of whole words, which remembers the phrases that it has seen: it should cost next to nothing."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def __missing__(self, phrase: str) -> list[int]:
        self[phrase] = [self.ids.setdefault(word, len(self.ids)) for word in _WORDS.findall(phrase)]
        return self[phrase]

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        # Words begin with the space before them, so that lines may be cut there.
        phrases = (text.replace(", ", ",\0 ").split("\0") for text in texts)
        return [list(chain.from_iterable(map(self.__getitem__, line))) for line in phrases]


def main() -> int:
    """Generate, render, ask; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=200_000, metavar="N")
    parser.add_argument("--users", type=int, default=1000, metavar="U")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--templates", nargs="+", default=TEMPLATES, choices=TEMPLATES)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    items = _items(rng)
    events = _events(rng, args.events, args.users, items)
    rows = [_measured(name, items, events) for name in args.templates]
    slowest = min(rows, key=lambda row: row["lines_a_second"])
    first, again = (max(rows, key=lambda row: row[name]) for name in ("first_prompt_ms", "prompt_ms"))
    bars = [
        record.bar(f"lines a second, {slowest['template']} (the slowest)", slowest["lines_a_second"],
                   f">= {LINES_A_SECOND:,.0f}", slowest["lines_a_second"] >= LINES_A_SECOND),
        record.bar(f"milliseconds a user's first prompt, {first['template']} (the slowest)", first["first_prompt_ms"],
                   f"< {PROMPT_MS:g}", first["first_prompt_ms"] < PROMPT_MS),
        record.bar(f"milliseconds a later prompt of a user, {again['template']} (the slowest)", again["prompt_ms"],
                   f"< {PROMPT_MS:g}", again["prompt_ms"] < PROMPT_MS),
    ]  # fmt: skip
    for row in rows:
        print(f"{row['template']}: {row['lines_a_second']:,.0f} lines/s, {row['first_prompt_ms']:.2f} ms a first and "
              f"{row['prompt_ms']:.2f} ms a later prompt, {row['distinct_share']:.0%} distinct")  # fmt: skip
    return record.record("prompts", args.seed, bars, events=args.events, users=args.users, rows=rows)


def _measured(template: str, items: pl.DataFrame, events: pl.DataFrame) -> dict[str, Any]:
    """CPU seconds, the best of some, as others may use the machine."""
    settings = PromptSettings(template=template, place_column="district")
    words = Words()
    encoder = PromptEncoder.build(settings, Catalogue.build(items, words), words, "outcome", (), _chat)
    seconds, distinct = [], 0
    for _ in range(REPEATS):
        start = time.process_time()
        texts, _index = encoder.context_texts(events)
        seconds.append(time.process_time() - start)
        distinct = len(texts)
    users = [user for _, user in events.group_by("user_idx", maintain_order=True)][:NUM_PROMPTS]
    queries = [user.with_columns(user_idx=pl.lit(0, pl.Int32)) for user in users]
    prompt_of(encoder, queries[0])
    first, each = [], []
    for one in queries[1:]:
        first.append(_prompt_s(encoder, one))
        each.append(min(_prompt_s(encoder, one) for _ in range(REPEATS)))
    return {
        "template": template, "lines_a_second": events.height / min(seconds),
        "distinct_share": distinct / events.height,
        "first_prompt_ms": 1000 * float(np.median(first)),
        "prompt_ms": 1000 * float(np.median(each)), "prompt_ms_p95": 1000 * float(np.quantile(each, 0.95)),
        "events_a_user": events.height / events["user_idx"].n_unique(),
    }  # fmt: skip


def _prompt_s(encoder: PromptEncoder, args: pl.DataFrame) -> float:
    start = time.process_time()
    prompt_of(encoder, args)
    return time.process_time() - start


def _chat(message: str) -> str:
    return f"<user>{message}</user>\n<assistant>\n"


def _items(rng: np.random.Generator) -> pl.DataFrame:
    number = pl.Series(np.arange(NUM_ITEMS)).cast(pl.String)
    district = pl.Series([f"District {i}" for i in range(80)]).gather(rng.integers(0, 80, NUM_ITEMS))
    return pl.DataFrame({
        "item_id": "i" + number, "title": "Bar " + number, "district": district,
        "latitude": 40.7 + rng.normal(0, 0.05, NUM_ITEMS), "longitude": -74 + rng.normal(0, 0.05, NUM_ITEMS),
    })  # fmt: skip


def _events(rng: np.random.Generator, num: int, num_users: int, items: pl.DataFrame) -> pl.DataFrame:
    item_N = np.minimum(rng.pareto(1.1, num) * 20, NUM_ITEMS - 1).astype(np.int32)
    second_N = 1_640_995_200 + rng.integers(0, 365 * 86_400, num)
    events = pl.DataFrame({
        "user_idx": np.sort(rng.integers(0, num_users, num)).astype(np.int32), "item_idx": item_N,
        "time": pl.Series(second_N * 1_000_000).cast(pl.Datetime("us", "UTC")),
        "latitude": items["latitude"].gather(item_N), "longitude": items["longitude"].gather(item_N),
        "temperature_c": rng.normal(12, 9, num).round(1), "precipitation_mm": rng.exponential(0.2, num).round(1),
        "wind_mps": rng.gamma(2, 2, num).round(1),
    }).sort("user_idx", "time")  # fmt: skip
    return events.with_columns(
        local_time=pl.col("time").dt.convert_time_zone("America/New_York").dt.replace_time_zone(None)
    )


if __name__ == "__main__":
    sys.exit(main())
