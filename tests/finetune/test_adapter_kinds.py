"""Kinds of adapters, modules trained whole, and optimizers: what works, and what is refused before training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

from whereupon.config import Config
from whereupon.decode.models import load_adapted, load_base_model
from whereupon.decode.settings import ModelSettings
from whereupon.errors import ConfigError
from whereupon.finetune.model import add_lora
from whereupon.finetune.optimizers import check_optimizer, make_optimizer
from whereupon.finetune.settings import FinetuneSettings
from whereupon.finetune.train import finetune
from whereupon.tests.decode.tiny import tiny_config, tiny_model

Town = Callable[..., Config]


def _learnt(model: PreTrainedModel, **settings: Any) -> dict[str, torch.Tensor]:
    adapted = add_lora(model, FinetuneSettings(rank=4, alpha=8, **settings))
    return {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "phi", "gpt2"])
def test_all_linear_layers_but_the_output_are_found_in_any_family(architecture: str) -> None:
    model = tiny_model(tiny_config(architecture))
    adapted = add_lora(model, FinetuneSettings(rank=4))
    found = {name.rpartition(".")[2] for name, part in adapted.named_modules() if isinstance(part, BaseTunerLayer)}
    expected = {
        "llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
        "phi": {"q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"},
        "gpt2": {"c_attn", "c_proj", "c_fc"},
    }
    assert found == expected.get(architecture, expected["llama"])


def test_dora_learns_the_length_of_each_row_besides() -> None:
    learnt = _learnt(tiny_model(tiny_config("llama")), adapter="dora")
    lengths = [weight for name, weight in learnt.items() if "lora_magnitude_vector" in name]
    assert len(lengths) == 14  # seven in each of two layers
    assert all(weight.ndim == 1 for weight in lengths)


def test_rslora_scales_by_the_root_of_the_rank() -> None:
    scales = {}
    for kind in ("lora", "rslora"):
        adapted = add_lora(tiny_model(tiny_config("llama")), FinetuneSettings(rank=4, alpha=8, adapter=kind))
        [scale] = {part.scaling["default"] for part in adapted.modules() if isinstance(part, BaseTunerLayer)}
        scales[kind] = scale
    assert scales == {"lora": 2.0, "rslora": 4.0}


def test_module_to_save_is_trained_whole() -> None:
    learnt = _learnt(tiny_model(tiny_config("llama")), modules_to_save=["norm", "embed_tokens"])
    whole = [name for name in learnt if "modules_to_save" in name]
    assert [name.split(".modules_to_save")[0].rpartition(".")[2] for name in whole] == ["embed_tokens", "norm"]


@pytest.mark.parametrize(
    ("architecture", "names"), [("llama", ["lm_head"]), ("qwen2", ["embed_tokens"]), ("phi", ["lm_head"])]
)
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")  # peft's; what follows is the sentence
def test_output_layer_is_not_trained_whole_nor_what_shares_its_weights(architecture: str, names: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"^finetune\.modules_to_save .*output layer or what shares its weights"):
        _learnt(tiny_model(tiny_config(architecture)), modules_to_save=names)


def test_unknown_module_to_save_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"^finetune\.modules_to_save names 'nrom'.*input_layernorm.* norm"):
        _learnt(tiny_model(tiny_config("llama")), modules_to_save=["nrom"])


def test_quantized_module_is_not_trained_whole(tmp_path: Path) -> None:
    tiny_model(tiny_config("llama")).save_pretrained(tmp_path)
    model = load_base_model(ModelSettings(base=str(tmp_path), device="cpu", quantize="nf4"))
    with pytest.raises(ConfigError, match=r"names 'down_proj', whose weights are quantized"):
        _learnt(model, modules_to_save=["down_proj"])


def test_half_precision_beside_quantized_weights_is_trained_in_float32(tmp_path: Path) -> None:
    tiny_model(tiny_config("llama")).save_pretrained(tmp_path)
    settings = ModelSettings(base=str(tmp_path), device="cpu", quantize="nf4", dtype="bfloat16")
    model = load_base_model(settings)
    assert model.model.norm.weight.dtype == torch.bfloat16
    learnt = _learnt(model)
    assert model.model.norm.weight.dtype == torch.float32
    assert {weight.dtype for weight in learnt.values()} == {torch.float32}


# Optimizers


def test_paged_optimizer_is_refused_on_a_cpu_before_anything_is_read(town: Town) -> None:
    config = town("finetune.optimizer=paged_adamw_8bit")
    with pytest.raises(ConfigError, match=r"^finetune\.optimizer is paged_adamw_8bit but training runs on a CPU"):
        finetune(config)
    assert not (config.run / "adapters").exists()
    check_optimizer(config.finetune, torch.device("cuda"))


def test_optimizer_of_bitsandbytes_is_refused_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"adamw_8bit, which needs bitsandbytes: run `pip install"):
        check_optimizer(FinetuneSettings(optimizer="adamw_8bit"), torch.device("cpu"))
    check_optimizer(FinetuneSettings(), torch.device("cpu"))


def test_states_of_eight_bits_take_a_third_of_the_bytes_at_most_and_go_the_same_way() -> None:
    moved, held = {}, {}
    for name in ("adamw", "adamw_8bit"):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(128, 64))
        settings = FinetuneSettings(optimizer=name, learning_rate=1e-2)
        optimizer = make_optimizer([weight], settings, torch.device("cpu"))
        for _ in range(20):
            (weight**2).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        moved[name] = weight.detach().clone()
        held[name] = sum(one.nbytes for one in optimizer.state[weight].values() if isinstance(one, torch.Tensor))
    assert held["adamw_8bit"] < held["adamw"] / 3
    assert float((moved["adamw"] - moved["adamw_8bit"]).abs().mean()) < 0.05 * 20 * 1e-2


# Trained in a town


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [("finetune.adapter=dora",), ("finetune.adapter=rslora", "finetune.alpha=8"), ("finetune.modules_to_save=[norm]",),
     ("finetune.optimizer=adamw_8bit",)],
    ids=["DoRA", "rsLoRA", "modules_to_save", "adamw_8bit"],
)  # fmt: skip
def test_each_kind_trains_and_is_loaded_merged(town: Town, settings: tuple[str, ...]) -> None:
    config = town("finetune.epochs=0.5", *settings)
    folder = finetune(config)
    ids = torch.arange(4, 24)[None]
    with torch.inference_mode():
        learnt = load_adapted(config.model, folder).eval()(ids).logits
        plain = load_base_model(config.model).eval()(ids).logits
    assert float((learnt - plain).abs().max()) > 1e-3
