import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.catalogue import Catalogue
from whereupon.finetune.schedule import plan_batches
from whereupon.finetune.training_examples import TrainingExample, collate, example_of
from whereupon.prompts import EncodedWindow

# "? ?: Bar Two", "?: Park", "?: Bar One Two" with every unknown word as 9; see `places` for the others.
WINDOW = EncodedWindow(np.array([9, 9, 9, 0, 3, 2, 9, 4, 2, 9, 0, 1, 3, 2], np.int32), np.array([3, 7, 10]))
ITEMS = np.array([1, 2, 4])


def test_decisions_by_hand_stand_at_the_token_before_each_branching_one(places: Catalogue) -> None:
    example = example_of(WINDOW, ITEMS, places.trie)
    chosen = places.trie.child_token_C[example.edge_P]
    order = np.argsort(example.position_P)
    # Bar Two: Bar|Park|Old, then One|Two. Park: the first only. Bar One Two: both, and then end|Two. Ends are forced.
    assert example.position_P[order].tolist() == [2, 3, 6, 9, 10, 11]
    assert chosen[order].tolist() == [0, 3, 4, 0, 1, 3]
    assert example.num_titles == 3


def test_every_decision_predicts_the_token_that_follows(places: Catalogue) -> None:
    example = example_of(WINDOW, ITEMS, places.trie)
    assert (WINDOW.tokens_L[example.position_P + 1] == places.trie.child_token_C[example.edge_P]).all()


def test_batch_pads_on_the_right_and_counts_positions_through(places: Catalogue) -> None:
    long = example_of(WINDOW, ITEMS, places.trie)
    short = example_of(EncodedWindow(WINDOW.tokens_L[:9], WINDOW.title_start_V[:2]), ITEMS[:2], places.trie)
    batch = collate([short, long], places.trie, pad=8)
    assert batch.tokens_RL.shape == (2, 14)
    assert batch.tokens_RL[0].tolist() == [*WINDOW.tokens_L[:9].tolist(), 8, 8, 8, 8, 8]
    assert batch.position_P.tolist() == [*short.position_P.tolist(), *(long.position_P + 14).tolist()]
    assert batch.branches is not None
    taken = batch.branches.token_U[batch.branches.column_J[batch.branches.taken_Y]]
    edges = np.concatenate([short.edge_P, long.edge_P])
    assert taken.tolist() == places.trie.child_token_C[edges].tolist()
    assert batch.num_titles == 5


def test_batch_of_one_example_without_decisions_is_fine(places: Catalogue) -> None:
    none = np.empty(0, np.int64)
    batch = collate([TrainingExample(np.array([1, 2], np.int32), none, none, none, 1)], places.trie)
    assert (batch.position_P.tolist(), batch.num_titles) == ([], 1)


LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=60)


@settings(deadline=None)
@given(lengths=LENGTHS, batch_tokens=st.integers(1, 400), seed=st.integers(0, 99))
def test_every_window_is_in_exactly_one_batch_within_the_tokens(
    lengths: list[int], batch_tokens: int, seed: int
) -> None:
    length_W = np.array(lengths, np.int64)
    batches = plan_batches(length_W, batch_tokens, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * length_W[batch].max() <= batch_tokens


@pytest.mark.parametrize("batch_tokens", [2048, 8192])
def test_little_of_a_batch_is_padding(batch_tokens: int) -> None:
    length_W = np.random.default_rng(0).integers(50, 1000, 500)
    batches = plan_batches(length_W, batch_tokens, np.random.default_rng(1))
    padded = sum(len(batch) * int(length_W[batch].max()) for batch in batches)
    assert length_W.sum() / padded > 0.85


def test_batches_follow_from_the_seed_and_differ_between_seeds() -> None:
    length_W = np.random.default_rng(0).integers(50, 1000, 100)
    plans = [[b.tolist() for b in plan_batches(length_W, 2048, np.random.default_rng(seed))] for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
