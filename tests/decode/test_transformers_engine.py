"""The engine against the plain model: every title, teacher-forced, one text at a time."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import MambaConfig, PreTrainedModel

from whereupon.catalogue import build_trie
from whereupon.decode import decisions_of, transformers_engine
from whereupon.decode.reweighting import Reweighting
from whereupon.decode.search import score_all, search
from whereupon.decode.transformers_engine import TransformersEngine
from whereupon.errors import ModelError
from whereupon.tests.decode.tiny import (
    VOCABULARY,
    Titles,
    naive_log_probs,
    random_text,
    random_titles,
    tiny_config,
    tiny_model,
)

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = 1e-4
ARCHITECTURES = ("llama", "qwen2", "phi", "gpt2")


@pytest.fixture(scope="module", name="llama")
def _llama() -> PreTrainedModel:
    return tiny_model(tiny_config("llama"))


@pytest.fixture(scope="module", name="titles")
def _titles() -> Titles:
    return random_titles(1, 30)


@pytest.fixture(name="engine")
def _engine(llama: PreTrainedModel, titles: Titles) -> TransformersEngine:
    return TransformersEngine(llama, build_trie(titles))


def _all(engine: TransformersEngine, text: np.ndarray) -> np.ndarray:
    """Log-probabilities of all items after a text, from a reading of its own."""
    return score_all(engine.read(text, np.array([len(text) - 1])), engine.trie)


# The distribution


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shared", [(), (20, 21, 22)], ids=["own beginnings", "one beginning for all"])
def test_catalogue_distribution_is_that_of_the_plain_model(architecture: str, shared: tuple[int, ...]) -> None:
    model, titles, text = tiny_model(tiny_config(architecture)), random_titles(2, 25, shared), random_text(3, 17)
    engine = TransformersEngine(model, build_trie(titles))
    expected = naive_log_probs(model, text, titles)
    assert np.abs(_all(engine, text) - expected).max() < TOLERANCE
    assert np.exp(expected).sum() == pytest.approx(1)


def test_best_ten_are_those_of_the_plain_model(
    llama: PreTrainedModel, titles: Titles, engine: TransformersEngine
) -> None:
    text = random_text(4, 12)
    (result,) = search(engine.read(text, np.array([11])), engine.trie, k=10)
    expected = naive_log_probs(llama, text, titles)
    assert result.exact
    assert result.item_idx_K.tolist() == np.argsort(-expected)[:10].tolist()
    assert np.abs(result.log_prob_K - expected[result.item_idx_K]).max() < TOLERANCE
    assert 0 < result.num_expansions < engine.trie.num_nodes


def test_texts_that_branch_off_one_are_scored_as_texts_of_their_own(
    llama: PreTrainedModel, titles: Titles, engine: TransformersEngine
) -> None:
    """Whatever they share, in any order, also where another answer was searched before."""
    text, more = random_text(4, 12), random_text(5, 6)
    texts = [
        text, text[:5], np.concatenate([text, more]), np.concatenate([text[:7], more]),
        np.concatenate([text[:7], more[:4], text[:3]]), random_text(6, 9), np.concatenate([text[:7], more]),
    ]  # fmt: skip
    reading = engine.read(text, np.array([11]))
    search(reading, engine.trie, k=3)
    branched = reading.of_texts(texts)
    for query, own in enumerate(texts):
        assert np.abs(score_all(branched, engine.trie, query) - naive_log_probs(llama, own, titles)).max() < TOLERANCE
    (result,) = search(reading.of_texts(texts[2:3]), engine.trie, k=30)
    expected = naive_log_probs(llama, texts[2], titles)
    assert np.abs(result.log_prob_K - expected[result.item_idx_K]).max() < TOLERANCE


def test_texts_are_the_same_however_many_tokens_are_read_at_once(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, texts = random_text(4, 12), [random_text(seed, 9) for seed in range(5)]
    whole = engine.read(text, np.array([11])).of_texts(texts)
    monkeypatch.setattr(transformers_engine, "_TOKENS_AT_ONCE", 7)
    parts = engine.read(text, np.array([11])).of_texts(texts)
    for query in range(5):
        one, other = (score_all(reading, engine.trie, query) for reading in (whole, parts))
        assert np.abs(one - other).max() < TOLERANCE


def test_text_beyond_what_the_model_sees_is_refused(engine: TransformersEngine) -> None:
    reading = engine.read(random_text(4, 12), np.array([11]))
    with pytest.raises(ModelError, match="sees at most 128 tokens"):
        reading.of_texts([random_text(5, 130)])


def test_temperature_divides_the_logits(llama: PreTrainedModel, titles: Titles) -> None:
    text = random_text(5, 9)
    engine = TransformersEngine(llama, build_trie(titles), temperature=0.4)
    assert np.abs(_all(engine, text) - naive_log_probs(llama, text, titles, 0.4)).max() < TOLERANCE


def test_embedding_rows_beyond_the_tokenizer_change_nothing(titles: Titles) -> None:
    """Padded vocabularies: rows that no text uses, though the model gives them logits."""
    model = tiny_model(tiny_config("llama", vocab_size=VOCABULARY + 24))
    text = random_text(6, 9)
    found = _all(TransformersEngine(model, build_trie(titles)), text)
    assert np.abs(found - naive_log_probs(model, text, titles)).max() < TOLERANCE


def test_bfloat16_model_still_gives_a_distribution_in_float32(titles: Titles) -> None:
    model = tiny_model(tiny_config("llama")).to(torch.bfloat16)
    found = _all(TransformersEngine(model, build_trie(titles)), random_text(7, 9))
    assert found.dtype == np.float32
    assert np.exp(found.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)


def test_autocast_to_bfloat16_stays_near_the_plain_model(
    llama: PreTrainedModel, titles: Titles, engine: TransformersEngine
) -> None:
    text = random_text(8, 9)
    with torch.autocast("cpu", torch.bfloat16):
        found = _all(engine, text)
    assert np.exp(found.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(found - naive_log_probs(llama, text, titles)).max() < 0.5


def test_only_item_is_certain_from_any_text(llama: PreTrainedModel) -> None:
    engine = TransformersEngine(llama, build_trie([[7, 8, 3]]))
    assert _all(engine, random_text(9, 4)).tolist() == [0.0]


# Many questions in one reading


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shared", [(), (20, 21)], ids=["own beginnings", "one beginning for all"])
def test_questions_of_one_reading_are_answered_as_from_readings_of_their_own(
    architecture: str, shared: tuple[int, ...]
) -> None:
    titles, text, position_Q = random_titles(10, 25, shared), random_text(11, 30), np.array([4, 29, 13, 0])
    engine = TransformersEngine(tiny_model(tiny_config(architecture)), build_trie(titles))
    for position, result in zip(position_Q, search(engine.read(text, position_Q), engine.trie, 6), strict=True):
        (alone,) = search(engine.read(text[: position + 1], np.array([position])), engine.trie, 6)
        assert result.item_idx_K.tolist() == alone.item_idx_K.tolist()
        assert np.abs(result.log_prob_K - alone.log_prob_K).max() < TOLERANCE


def test_text_after_a_question_is_never_seen(engine: TransformersEngine) -> None:
    text, position_Q = random_text(12, 24), np.array([3, 9])
    other = np.concatenate([text[:10], random_text(13, 14)])
    assert (text[10:] != other[10:]).any()
    results = [search(engine.read(tokens, position_Q), engine.trie, 30) for tokens in (text, other)]
    for one, two in zip(*results, strict=True):
        assert np.abs(one.log_prob_K - two.log_prob_K).max() < 1e-5
        assert one.item_idx_K.tolist() == two.item_idx_K.tolist()


def test_text_before_a_question_is_seen(engine: TransformersEngine) -> None:
    one, other = random_text(12, 10), random_text(12, 10)
    other[0] = (other[0] + 1) % VOCABULARY
    assert np.abs(_all(engine, one) - _all(engine, other)).max() > 0.01


def test_asking_again_forgets_earlier_branches(engine: TransformersEngine) -> None:
    text, first, second = random_text(14, 20), np.array([19, 5]), np.array([11])
    reading = engine.read(text, first)
    search(reading, engine.trie, 10)
    again = reading.ask(second)
    assert again.cache.get_seq_length() == len(text)
    (found,) = search(again, engine.trie, 10)
    (fresh,) = search(engine.read(text, second), engine.trie, 10)
    assert found.item_idx_K.tolist() == fresh.item_idx_K.tolist()
    assert np.abs(found.log_prob_K - fresh.log_prob_K).max() < 1e-5


def test_reading_that_was_read_anew_scores_no_more(engine: TransformersEngine) -> None:
    """Its branches are gone from the cache it shares: silence would be a wrong answer."""
    reading = engine.read(random_text(15, 8), np.array([7]))
    search(reading.ask(np.array([5])), engine.trie, 10)
    with pytest.raises(AssertionError, match="a reading is over once another question was read by it"):
        search(reading, engine.trie, 10)


# Titles that stand in the text


@pytest.mark.parametrize("shared", [(), (20, 21)], ids=["own beginnings", "one beginning for all"])
def test_log_probabilities_of_titles_in_the_text_are_those_of_the_search(
    llama: PreTrainedModel, shared: tuple[int, ...]
) -> None:
    titles = random_titles(16, 25, shared)
    trie = build_trie(titles)
    engine = TransformersEngine(llama, trie)
    pieces, position_Q, item_Q = [], [], np.array([3, 17, 3, 8])
    for event, item in enumerate(item_Q):
        pieces.append(random_text(20 + event, 5))
        position_Q.append(sum(map(len, pieces)) - 1)
        pieces.append(np.array(titles[item], np.int32))
    text = np.concatenate(pieces)
    reading = engine.read(text, np.array(position_Q))
    log_prob_Q = decisions_of(engine, reading, item_Q, np.array(position_Q)).log_probs(Reweighting().pools)
    for log_prob, position, item in zip(log_prob_Q, position_Q, item_Q, strict=True):
        expected = _all(engine, text[: position + 1])[item]
        assert log_prob == pytest.approx(expected, abs=TOLERANCE)


# Refusals


@pytest.mark.parametrize(
    ("setting", "value"), [("final_logit_softcapping", 30.0), ("logits_scaling", 8.0), ("logit_scale", 0.0625)]
)
def test_model_that_does_not_scale_its_logits_as_it_says_is_refused(titles: Titles, setting: str, value: float) -> None:
    """A Llama with another family's setting, which it ignores."""
    model = tiny_model(tiny_config("llama", **{setting: value}, name_or_path="some/model"))
    with pytest.raises(ModelError, match=r"^The model some/model gives other logits to a branch than to a text"):
        TransformersEngine(model, build_trie(titles))


@pytest.mark.parametrize("setting", ["lm_head_multiplier", "output_multiplier"])
def test_model_that_changes_its_logits_in_a_way_not_known_here_is_refused(titles: Titles, setting: str) -> None:
    model = tiny_model(tiny_config("llama", **{setting: 2.0}))
    with pytest.raises(ModelError, match=rf"changes its logits in a way that is not known here \({setting}\)"):
        TransformersEngine(model, build_trie(titles))


def test_model_that_changes_its_logits_in_an_unknown_way_is_refused(
    titles: Titles, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(tiny_config("llama"))
    head = model.lm_head.forward
    monkeypatch.setattr(model.lm_head, "forward", lambda hidden: head(hidden).tanh())
    with pytest.raises(ModelError, match=r"gives other logits to a branch than to a text \(off by .*%\); expected"):
        TransformersEngine(model, build_trie(titles))


def test_model_that_ignores_the_mask_is_refused(titles: Titles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else branches would see each other."""
    model = tiny_model(tiny_config("llama"))
    backbone = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda attention_mask=None, **rest: backbone(**rest))
    with pytest.raises(ModelError, match="gives other logits to a branch than to a text"):
        TransformersEngine(model, build_trie(titles))


def test_model_that_ignores_positions_is_refused(titles: Titles, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(tiny_config("gpt2"))
    backbone = model.transformer.forward
    monkeypatch.setattr(model.transformer, "forward", lambda *a, **b: backbone(*a, **{**b, "position_ids": None}))
    with pytest.raises(ModelError, match="gives other logits to a branch than to a text"):
        TransformersEngine(model, build_trie(titles))


def test_model_without_key_value_cache_is_refused(titles: Titles) -> None:
    config = MambaConfig(vocab_size=VOCABULARY, hidden_size=16, state_size=4, num_hidden_layers=1)
    with pytest.raises(ModelError, match="expected a causal transformer"):
        TransformersEngine(tiny_model(config), build_trie(titles))


_TINY = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 4,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}  # fmt: skip
UNSUPPORTED = [
    ("RwkvConfig", {"attention_hidden_size": 32}, r"running state \(rwkv\)"),
    ("BloomConfig", {"n_layer": 2, "n_head": 4}, "cannot continue a text along several branches"),
    ("Llama4TextConfig", {"intermediate_size_mlp": 32, "num_local_experts": 2}, "apart from its output layer"),
]


@pytest.mark.parametrize(("name", "changes", "reason"), UNSUPPORTED)
@pytest.mark.filterwarnings("ignore")
def test_model_of_another_kind_is_refused_with_the_true_reason(
    titles: Titles, name: str, changes: dict[str, Any], reason: str
) -> None:
    kind = getattr(transformers, name, None)
    if kind is None:
        pytest.skip(f"this transformers has no {name}")
    with pytest.raises(ModelError, match=rf"^The model .*{reason}.*choose another model\.base\.$"):
        TransformersEngine(tiny_model(kind(**_TINY | changes)), build_trie(titles))


@pytest.mark.parametrize("kind", [IndexError, KeyError, AssertionError, RuntimeError])
def test_whatever_a_model_raises_in_a_branch_is_one_sentence(
    titles: Titles, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    model = tiny_model(tiny_config("llama"))

    def failing(**_: Any) -> None:
        raise kind("one\ntwo")

    monkeypatch.setattr(model.model, "forward", failing)
    with pytest.raises(ModelError, match=rf"^The model .*{kind.__name__}: .*one.* expected a causal transformer"):
        TransformersEngine(model, build_trie(titles))


def test_tokenizer_that_is_larger_than_the_model_is_refused(llama: PreTrainedModel) -> None:
    with pytest.raises(ModelError, match=rf"token ids up to {VOCABULARY} but the model .* knows only {VOCABULARY};"):
        TransformersEngine(llama, build_trie([[5, VOCABULARY, 3], [6, 3]]))


def test_text_longer_than_the_model_can_see_is_refused(llama: PreTrainedModel, titles: Titles) -> None:
    engine = TransformersEngine(llama, build_trie(titles))
    deepest = int(engine.trie.depth_B.max())
    fits = random_text(1, 128 - deepest)
    search(engine.read(fits, np.array([len(fits) - 1])), engine.trie, 3)
    with pytest.raises(ModelError, match="sees at most 128 tokens but prompt and title have 129: set "):
        engine.read(random_text(1, 129 - deepest), np.array([128 - deepest]))
    with pytest.raises(ModelError, match="sees at most 128 tokens but prompt and title have 140"):
        engine.read(random_text(1, 140), np.array([3]))


def test_model_that_ignores_its_window_is_refused(titles: Titles) -> None:
    """A Llama has no window; with a setting for one, its branches would see less than its texts."""
    model = tiny_model(tiny_config("llama", sliding_window=24))
    with pytest.raises(ModelError, match="gives other logits to a branch than to a text"):
        TransformersEngine(model, build_trie(titles))


def test_damaged_weights_are_an_error_and_no_ranking(titles: Titles) -> None:
    model = tiny_model(tiny_config("llama"))
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    engine = TransformersEngine(model, build_trie(titles))
    with pytest.raises(ModelError, match=r"gives scores that are NaN or infinite: its weights or its adapter are dam"):
        search(engine.read(random_text(1, 5), np.array([4])), engine.trie)
