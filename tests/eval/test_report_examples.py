"""The report's examples: which events are drawn, and the prompts that belong to them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from whereupon.eval.rankings import Rankings
from whereupon.eval.report.examples import examples, prompts_of
from whereupon.eval.report.runs import Dataset, read_datasets
from whereupon.tests.eval.report_town import TEST, write_town


def test_examples_are_drawn_by_seed_and_stratified(dataset: Dataset) -> None:
    one, again, other = (examples(dataset, seed) for seed in (1, 1, 2))
    assert one == again
    assert one["examples"] != other["examples"]
    for example in one["examples"]:
        rank = example["contender"]["rank"]
        among = "ranked 2 to 10" if 2 <= rank <= 10 else "not among the first 10"
        assert example["words"] == ("ranked first" if rank == 1 else among)
        assert [guess["place"] for guess in example["contender"]["guesses"] if guess["is_true"]] == (
            [rank] if 1 <= rank <= 10 else []
        )
    assert sum(one["counts"].values()) == TEST


def test_stratum_without_events_leaves_its_place_to_others(dataset: Dataset) -> None:
    ranked = dataset.contender.rankings
    right = Rankings(ranked.row_E, np.ones_like(ranked.rank_E), ranked.item_EK, ranked.score_EK, ranked.log_prob_E)
    sure = replace(dataset.contender, rankings=right)
    found = examples(replace(dataset, rankers=[sure, *dataset.rankers[1:]]), 3)
    assert [example["words"] for example in found["examples"]] == ["ranked first"] * 10


def test_prompt_without_a_tokenizer_is_the_history_as_the_template_shows_it(dataset: Dataset) -> None:
    histories, row = dataset.histories, int(dataset.row_E[3])
    [prompt], note = prompts_of(dataset.contender, histories, np.array([row]))
    assert "tokenizer of no-such-model is not on this machine" in note
    lines = prompt["tail"].split("\n")
    user = int(histories.user_idx_N[row])
    num_past = row - int(histories.offset_U1[user])
    assert prompt["num_lines"] + len(lines) == num_past + 2  # the preamble, the past, and the open question
    assert lines[-1].endswith(":")
    assert histories.items["title"][int(histories.item_idx_N[row])] not in lines[-1]
    last = histories.items["title"][int(histories.item_idx_N[row - 1])]
    assert lines[-2].endswith(f": {last}")


def test_prompt_with_a_tokenizer_is_the_one_of_the_evaluation(make_model: Callable[..., Path], tmp_path: Path) -> None:
    """Token for token that which the windows of the evaluation hold, of several rows at once."""
    from transformers import AutoTokenizer

    from whereupon.catalogue import Catalogue
    from whereupon.decode.tokenizer import Tokenizer
    from whereupon.decode.windows import encode_queries
    from whereupon.prompts import PromptEncoder, PromptSettings

    base = make_model(tmp_path / "model", ["Monday morning 9 cold rain: Café, Old Town 1\n"] * 3)
    run = write_town(tmp_path / "town", base=str(base))
    dataset = read_datasets([run])[0]
    rows = dataset.row_E[[5, 700, 1999]]
    settings = PromptSettings(template="checkins", align_tokens=8)
    asked = {"settings": {"prompts": settings.model_dump(mode="json"), "model": {"base": str(base)}}}
    contender, reference = (replace(one, facts={**one.facts, **asked}) for one in dataset.rankers[:2])
    found, note = prompts_of(contender, dataset.histories, rows)
    assert "model read, token for token" in note
    baseline, note = prompts_of(reference, dataset.histories, rows)
    assert "model would read, token for token" in note
    assert baseline == found
    tokenizer = Tokenizer(AutoTokenizer.from_pretrained(base))
    encoder = PromptEncoder.build(settings, Catalogue.build(dataset.histories.items, tokenizer), tokenizer, "outcome")
    text = encoder.text(dataset.histories.events, len(dataset.histories.user_ids))
    for row, prompt in zip(rows.tolist(), found, strict=True):
        one = text.windows.select((text.windows.target_W <= row) & (row < text.windows.end_W))
        window = encode_queries(text, one)[0]
        end = int(window.title_start_V[row - one.start_W[0]])
        assert prompt["num_tokens"] == end
        assert tokenizer.decode(window.tokens_L[:end].tolist()).endswith(prompt["tail"])


def test_prompts_are_by_the_settings_that_the_ranking_was_made_with(dataset: Dataset) -> None:
    """Not by those of the run's last evaluation, which may have been another."""
    asked = {"prompts": {"template": "plain"}, "model": {"base": "another-model"}}
    one = replace(dataset.contender, facts={**dataset.contender.facts, "settings": asked})
    assert "tokenizer of another-model" in prompts_of(one, dataset.histories, dataset.row_E[:1])[1]


def test_settings_of_another_version_show_no_prompts(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"evaluate": {"config": {"prompts": {"of_yesterday": 1}}}}')
    elsewhere = replace(dataset.contender, run=tmp_path)
    found, note = prompts_of(elsewhere, dataset.histories, dataset.row_E[:1])
    assert found == []
    assert "another version" in note
