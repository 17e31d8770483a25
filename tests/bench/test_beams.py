"""transformers' beam search over titles is set up as it should be: else it would be no competitor."""

import numpy as np
import pytest
import torch
from beams import NO_TITLE, BeamAnswer, BeamSearch, nested
from transformers import PreTrainedModel

from whereupon.tests.decode.tiny import tiny_config, tiny_model

TITLES = [[4, 5, 3], [4, 6, 7, 3], [8, 3], [4, 6, 9, 9, 3], [9, 9, 9, 3]]
TEXT = np.array([5, 6, 7, 8], np.int32)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny_model(tiny_config("llama"))


@torch.inference_mode()
def _log_prob(model: PreTrainedModel, title: list[int]) -> float:
    """Of a title after the text, by the softmax over the whole vocabulary."""
    ids = torch.tensor([[*TEXT.tolist(), *title]])
    log_prob_TV = torch.log_softmax(model(input_ids=ids).logits[0, len(TEXT) - 1 : -1].double(), 1)
    return float(log_prob_TV[torch.arange(len(title)), title].sum())


def test_beams_as_many_as_titles_rank_them_all_by_the_sum_of_log_probabilities(model: PreTrainedModel) -> None:
    answer = BeamSearch(model, TITLES, num_beams=len(TITLES)).answer(TEXT)
    expected = np.argsort([-_log_prob(model, title) for title in TITLES])
    assert answer.item_idx_K.tolist() == expected.tolist()


def test_fewer_beams_find_titles_only(model: PreTrainedModel) -> None:
    answer = BeamSearch(model, TITLES, num_beams=3).answer(TEXT)
    assert (answer.num_invalid, answer.num_duplicates) == (0, 0)
    assert len(answer.item_idx_K) == 3


def test_more_beams_than_titles_leave_sequences_that_are_none(model: PreTrainedModel) -> None:
    answer = BeamSearch(model, TITLES[:2], num_beams=4).answer(TEXT)
    assert sorted(set(answer.item_idx_K.tolist()) - {NO_TITLE}) == [0, 1]
    assert answer.num_invalid + answer.num_duplicates == 2


def test_allowed_tokens_are_those_that_continue_a_title(model: PreTrainedModel) -> None:
    search = BeamSearch(model, TITLES)
    assert sorted(search.allowed_after([])) == [4, 8, 9]
    assert sorted(search.allowed_after([4, 6])) == [7, 9]
    assert search.allowed_after([4, 6, 7]) == [3], "a forced token is allowed like any other"


def test_after_a_finished_title_and_after_none_a_terminator_is_allowed(model: PreTrainedModel) -> None:
    search = BeamSearch(model, TITLES)
    assert search.allowed_after([8, 3]) == [3]
    assert search.allowed_after([7, 7]) == [3]


def test_results_that_are_no_titles_and_repeated_ones_are_counted_apart() -> None:
    answer = BeamAnswer(np.array([3, NO_TITLE, 3, 1, NO_TITLE]))
    assert (answer.num_invalid, answer.num_duplicates) == (2, 1)


def test_nested_trie_shares_beginnings() -> None:
    assert nested([[1, 2], [1, 3]]) == {1: {2: {}, 3: {}}}
