"""Who is held out is nowhere in training: user cold start, from `prepare` to training examples and validation."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from whereupon.config import load_config
from whereupon.decode.models import build_encoder, load_tokenizer
from whereupon.finetune.settings import FinetuneSettings
from whereupon.finetune.training_examples import make_examples
from whereupon.finetune.validation import Validator
from whereupon.histories import HISTORY, Histories, prepare, read_histories
from whereupon.histories.questions import evaluated_events
from whereupon.prompts import PromptEncoder


@pytest.fixture(scope="module")
def cold(make_town: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Histories, PromptEncoder]:
    """Ten people, two of them held out for test and two for valid."""
    path = make_town(tmp_path_factory.mktemp("town"), people=10, days=12)
    config = load_config(path, ["histories.split={protocol: user_cold_start, train: 0.6, valid: 0.2, held_out: 0.2}"])
    prepare(config.histories, config.catalogue, config.run, config.seed)
    histories = read_histories(config.run)
    return histories, build_encoder(
        histories.items, histories.events, histories.location, config.prompts, load_tokenizer(config.model)
    )


def test_people_of_each_split_are_others(cold: tuple[Histories, PromptEncoder]) -> None:
    histories, _ = cold
    users = [set(histories.user_idx_N[histories.split_N == code].tolist()) for code in range(3)]
    assert [len(found) for found in users] == [6, 2, 2]
    assert not users[0] & users[1] | users[0] & users[2] | users[1] & users[2]
    for split, held_out in (("valid", users[1]), ("test", users[2])):
        assert set(histories.user_idx_N[evaluated_events(histories, split)].tolist()) == held_out  # type: ignore[arg-type]
    first_of_test = histories.offset_U1[list(users[2])]
    assert (histories.split_N[first_of_test] == HISTORY).all()  # they have a history, and it is shown


def test_examples_are_those_of_the_training_events_alone(cold: tuple[Histories, PromptEncoder]) -> None:
    histories, encoder = cold
    train = histories.events[np.flatnonzero(histories.split_N == 0).tolist()]
    alone = dataclasses.replace(histories, events=train)
    taught, expected = (list(make_examples(one, encoder)) for one in (histories, alone))
    assert [example.tokens_L.tolist() for example in taught] == [example.tokens_L.tolist() for example in expected]


def test_validation_asks_held_out_people_only_with_their_past(cold: tuple[Histories, PromptEncoder]) -> None:
    histories, encoder = cold
    validator = Validator.build(histories, encoder, FinetuneSettings(), seed=0)
    asked = histories.events.filter(histories.events["split"] != "test")["user_id"].gather(
        np.flatnonzero(validator.wanted_N)
    )
    valid = evaluated_events(histories, "valid")
    assert validator.num_events == len(valid)
    assert asked.to_list() == histories.events["user_id"].gather(valid).to_list()
    assert (validator.windows.start_W < validator.windows.end_W - 1).any()
