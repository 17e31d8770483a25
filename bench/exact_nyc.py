"""Is the search exact on real data? Top-10 of test events of nyc-checkins against brute force over all 3,248 titles.

    WHEREUPON_NYC_CHECKINS=<folder of the three files> python bench/exact_nyc.py [--prompts 200] [--zero-shot]

A quarter of an hour on two cores. Needs the run folder of examples/nyc-checkins.yaml after `whereupon prepare` and
`whereupon finetune`, with the stack of rankers that it was trained on top of; --zero-shot does without both. For each
prompt the whole trie is scored, nothing pruned, and for some titles the model's own logits are taken over the plain
text, which the model alone must agree with. Writes bench/results/exact_nyc.json; exits
with 1 if a bar is missed, as the number of prompts is below 200.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from record import bar, record
from rich.console import Console
from rich.progress import track

from whereupon.config import Config, load_config
from whereupon.decode import Change
from whereupon.decode.adapters import current_adapter
from whereupon.decode.models import load_engine
from whereupon.decode.search import score_all, search
from whereupon.decode.transformers_engine import TransformersEngine
from whereupon.decode.windows import encode_queries
from whereupon.eval import evaluated_events
from whereupon.histories import Histories, read_histories
from whereupon.histories.questions import sample_events
from whereupon.prompts import PromptEncoder
from whereupon.rankers.blend import read_blend

CONFIG = Path(__file__).parents[1] / "examples" / "nyc-checkins.yaml"
NUM_PROMPTS, NUM_SUMMED, NUM_FORCED = 200, 50, 5
TIE = 1e-4  # two titles whose log-probabilities differ by less may swap places
FORCED_TOLERANCE = 1e-3  # float32 over thirty layers, read token by token or all at once

Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Compared:
    """One prompt: seconds, expansions, and how far search and brute force are apart."""

    num_tokens: int
    read_s: float
    search_s: float
    brute_force_s: float
    expansions: int
    probability_sum: float
    is_same: bool
    largest_gap: float
    forced_gap: float


def main() -> int:
    """Compare, and the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=NUM_PROMPTS, help="how many test events (default: %(default)s)")
    parser.add_argument("--zero-shot", action="store_true", help="the base model without an adapter")
    args = parser.parse_args()
    config = load_config(CONFIG)
    config = config.model_copy(update={"model": config.model.model_copy(update={"dtype": "float32"})})
    compared = list(_compare(config, args.prompts, None if args.zero_shot else current_adapter(config.run)))
    same = sum(one.is_same for one in compared)
    sums = [abs(one.probability_sum - 1) for one in compared[:NUM_SUMMED]]
    forced = max(one.forced_gap for one in compared[:NUM_FORCED])
    bars = [
        bar("prompts compared", len(compared), f">= {NUM_PROMPTS}", len(compared) >= NUM_PROMPTS),
        bar("prompts whose top-10 is brute force's", same, f"= {len(compared)}", same == len(compared)),
        bar(f"catalogue's sum off 1 at worst, {len(sums)} prompts", max(sums), "<= 1e-4", max(sums) <= 1e-4),
        bar("log p off the plain model's at worst", forced, f"<= {FORCED_TOLERANCE:g}", forced <= FORCED_TOLERANCE),
    ]
    return record("exact_nyc", config.seed, bars, figures=_figures(compared), adapter=not args.zero_shot)


def _compare(config: Config, num_prompts: int, adapter: Path | None) -> Iterator[Compared]:
    histories = read_histories(config.run)
    engine, encoder, card = load_engine(
        config.model,
        config.prompts,
        histories.items,
        histories.events,
        histories.location,
        adapter,
        title_recipe=histories.title_recipe,
    )
    change_of = None
    if adapter is not None and card is not None:
        change_of = read_blend(config, histories, card, adapter).on(histories, engine.trie)
    next_tokens = _next_tokens(encoder)
    prompts = list(_prompts(histories, encoder, num_prompts, config.seed))
    generator = np.random.default_rng(config.seed)
    for number, (row, tokens_L) in enumerate(track(prompts, "comparing", console=Console(stderr=True))):
        change = change_of(np.array([row])) if change_of else None
        yield _compare_one(engine, tokens_L, change, next_tokens if number < NUM_FORCED else None, generator)


def _prompts(histories: Histories, encoder: PromptEncoder, num: int, seed: int) -> Iterator[tuple[int, Int32]]:
    """Row and prompt of a seeded sample of test events, each as `evaluate` reads it."""
    text = encoder.text(histories.events, len(histories.user_ids))
    windows, row_E = text.windows, evaluated_events(histories, "test")
    for row in row_E[sample_events(len(row_E), num, seed)]:
        one = windows.select((windows.target_W <= row) & (row < windows.end_W))
        window = encode_queries(text, one)[0]
        yield row, window.tokens_L[: window.title_start_V[row - one.start_W[0]]]


def _compare_one(
    engine: TransformersEngine, tokens_L: Int32, change: Change | None,
    next_tokens: dict[tuple[int, ...], list[int]] | None, generator: np.random.Generator,
) -> Compared:  # fmt: skip
    """Search and brute force from one reading, and teacher forcing where `next_tokens` is given."""
    question, trie = np.array([len(tokens_L) - 1]), engine.trie
    times = [time.perf_counter()]
    reading = engine.read(tokens_L, question)
    times.append(time.perf_counter())
    (result,) = search(reading, trie, k=10, reweighting=change)
    times.append(time.perf_counter())
    log_prob_N = score_all(reading.ask(question), trie, reweighting=change)
    times.append(time.perf_counter())
    best_K = np.lexsort((trie.row_of_item_I, -log_prob_N))[:10]
    found_K = result.item_idx_K
    is_same = result.exact and len(set(found_K.tolist())) == len(best_K)
    gap_K = np.abs(log_prob_N[found_K] - log_prob_N[best_K]) if is_same else np.array([np.inf])
    forced_gap = 0.0
    if next_tokens is not None:
        titles = [int(best_K[0]), int(best_K[-1]), int(generator.integers(trie.num_items))]
        alone_N = score_all(reading.ask(question), trie) if change else log_prob_N
        forced = [_teacher_forced(engine, tokens_L, trie.title_tokens(item), next_tokens) for item in titles]
        forced_gap = float(np.abs(np.array(forced) - alone_N[titles]).max())
    total = float(np.exp(log_prob_N.astype(np.float64)).sum())
    off = float(np.abs(result.log_prob_K - log_prob_N[found_K]).max())
    return Compared(
        len(tokens_L), *np.diff(times).tolist(), result.num_expansions, total,
        bool((gap_K < TIE).all()), off, forced_gap,
    )  # fmt: skip


@torch.inference_mode()
def _teacher_forced(
    engine: TransformersEngine, tokens_L: Int32, title: Int32, next_tokens: dict[tuple[int, ...], list[int]]
) -> float:
    """Log-probability of a title by the plain model, which reads prompt and title from the beginning."""
    ids = torch.from_numpy(np.concatenate([tokens_L, title]).astype(np.int64))[None].to(engine.device)
    logits_TV = engine.model(input_ids=ids, logits_to_keep=len(title) + 1).logits[0].double() / engine.temperature
    total = 0.0
    for depth, token in enumerate(title.tolist()):
        allowed = next_tokens[tuple(title[:depth].tolist())]
        total += float(torch.log_softmax(logits_TV[depth, allowed], 0)[allowed.index(token)])
    return total


def _next_tokens(encoder: PromptEncoder) -> dict[tuple[int, ...], list[int]]:
    """For every beginning of a title the tokens that may follow: the catalogue's trie, the slow way."""
    found: dict[tuple[int, ...], set[int]] = defaultdict(set)
    titles = encoder.titles
    for begin, end in zip(titles.ptr[:-1], titles.ptr[1:], strict=True):
        title = titles.tokens[begin:end].tolist()
        for depth, token in enumerate(title):
            found[tuple(title[:depth])].add(token)
    return {beginning: sorted(tokens) for beginning, tokens in found.items()}


def _figures(compared: list[Compared]) -> dict[str, float]:
    def median(name: str) -> float:
        return float(np.median([getattr(one, name) for one in compared]))

    return {
        "prompt_tokens_median": median("num_tokens"),
        "read_s_median": median("read_s"),
        "search_s_median": median("search_s"),
        "brute_force_s_median": median("brute_force_s"),
        "expansions_mean": float(np.mean([one.expansions for one in compared])),
        "log_prob_gap_of_search_and_brute_force_max": max(one.largest_gap for one in compared),
    }


if __name__ == "__main__":
    sys.exit(main())
