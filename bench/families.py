"""Families of base models: each is fine-tuned by the real verb, searched in process, and scored like the plain model.

Tiny random models through the configurations of transformers (`tests/decode/families.py`), a tiny town, no download.
A family whose layers cannot follow branches must be refused before anything is trained.
"""

from __future__ import annotations

import inspect
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from record import bar, record
from transformers import AutoTokenizer

from whereupon.config import Config, load_config
from whereupon.decode.adapters import adapter_versions
from whereupon.decode.models import load_base_model, load_engine
from whereupon.decode.search import score_all, search
from whereupon.errors import ModelError
from whereupon.finetune.train import finetune
from whereupon.histories import prepare, read_histories
from whereupon.tests import conftest
from whereupon.tests.decode.families import FAMILIES, REFUSED, Family
from whereupon.tests.decode.tiny import naive_log_probs, tiny_model

SEED, BOUND, TOP = 7, 1e-4, 3
EPOCHS = 2  # at least two steps
NUM_TEXTS, LONGEST_TEXT = 5, 400


def town_of(family: Family, base: Path, folder: Path) -> Config | None:
    """The prepared town with a base model of a family in `folder`; None where transformers does not know it."""
    num_tokens = len(AutoTokenizer.from_pretrained(base / "model"))
    model_config = family.config(vocab_size=num_tokens, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    if model_config is None:
        return None
    shutil.copytree(base / "model", folder / "model", ignore=shutil.ignore_patterns("config.json", "*.safetensors"))
    if family in REFUSED:
        model_config.save_pretrained(folder / "model")
    else:
        tiny_model(model_config).save_pretrained(folder / "model")
    shutil.copytree(base / "run" / "histories", folder / "run" / "histories")
    settings = [f"run={folder / 'run'}", f"model.base={folder / 'model'}", f"finetune.epochs={EPOCHS}"]
    return load_config(base / "town.yaml", [*settings, "finetune.batch_tokens=256", "model.device=cpu"])


def scored(config: Config, adapter: Path) -> dict[str, Any]:
    """How far the scores of the engine are from the plain model's, in nats, and whether the best items are the same."""
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
    plain = PeftModel.from_pretrained(load_base_model(config.model), str(adapter)).eval()
    titles = [encoder.catalogue.trie.title_tokens(item).tolist() for item in range(len(encoder.catalogue.titles))]
    history = encoder.text(histories.events, len(histories.user_ids))
    windows = history.encode_windows(history.windows)[:NUM_TEXTS]
    off, same = 0.0, True
    for window in windows:
        text = window.tokens_L[: window.title_start_V[window.title_start_V <= LONGEST_TEXT][-1]]
        query_Q = np.array([len(text) - 1])
        expected = naive_log_probs(plain, text, titles, card["temperature"])
        off = max(off, float(np.abs(score_all(engine.read(text, query_Q), engine.trie) - expected).max()))
        (found,) = search(engine.read(text, query_Q), engine.trie, TOP)
        same = same and found.exact and found.item_idx_K.tolist() == np.argsort(-expected)[:TOP].tolist()
    return {"largest_difference_nats": off, "same_best_items": same, "texts": len(windows)}


def tried(family: Family, base: Path, folder: Path) -> dict[str, Any]:
    """One row: trained and scored, or the sentence that refused the family."""
    began = time.perf_counter()
    config = town_of(family, base, folder)
    if config is None:
        return {"family": family.name, "outcome": "unknown to this transformers"}
    row: dict[str, Any] = {"family": family.name, "config": family.kind}
    try:
        adapter = finetune(config)
    except ModelError as error:
        row |= {"outcome": "refused", "sentence": str(error).replace(str(folder), "FOLDER")}
        return row | {"trained": bool(adapter_versions(config.run))}
    log = [json.loads(line) for line in (adapter / "log.jsonl").read_text().splitlines()]
    row |= {"outcome": "works", "steps": log[-1]["step"], **scored(config, adapter)}
    return row | {"seconds": round(time.perf_counter() - began, 1)}


def bars_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One bar for each required figure."""
    names = {family.name for family in FAMILIES}
    works = [row for row in rows if row["family"] in names]
    refused = [row for row in rows if row["family"] not in names]
    largest = max((row.get("largest_difference_nats", float("inf")) for row in works), default=float("inf"))
    done = sum(row["outcome"] == "works" and row["same_best_items"] for row in works)
    said = sum(row["outcome"] == "refused" and not row["trained"] for row in refused)
    return [
        bar("families trained and searched", done, f"all {len(FAMILIES)}, same best items", done == len(FAMILIES)),
        bar("largest difference from naive scoring", largest, f"below {BOUND} nats", largest < BOUND),
        bar("families refused before training", said, f"all {len(REFUSED)}", said == len(REFUSED)),
    ]


def main() -> int:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="whereupon-families-") as scratch:
        base = Path(scratch) / "town"
        make_town = inspect.unwrap(conftest._make_town)(inspect.unwrap(conftest._make_model)())
        config = load_config(make_town(base, people=4, days=12))
        prepare(config.histories, config.catalogue, config.run, config.seed)
        rows = [tried(family, base, Path(scratch) / str(n)) for n, family in enumerate([*FAMILIES, *REFUSED])]
    return record("families", SEED, bars_of(rows), families=rows)


if __name__ == "__main__":
    sys.exit(main())
