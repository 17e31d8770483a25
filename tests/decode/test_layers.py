"""Fewer layers: which ones stay, and that what is left computes what the whole model does without the others."""

from typing import Any

import pytest
import torch

from whereupon.decode.layers import kept_layers, num_layers, with_layers
from whereupon.errors import ModelError
from whereupon.tests.decode.families import FAMILIES, Family
from whereupon.tests.decode.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("Llama 2, Llama 3, SmolLM2", "Qwen2.5", "Gemma 2", "SmolLM3", "GPT-2")
FOUR = {
    "Qwen2.5": {"layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]},
    "Gemma 2": {"layer_types": ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]},
    "SmolLM3": {"no_rope_layers": [1, 0, 1, 0], "layer_types": ["full_attention"] * 4},
    "GPT-2": {"n_layer": 4},
}


@pytest.mark.parametrize(("have", "wanted", "kept"), [
    (4, 2, [0, 3]), (10, 4, [0, 3, 6, 9]), (6, 5, [0, 1, 2, 4, 5]),
])  # fmt: skip
def test_first_and_last_layer_stay_and_the_others_at_equal_distances(have: int, wanted: int, kept: list[int]) -> None:
    assert kept_layers(have, wanted) == kept


def test_layers_are_never_kept_twice() -> None:
    for have in range(3, 40):
        for wanted in range(2, have):
            kept = kept_layers(have, wanted)
            assert len(set(kept)) == wanted
            assert (kept[0], kept[-1]) == (0, have - 1)


@pytest.mark.parametrize("wanted", [0, 1, 4, 9])
def test_number_of_layers_that_cannot_be_kept_is_refused(wanted: int) -> None:
    with pytest.raises(ModelError, match=rf"expected 2 to 3 layers, as the teacher has 4, found {wanted}"):
        kept_layers(4, wanted)


def _skip(module: Any, args: tuple[Any, ...], output: Any) -> Any:
    return args[0] if isinstance(output, torch.Tensor) else (args[0], *output[1:])


@pytest.mark.parametrize("family", [one for one in FAMILIES if one.name in NAMES], ids=lambda one: one.name)
@torch.inference_mode()
def test_what_is_left_is_the_model_that_skips_the_other_layers(family: Family) -> None:
    config = family.config(num_hidden_layers=4, **FOUR.get(family.name, {}))
    if config is None:
        pytest.skip(f"this transformers has no {family.kind}")
    model = tiny_model(config).eval()
    fewer = with_layers(model, [0, 2, 3])
    assert (num_layers(model), num_layers(fewer)) == (4, 3)
    ids = torch.arange(20)[None] % 60
    found = fewer(input_ids=ids, use_cache=False).logits
    whole = model(input_ids=ids, use_cache=False).logits
    layers = model.transformer.h if family.name == "GPT-2" else model.model.layers  # type: ignore[union-attr]
    layers[1].register_forward_hook(_skip)  # type: ignore[index, operator, union-attr]
    skipped = model(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(found, skipped, rtol=0, atol=1e-5)
    assert (found - whole).abs().max() > 1e-3
