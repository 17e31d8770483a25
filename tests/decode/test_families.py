"""Each family of models is trained, searched and scored as the plain model does it, or is refused before anything."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from whereupon.catalogue import build_trie
from whereupon.cli import app
from whereupon.config import load_config
from whereupon.decode.architecture import check_architecture
from whereupon.decode.models import load_base_model, load_tokenizer
from whereupon.decode.search import score_all, search
from whereupon.decode.settings import ModelSettings
from whereupon.decode.transformers_engine import TransformersEngine
from whereupon.errors import ModelError
from whereupon.finetune.model import CatalogueModel, add_lora
from whereupon.finetune.settings import FinetuneSettings
from whereupon.finetune.training_examples import collate, example_of
from whereupon.histories import prepare
from whereupon.prompts import EncodedWindow
from whereupon.serve.launcher import launch
from whereupon.tests.decode.families import FAMILIES, REFUSED, WINDOW, Family
from whereupon.tests.decode.tiny import Titles, byte_tokenizer, naive_log_probs, random_text, random_titles, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = 1e-4
TITLES = random_titles(2, 25)
TEXT = random_text(3, 3 * WINDOW)
_each = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
_each_refused = pytest.mark.parametrize("family", REFUSED, ids=lambda family: family.name)


def _config(family: Family) -> Any:
    config = family.config()
    if config is None:
        pytest.skip(f"this transformers has no {family.kind}")
    return config


def _losses_of_two_steps(model: Any, titles: Titles) -> tuple[Any, list[float]]:
    """The model under an adapter after two steps on one window of two titles, and the loss before each."""
    trie = build_trie(titles)
    adapted = add_lora(model, FinetuneSettings(rank=2))
    module = CatalogueModel(adapted, 1.0)
    pieces, starts = [TEXT], []
    for item in (4, 9):
        starts.append(sum(map(len, pieces)))
        pieces += [np.array(titles[item], np.int32), random_text(item, 3)]
    window = EncodedWindow(np.concatenate(pieces), np.array(starts))
    batch = collate([example_of(window, np.array([4, 9]), trie)], trie)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(2):
        loss = module(batch)
        losses.append(float(loss.detach()))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return adapted, [*losses, float(module(batch).detach())]


@_each
def test_family_is_trained_searched_and_scored_like_the_plain_model(family: Family) -> None:
    model = tiny_model(_config(family))
    adapted, losses = _losses_of_two_steps(model, TITLES)
    assert losses[2] < losses[0]
    expected = naive_log_probs(adapted.eval(), TEXT, TITLES)
    merged = adapted.merge_and_unload()
    engine = TransformersEngine(merged, build_trie(TITLES))
    found = score_all(engine.read(TEXT, np.array([len(TEXT) - 1])), engine.trie)
    assert np.abs(found - expected).max() < TOLERANCE
    (result,) = search(engine.read(TEXT, np.array([len(TEXT) - 1])), engine.trie, k=10)
    assert result.exact
    assert result.item_idx_K.tolist() == np.argsort(-expected)[:10].tolist()


@_each
def test_questions_within_one_text_see_what_each_sees_alone(family: Family) -> None:
    engine = TransformersEngine(tiny_model(_config(family)), build_trie(TITLES))
    position_Q = np.array([len(TEXT) - 1, WINDOW + 3, 2])
    for position, result in zip(position_Q, search(engine.read(TEXT, position_Q), engine.trie, 6), strict=True):
        (alone,) = search(engine.read(TEXT[: position + 1], np.array([position])), engine.trie, 6)
        assert np.abs(result.log_prob_K - alone.log_prob_K).max() < TOLERANCE


@pytest.mark.parametrize(
    "name", ["Mistral", "Qwen2.5", "Gemma 2", "Gemma 3 (text)", "Phi-3, Phi-4", "Cohere 2 (Command R7B)"]
)
def test_sliding_window_hides_what_lies_before_it(name: str) -> None:
    """Else the tests above would pass with models whose window is no window."""
    (family,) = (family for family in FAMILIES if family.name == name)
    found = []
    for window in (WINDOW, 512):
        config = _config(family)
        config.sliding_window = window
        found.append(naive_log_probs(tiny_model(config), TEXT, TITLES))
    assert np.abs(found[0] - found[1]).max() > 0.01


@_each_refused
def test_model_that_cannot_follow_branches_is_refused_by_its_configuration(family: Family) -> None:
    kind = "local attention" if family.name == "GPT-Neo" else "a running state"
    with pytest.raises(ModelError, match=rf"^The model some/model has layers with {kind} \(\S.*model\.base\.$"):
        check_architecture(_config(family), "some/model")


@_each_refused
def test_refused_model_is_refused_before_its_weights_are_read(family: Family, tmp_path: Path) -> None:
    _config(family).save_pretrained(tmp_path)  # no weights lie there
    byte_tokenizer(tmp_path)
    for load in (load_tokenizer, load_base_model):
        with pytest.raises(ModelError, match=r"has layers with .* which cannot follow"):
            load(ModelSettings(base=str(tmp_path), device="cpu"))


VERBS = ["finetune", "finetune --estimate", "evaluate", "evaluate --no-adapter", "recommend --user p00", "serve"]


@pytest.mark.slow  # a town for each
@pytest.mark.parametrize("typed", VERBS)
def test_each_verb_refuses_a_hybrid_model_at_once(
    typed: str, make_town: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_town(tmp_path / "town", people=3, days=4)
    config = load_config(path)
    prepare(config.histories, config.catalogue, config.run, config.seed)
    _config(REFUSED[0]).save_pretrained(tmp_path / "town" / "model")
    (tmp_path / "town" / "model" / "model.safetensors").unlink()
    monkeypatch.setattr(launch, "_needed_build", lambda: SimpleNamespace(device="cpu"))  # vLLM need not be there
    verb, *options = typed.split()
    result = CliRunner().invoke(app, [verb, str(path), *options])
    assert result.exit_code == 1
    assert "has layers with a running state (linear_attention)" in " ".join(result.output.split())


def test_gpt_neo_without_local_layers_is_not_refused() -> None:
    (family,) = (family for family in REFUSED if family.name == "GPT-Neo")
    check_architecture(family.config(attention_types=[[["global"], 2]]), "some/model")


def test_table_of_the_docs_has_these_families(root: Path) -> None:
    text = (root / "docs" / "models.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|", text, re.MULTILINE)
    found = {name: "refused" if says == "refused" else "works" for name, says in rows if says in ("works", "refused")}
    assert found == {family.name: "works" for family in FAMILIES} | {family.name: "refused" for family in REFUSED}
