"""Top-10 of test events of nyc-checkins, end to end: whereupon, beam search of transformers, and brute force.

Every prompt is read on its own, as it is served, by one model in one process; the contestants take turns at being
first, so that whatever else the machine does hits all alike. What is done is appended to a file in the run folder, and
a killed bench goes on from there. Answers of beam search, which take most of the time, are kept as long as model,
prompts and versions of the libraries are the same; ours are measured again when the code of the search has changed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from beams import BeamSearch
from numpy.typing import NDArray

import whereupon
from whereupon.config import Config
from whereupon.decode.adapters import current_adapter
from whereupon.decode.identity import model_identity
from whereupon.decode.models import load_engine
from whereupon.decode.search import score_all, search
from whereupon.decode.transformers_engine import TransformersEngine
from whereupon.eval import evaluated_events
from whereupon.eval.metrics import summarise
from whereupon.files import sha256_file, sha256_text, versions
from whereupon.histories import read_histories
from whereupon.prompts import HistoryText

K = 10
# Two titles whose log-probabilities differ by less may swap places: in bfloat16 a logit has three digits, and they
# depend on how many tokens are computed at once.
TIES = {"float32": 1e-4, "bfloat16": 0.1}
STAGES = ("catalogue", "decode")

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Row = dict[str, Any]


@dataclass(frozen=True)
class Contest:
    """Everything that answers: the engine, the beam search over the same model, and the histories as text."""

    engine: TransformersEngine
    beams: BeamSearch
    text: HistoryText
    row_E: Int64
    partial: Path
    code: str
    tie: float


def measure(config: Config, num_prompts: int, num_brute_force: int, say: Callable[[str], None]) -> Row:
    """Answer `num_prompts` test events, `num_brute_force` of them by brute force too; the figures."""
    contest = _contest(config, num_prompts)
    done = read_rows(contest.partial)
    if done:
        say(f"{len(done):,} prompts were answered before")
    began, is_warm = time.perf_counter(), False
    for number, row in enumerate(contest.row_E.tolist()):
        wanted, known = number < num_brute_force, done.get(row)
        if known and known["code"] == contest.code and (not wanted or known["brute_force_s"] is not None):
            continue
        if not is_warm:
            _answer(contest, row, False, True, known)  # for nothing: the first time in a process is slower
            is_warm = True
        done[row] = _answer(contest, row, wanted, number % 2 == 0, known)
        with contest.partial.open("a", encoding="utf-8") as file:
            file.write(json.dumps(done[row]) + "\n")
        one = done[row]
        say(
            f"{number + 1}/{num_prompts} after {time.perf_counter() - began:.0f} s: read {one['read_s']:.2f} s, "
            f"search {one['search_s']:.2f} s, beam search {one['beams_s']:.2f} s"
        )
    return summary([done[row] for row in contest.row_E.tolist()]) | {"partial": contest.partial.name}


def _contest(config: Config, num_prompts: int) -> Contest:
    histories = read_histories(config.run)
    engine, encoder, card = load_engine(
        config.model, config.prompts, histories.items, histories.events, histories.location,
        current_adapter(config.run),
        title_recipe=histories.title_recipe,
    )  # fmt: skip
    titles = [engine.trie.title_tokens(item).tolist() for item in range(engine.trie.num_items)]
    row_E = evaluated_events(histories, "test")
    row_E = np.random.default_rng(config.seed).permutation(row_E)[:num_prompts]  # of 100, the first of 500
    root, here = Path(whereupon.__file__).parent, Path(__file__)
    files = [here, *(path for stage in STAGES for path in sorted((root / stage).glob("*.py")))]
    code = sha256_text("".join(sha256_file(path) for path in files))
    found = {name: version for name, version in versions().items() if name != "git"}
    key_parts = [card, model_identity(config.model, card), encoder.identity, histories.data_hash, found]
    key_parts += [sha256_file(here.with_name("beams.py")), torch.get_num_threads(), K]
    key = sha256_text(json.dumps(key_parts, sort_keys=True))
    partial = config.run / "bench" / f"search-{key[:16]}.jsonl"
    partial.parent.mkdir(exist_ok=True)
    text = encoder.text(histories.events, len(histories.user_ids))
    beams = BeamSearch(engine.model, titles, K)
    return Contest(engine, beams, text, row_E, partial, code, TIES[str(engine.model.dtype).removeprefix("torch.")])


def read_rows(partial: Path) -> dict[int, Row]:
    """The rows of a file that may have been cut off within its last line; the last word on an event counts."""
    lines = partial.read_text(encoding="utf-8").splitlines(keepends=True) if partial.is_file() else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    if lines and not lines[-1].endswith("\n"):
        partial.write_text("".join(lines[:-1]), encoding="utf-8")
    return {row["row"]: row for row in rows}


def prompt(text: HistoryText, row: int) -> Int32:
    """int32 [L]: what is read before the title of the event `row` is predicted."""
    windows = text.windows
    one = windows.select((windows.target_W <= row) & (row < windows.end_W))
    window = text.encode_windows(one)[0]
    return window.tokens_L[: window.title_start_V[row - one.start_W[0]]]


def _answer(contest: Contest, row: int, brute_force: bool, ours_first: bool, known: Row | None) -> Row:
    """Answer one event by all, or, where beam search has answered it before, by us."""
    tokens_L, item = prompt(contest.text, row), int(contest.text.item_idx_N[row])
    contestants = [_ours, _transformers] if ours_first else [_transformers, _ours]
    found = {"row": row, "num_tokens": len(tokens_L), "item": item, "code": contest.code}
    if known:
        contestants, found = [_ours], known | found
    else:
        found["beams_code"] = contest.code
    for contestant in contestants:
        found |= contestant(contest, tokens_L, item, brute_force)
    return found


def _ours(contest: Contest, tokens_L: Int32, item: int, brute_force: bool) -> Row:
    question, trie = np.array([len(tokens_L) - 1]), contest.engine.trie
    times = [time.perf_counter()]
    reading = contest.engine.read(tokens_L, question)
    times.append(time.perf_counter())
    (result,) = search(reading, trie, k=K)
    times.append(time.perf_counter())
    found: Row = {
        "read_s": times[1] - times[0], "search_s": times[2] - times[1], "exact": result.exact,
        "expansions": result.num_expansions, "rank": rank_of(item, result.item_idx_K),
        "items": result.item_idx_K.tolist(), "brute_force_s": None, "brute_force_items": None, "is_same": None,
    }  # fmt: skip
    if brute_force:
        began = time.perf_counter()
        log_prob_N = score_all(reading.ask(question), trie)
        best_K = np.lexsort((trie.row_of_item_I, -log_prob_N))[:K]
        found["brute_force_s"] = time.perf_counter() - began
        found["brute_force_items"] = best_K.tolist()
        is_whole = len(set(result.item_idx_K.tolist())) == len(best_K)
        gap_K = np.abs(log_prob_N[result.item_idx_K] - log_prob_N[best_K])
        found["is_same"] = is_whole and bool((gap_K < contest.tie).all())
    return found


def _transformers(contest: Contest, tokens_L: Int32, item: int, brute_force: bool) -> Row:
    began = time.perf_counter()
    answer = contest.beams.answer(tokens_L)
    return {
        "beams_s": time.perf_counter() - began, "beams_rank": rank_of(item, answer.item_idx_K),
        "beams_items": answer.item_idx_K.tolist(), "beams_invalid": answer.num_invalid,
        "beams_duplicates": answer.num_duplicates,
    }  # fmt: skip


def rank_of(item: int, item_idx_K: Int64) -> int:
    """1-based rank of an item among those found, 0 where it is not."""
    places = np.flatnonzero(item_idx_K == item)
    return int(places[0]) + 1 if len(places) else 0


def summary(rows: list[Row]) -> Row:
    """The figures of answered prompts; times in seconds."""

    def column(name: str) -> NDArray[np.float64]:
        return np.array([row[name] for row in rows if row[name] is not None], float)

    ours_s, beams_s = column("read_s") + column("search_s"), column("beams_s")
    times = {"read": column("read_s"), "search": column("search_s"), "ours": ours_s, "beam_search": beams_s,
             "brute_force": column("brute_force_s")}  # fmt: skip
    metric = f"nDCG@{K}"
    checked = [row for row in rows if row["brute_force_items"] is not None]
    overlap = [len(set(row["items"]) & set(row["beams_items"])) / K for row in rows]
    overlap_b = [len(set(row["brute_force_items"]) & set(row["beams_items"])) / K for row in checked]
    return {
        "num_prompts": len(rows),
        "num_answered_in_turns": sum(row["code"] == row["beams_code"] for row in rows),
        "num_brute_force": len(checked),
        "prompt_tokens_median": float(np.median(column("num_tokens"))),
        "seconds": {
            name: {"median": float(np.median(s)), "p90": float(np.quantile(s, 0.9)), "total": float(s.sum())}
            for name, s in times.items() if len(s)
        },
        "speed_up_total": float(beams_s.sum() / ours_s.sum()),
        "speed_up_median": float(np.median(beams_s / ours_s)),
        "search_over_read_median": float(np.median(column("search_s") / column("read_s"))),
        "expansions_mean": float(column("expansions").mean()),
        "ndcg": {
            "ours": summarise([row["rank"] for row in rows], metrics=[metric])[metric],
            "beam_search": summarise([row["beams_rank"] for row in rows], metrics=[metric])[metric],
        },
        "exact_share": float(column("exact").mean()),
        "same_as_brute_force": sum(row["is_same"] for row in checked),
        "beam_search_invalid_share": float(column("beams_invalid").sum() / (K * len(rows))),
        "beam_search_duplicate_share": float(column("beams_duplicates").sum() / (K * len(rows))),
        "beam_search_shares_with_ours": float(np.mean(overlap)),
        "beam_search_shares_with_brute_force": float(np.mean(overlap_b)) if overlap_b else None,
    }  # fmt: skip
