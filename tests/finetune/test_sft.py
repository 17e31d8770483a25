"""Training events as prompts and completions of other libraries."""

import json
from collections.abc import Callable

import datasets
import numpy as np

from whereupon.config import Config
from whereupon.decode.models import build_encoder, load_tokenizer
from whereupon.finetune import FinetuneSettings
from whereupon.finetune.sft import examples_of, export_sft
from whereupon.finetune.training_examples import make_examples
from whereupon.histories import read_histories

Town = Callable[..., Config]
SMALL = "prompts.budget_tokens=110"  # several windows a person


def test_every_training_event_is_exported_once_in_both_forms(town: Town) -> None:
    config = town(SMALL)
    out = config.run / "sft"
    histories = read_histories(config.run)
    train = histories.events.filter(histories.events["split"] == "train")
    assert export_sft(config, out) == train.height
    rows = [json.loads(line) for line in (out / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["item_id"] for row in rows] == [histories.items["item_id"][i] for i in train["item_idx"]]
    assert [row["user_id"] for row in rows] == [histories.user_ids[u] for u in train["user_idx"]]
    read = datasets.load_from_disk(str(out / "dataset"))
    assert read.column_names == ["user_id", "item_id", "time", "prompt", "completion"]
    assert [row["prompt"] for row in read] == [row["prompt"] for row in rows]


def test_completion_is_the_title_and_its_prompt_ends_before_it(town: Town) -> None:
    config = town(SMALL)
    export_sft(config, config.run / "sft")
    histories = read_histories(config.run)
    titles = dict(histories.items.select("item_id", "title").iter_rows())
    lines = (config.run / "sft" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    for row in map(json.loads, lines):
        assert row["completion"].strip() == titles[row["item_id"]]
        assert row["completion"].endswith("\n")
        assert not row["prompt"].endswith("\n")


def test_tokens_of_an_exported_event_are_those_that_training_reads(town: Town) -> None:
    config = town(SMALL)
    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)
    trained = list(make_examples(histories, encoder, settings=FinetuneSettings(teach="once")))
    rows = list(examples_of(histories, encoder, tokenizer))
    assert len(rows) == sum(one.num_titles for one in trained)
    number = 0
    for example in trained:
        for row, ids in rows[number : number + example.num_titles]:
            assert np.array_equal(example.tokens_L[len(encoder.prefix) :][: len(ids)], ids)
            assert tokenizer.decode(ids) == row["prompt"] + row["completion"]
        number += example.num_titles


def test_exported_prompts_hold_nothing_of_later_splits(town: Town) -> None:
    config = town(SMALL)
    histories = read_histories(config.run)
    tokenizer = load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)
    whole = list(examples_of(histories, encoder, tokenizer))
    events = histories.events.filter(histories.events["split"] == "train")
    assert len(whole) == events.height
    assert [row["time"][:19] for row, _ in whole] == [str(time)[:19].replace(" ", "T") for time in events["time"]]
