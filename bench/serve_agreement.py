"""Are the server's answers those of the in-process engine, and what is the right answer by brute force?

Both take hours rather than minutes on a slow machine, so what is done is kept in the run folder: what the engine says
as long as model, prompts and the code of catalogue and search are the same, what the server says as long as its code
is, too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from end_to_end import read_rows
from serve_contestants import Completions, Whereupon
from serve_load import Answer, K, quality
from serve_processes import client, our_server, reset_prefix_cache
from serve_questions import Question, Task

import whereupon
from whereupon.config import Config, load_config
from whereupon.decode.adapter_card import read_card
from whereupon.decode.adapters import current_adapter
from whereupon.decode.identity import model_identity
from whereupon.decode.models import load_engine
from whereupon.decode.search import score_all, search
from whereupon.files import sha256_file, sha256_text, versions
from whereupon.histories import Histories, read_histories
from whereupon.rankers.blend import Blend, read_blend

TIE = 1e-4  # two titles whose log-probabilities differ by less may swap places
ENGINE_FOLDERS = ("catalogue", "decode", "prompts", "rankers")
SERVER_FOLDERS = (*ENGINE_FOLDERS, "serve")
AT_ONCE = 8

Row = dict[str, Any]
Say = Callable[[str], None]


def measure(config_file: Path, settings: list[str], task: Task, num_brute_force: int, log: Path, say: Say) -> Row:
    """Answer all questions by engine and server, the first `num_brute_force` by brute force too."""
    config = load_config(config_file, settings)
    engine = engine_rows(config, task, num_brute_force, say)
    server = _server_rows(config_file, settings, config, task, log, say)
    rows = [question.row for question in task.questions]
    return summary([engine[row] for row in rows], [server[row] for row in rows])


def engine_rows(config: Config, task: Task, num_brute_force: int, say: Say) -> dict[int, Row]:
    """What the in-process engine answers, by event row."""
    partial = config.run / "bench" / f"serve-engine-{_key(config, ENGINE_FOLDERS)}.jsonl"
    wanted = [
        (question, number < num_brute_force, read_rows(partial).get(question.row))
        for number, question in enumerate(task.questions)
    ]
    left = [(q, brute) for q, brute, known in wanted if known is None or (brute and known["brute_force"] is None)]
    if not left:
        return read_rows(partial)
    histories = read_histories(config.run)
    engine, _, _ = load_engine(
        config.model, config.prompts, histories.items, histories.events, histories.location,
        current_adapter(config.run),
        title_recipe=histories.title_recipe,
    )  # fmt: skip
    change = _blend(config, histories).change_for(histories, engine.trie, None)(None)  # a prompt says not whose it is
    for number, (question, brute) in enumerate(left, start=1):
        place = np.array([len(question.tokens) - 1])
        reading = engine.read(np.array(question.tokens, np.int32), place)
        (result,) = search(reading, engine.trie, k=K, reweighting=change)
        row: Row = {"row": question.row, "items": [task.item_ids[item] for item in result.item_idx_K],
                    "log_probs": result.log_prob_K.tolist(), "brute_force": None}  # fmt: skip
        if brute:
            log_prob_N = score_all(reading.ask(place), engine.trie, reweighting=change)
            best_K = np.lexsort((engine.trie.row_of_item_I, -log_prob_N))[:K]
            row["brute_force"] = [task.item_ids[item] for item in best_K]
        _append(partial, row)
        say(f"engine: {number}/{len(left)}")
    return read_rows(partial)


def _blend(config: Config, histories: Histories) -> Blend:
    adapter = current_adapter(config.run)
    return read_blend(config, histories, read_card(adapter), adapter)


def _server_rows(
    config_file: Path, settings: list[str], config: Config, task: Task, log: Path, say: Say
) -> dict[int, Row]:
    partial = config.run / "bench" / f"serve-server-{_key(config, SERVER_FOLDERS)}.jsonl"
    left = [question for question in task.questions if question.row not in read_rows(partial)]
    if left:
        with our_server(config_file, settings, log) as server:
            reset_prefix_cache(server)

            async def ask_all() -> None:
                async with client(server) as http:
                    whereupon_ = Whereupon(Completions(http, server.model), task, server.model)
                    await _ask(whereupon_, left, partial, say)

            asyncio.run(ask_all())
    return read_rows(partial)


async def _ask(
    ask: Callable[[list[int]], Awaitable[Any]], questions: Sequence[Question], partial: Path, say: Say
) -> None:
    """Some questions at once, as a server is used."""
    waiting, num_done = iter(questions), 0

    async def work() -> None:
        nonlocal num_done
        for question in waiting:
            answer = await ask(question.tokens)
            _append(partial, {"row": question.row, "items": answer.item_ids, "log_probs": answer.log_probs})
            num_done += 1
            say(f"server: {num_done}/{len(questions)}")

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


def summary(engine: list[Row], server: list[Row]) -> Row:
    """The figures of questions that both have answered."""
    differences = [
        abs(log_prob - dict(zip(ours["items"], ours["log_probs"], strict=True))[item])
        for ours, theirs in zip(engine, server, strict=True)
        for item, log_prob in zip(theirs["items"], theirs["log_probs"], strict=True)
        if item in ours["items"]
    ]
    if not differences:
        raise RuntimeError(
            "Server and engine have not one item in common: they cannot be of the same model and prompts."
        )
    return {
        "num_prompts": len(engine),
        "same_top_ten": sum(is_same(ours, theirs) for ours, theirs in zip(engine, server, strict=True)),
        "largest_difference": max(differences),
        "brute_force": {str(row["row"]): row["brute_force"] for row in engine if row["brute_force"] is not None},
        **quality([Answer(row["items"]) for row in server]),
        "engine_as_brute_force": sum(
            set(row["items"]) == set(row["brute_force"]) for row in engine if row["brute_force"] is not None
        ),
    }


def is_same(engine: Row, server: Row) -> bool:
    """Whether the items are the same in the same order, but for those whose log-probabilities are within TIE."""
    if len(engine["items"]) != len(server["items"]) or len(set(server["items"])) != len(server["items"]):
        return False
    known = dict(zip(engine["items"], engine["log_probs"], strict=True))
    pairs = zip(server["items"], server["log_probs"], engine["items"], engine["log_probs"], strict=True)
    return all(
        item == expected or abs(known.get(item, log_prob) - expected_log_prob) < TIE
        for item, log_prob, expected, expected_log_prob in pairs
    )


def _key(config: Config, packages: tuple[str, ...]) -> str:
    """Fingerprint of all that answers depend on: model, prompts, data, versions, and the code of `packages`."""
    root = Path(whereupon.__file__).parent
    files = [Path(__file__), *(path for package in packages for path in sorted((root / package).glob("*.py")))]
    found = {name: version for name, version in versions().items() if name != "git"}
    histories = read_histories(config.run)
    key_parts = [
        model_identity(config.model, read_card(current_adapter(config.run))), config.prompts.model_dump(mode="json"),
        _blend(config, histories).identity, histories.data_hash, found, torch.get_num_threads(), K, config.seed,
        [sha256_file(path) for path in files],
    ]  # fmt: skip
    return sha256_text(json.dumps(key_parts, sort_keys=True))[:16]


def _append(partial: Path, row: Row) -> None:
    partial.parent.mkdir(exist_ok=True)
    with partial.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
