from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.config import load_config
from whereupon.decode.models import load_engine
from whereupon.decode.search import SearchResult, score_all
from whereupon.decode.transformers_engine import TransformersEngine
from whereupon.decode.windows import answer_windows, ranks, windows_with_targets
from whereupon.histories import Histories, prepare, read_histories
from whereupon.histories.candidates import Candidates
from whereupon.prompts import HistoryText, Windows

Asked = tuple[TransformersEngine, HistoryText, Histories]


@pytest.fixture(scope="module")
def asked(make_town: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """A random model and a tiny town's histories, in windows that turn over."""
    path = make_town(tmp_path_factory.mktemp("town"), people=2, days=12)
    config = load_config(path, ["prompts.budget_tokens=120"])
    prepare(config.histories, config.catalogue, config.run)
    histories = read_histories(config.run)
    engine, encoder, _ = load_engine(
        config.model,
        config.prompts,
        histories.items,
        histories.events,
        histories.location,
        None,
        title_recipe=histories.title_recipe,
    )
    return engine, encoder.text(histories.events, len(histories.user_ids)), histories


def _windows(*rows: tuple[int, int, int]) -> Windows:
    """Windows of one user from (start, target, end)."""
    start_W, target_W, end_W = np.array(rows, np.int64).reshape(-1, 3).T
    zeros = np.zeros(len(rows), np.int64)
    return Windows(zeros, zeros, start_W, target_W, end_W)


def test_windows_without_a_wanted_event_are_left_out_and_others_end_at_their_last() -> None:
    wanted_N = np.array([0, 0, 0, 0, 1, 1, 0, 0, 0, 1], bool)
    kept = windows_with_targets(_windows((0, 0, 3), (1, 3, 7), (5, 7, 9), (6, 9, 10)), wanted_N)
    assert list(zip(kept.start_W, kept.target_W, kept.end_W, strict=True)) == [(1, 3, 6), (6, 9, 10)]


def test_event_reported_again_by_the_next_window_does_not_make_it_wanted() -> None:
    kept = windows_with_targets(_windows((0, 0, 3), (1, 3, 5)), np.array([0, 0, 1, 0, 0], bool))
    assert (kept.target_W.tolist(), kept.end_W.tolist()) == ([0], [3])


@settings(deadline=None)
@given(ends=st.lists(st.integers(1, 6), min_size=1, max_size=6), data=st.data())
def test_every_wanted_event_is_predicted_in_exactly_one_window(ends: list[int], data: st.DataObject) -> None:
    bounds = np.cumsum([0, *ends]).tolist()
    wanted_N = np.array(data.draw(st.lists(st.booleans(), min_size=bounds[-1], max_size=bounds[-1])))
    rows = [(begin, begin, end) for begin, end in pairwise(bounds)]
    kept = windows_with_targets(_windows(*rows), wanted_N)
    covered = [row for begin, end in zip(kept.target_W, kept.end_W, strict=True) for row in range(begin, end)]
    assert [row for row in covered if wanted_N[row]] == np.flatnonzero(wanted_N).tolist()
    assert all(wanted_N[end - 1] for end in kept.end_W)


def test_rank_counts_from_1_and_is_0_where_the_item_is_missing() -> None:
    results = [SearchResult(np.array(items), np.zeros(len(items), np.float32), True, -np.inf, 1)
               for items in ([4, 2, 7], [4, 2, 7], [4, 2, 7], [])]  # fmt: skip
    assert ranks(np.array([7, 4, 5, 0]), results).tolist() == [3, 1, 0, 0]


@pytest.mark.parametrize("queries_per_search", [1, 3, 16])
def test_one_pass_over_a_window_answers_as_asking_event_by_event_does(asked: Asked, queries_per_search: int) -> None:
    engine, text, _ = asked
    wanted_N = np.arange(len(text.item_idx_N)) % 3 > 0
    windows = windows_with_targets(text.windows, wanted_N)
    assert len(windows) > 3
    answered = list(answer_windows(engine, text, windows, wanted_N, 3, queries_per_search=queries_per_search))
    assert np.concatenate([answer.event_Q for answer in answered]).tolist() == np.flatnonzero(wanted_N).tolist()
    for w, answer in enumerate(answered):
        [window] = text.encode_windows(windows.select(np.arange(len(windows)) == w))
        for q, row in enumerate(answer.event_Q):
            prompt = window.tokens_L[: window.title_start_V[row - windows.start_W[w]]]
            log_prob_N = score_all(engine.read(prompt, np.array([len(prompt) - 1])), engine.trie)
            best = np.argsort(-log_prob_N, kind="stable")[:3]
            assert answer.log_prob_Q[q] == pytest.approx(log_prob_N[text.item_idx_N[row]], abs=1e-4)
            assert answer.results[q].item_idx_K.tolist() == best.tolist()
            assert answer.results[q].log_prob_K == pytest.approx(log_prob_N[best], abs=1e-4)
            assert answer.results[q].exact


def test_asking_for_no_items_gives_log_probabilities_only(asked: Asked) -> None:
    engine, text, _ = asked
    wanted_N = np.ones(len(text.item_idx_N), bool)
    windows = text.windows.select(np.arange(len(text.windows)) < 1)
    [without] = answer_windows(engine, text, windows, wanted_N, k=0)
    [ranked] = answer_windows(engine, text, windows, wanted_N, k=2)
    assert without.results == []
    assert without.log_prob_Q.tolist() == ranked.log_prob_Q.tolist()
    assert (without.log_prob_Q < 0).all()


@pytest.mark.parametrize("queries_per_search", [1, 3, 16])
def test_items_that_are_no_candidates_are_left_out_question_by_question(
    asked: Asked, queries_per_search: int
) -> None:  # fmt: skip
    engine, text, histories = asked
    wanted_N, num_items = np.ones(len(text.item_idx_N), bool), histories.items.height
    available_s_I = np.full(num_items, histories.time_s_N.min())
    available_s_I[2] = np.median(histories.time_s_N)
    candidates = Candidates(histories, "excluded", available_s_I)
    whole = answer_windows(engine, text, text.windows, wanted_N, num_items, queries_per_search=queries_per_search)
    some = answer_windows(
        engine, text, text.windows, wanted_N, 3, allowed_of=candidates.allowed, queries_per_search=queries_per_search
    )
    num_left = set()
    for left, right in zip(whole, some, strict=True):
        assert left.log_prob_Q.tolist() == right.log_prob_Q.tolist()
        allowed_QI = candidates.allowed(left.event_Q)
        for held_I, before, after in zip(allowed_QI, left.results, right.results, strict=True):
            kept_K = held_I[before.item_idx_K]
            assert after.item_idx_K.tolist() == before.item_idx_K[kept_K][:3].tolist()
            assert after.log_prob_K == pytest.approx(before.log_prob_K[kept_K][:3], abs=1e-4)
            assert after.exact
            num_left.add(min(int(held_I.sum()), 3))
    assert num_left >= {1, 2, 3}
