"""`whereupon export-sft`: the training events as prompts and completions, for trainers of other libraries.

FOLDER/train.jsonl    one event a line: user_id, item_id, time, prompt, completion
FOLDER/dataset/       the same rows, as `datasets.load_from_disk` opens them
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..console import say
from ..decode.models import build_encoder, load_tokenizer
from ..decode.tokenizer import Tokenizer
from ..files import atomic_path
from ..histories import Histories, read_histories
from ..prompts import PromptEncoder
from .training_examples import training_windows

if TYPE_CHECKING:
    from ..config import Config

_CHECKED: Final = 200


def export_sft(config: Config, folder: Path) -> int:
    """Write every training event once, with the text that the model reads before it; how many there are.

    An event's prompt is what stands before its title in the first window that holds it, so that it is as long as a
    served one may be; the completion ends with the line. Raises DataError without training events.
    """
    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)
    rows, num, altered = examples_of(histories, encoder, tokenizer), 0, 0
    with atomic_path(folder / "train.jsonl") as path, path.open("w", encoding="utf-8") as file:
        for num, (row, ids) in enumerate(rows, 1):
            file.write(f"{json.dumps(row, ensure_ascii=False)}\n")
            if num <= _CHECKED:
                altered += tokenizer([row["prompt"] + row["completion"]])[0] != ids
    _as_dataset(folder / "train.jsonl", folder / "dataset")
    say(f"{num:,} training events in {folder / 'train.jsonl'} and {folder / 'dataset'}")
    if altered:
        checked = min(num, _CHECKED)
        say(f"{altered} of the first {checked} texts have other token ids when they are tokenised as a whole: "
            "whereupon tokenises lines and titles one by one")  # fmt: skip
    return num


def examples_of(
    histories: Histories, encoder: PromptEncoder, tokenizer: Tokenizer
) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """A row for each training event, and the token ids that whereupon trains on, without the first ones that a
    tokenizer adds by itself."""
    events, windows = training_windows(histories, encoder)
    user_ids, item_ids = histories.user_ids, histories.items["item_id"].to_list()
    users, items = events["user_idx"].to_list(), events["item_idx"].to_list()
    times = events["time"].dt.to_string("iso:strict").to_list()
    for window in windows:
        tokens = window.text.tokens_L[len(encoder.prefix) :].tolist()
        for row in range(window.target, window.end):
            begin = int(window.text.title_start_V[row - window.start]) - len(encoder.prefix)
            end = begin + int(encoder.titles.length[items[row]])
            yield {
                "user_id": user_ids[users[row]], "item_id": item_ids[items[row]], "time": times[row],
                "prompt": tokenizer.decode(tokens[:begin]), "completion": tokenizer.decode(tokens[begin:end]),
            }, tokens[:end]  # fmt: skip


def _as_dataset(file: Path, folder: Path) -> None:
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache, atomic_path(folder) as path:
        Dataset.from_json(str(file), cache_dir=cache).save_to_disk(str(path))
