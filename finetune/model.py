"""The model that is trained: a base model with LoRA, and the catalogue loss.

The loss is the negative log-probability of each title under the distribution that serving ranks by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..decode.output_layer import OutputLayer
from ..decode.quantize import is_quantized
from ..decode.transformers_engine import split_model
from ..errors import ConfigError, ModelError
from .branches import States, nats_of
from .preference import PreferenceBatch, preference_loss
from .settings import FinetuneSettings
from .training_examples import Batch

LINEAR = (nn.Linear, Conv1D)


def plain_nats(hidden_PH: Tensor, batch: Batch, output: OutputLayer) -> Tensor:
    """float32 [P]: -log p of the token behind each position, as language models are trained, at title tokens alone."""
    target_P = batch.tokens_RL.flatten()[batch.position_P + 1]
    return nn.functional.cross_entropy(output.logits(hidden_PH), target_P, reduction="none")


def mean_nats(nats_P: Tensor, batch: Batch) -> Tensor:
    """Summed over each title's decisions by their weights, and averaged over titles."""
    weighted_P = nats_P if batch.weight_P is None else nats_P * batch.weight_P
    return weighted_P.sum() / batch.num_titles


@dataclass(frozen=True)
class Teacher:
    """A model whose distribution over the items is learnt: with what divides its logits, its adapter's card, and its
    share of the loss. No module: it is neither trained nor wrapped."""

    model: PreTrainedModel
    temperature: float
    card: Mapping[str, Any]
    share: float

    def hash_with(self, priors: str) -> str:
        """That of its adapter. Raises ModelError where it was trained on top of other rankers than `priors`."""
        if self.card["priors"] != priors:
            raise ModelError(
                "The teacher was trained on top of other rankers than those of this run's priors, so that its "
                "distribution is another one: train it again, or set priors as they were then."
            )
        return str(self.card["adapter_hash"])


class CatalogueModel(nn.Module):
    """A PEFT model whose forward pass is the loss of a batch, so that wrappers for many devices see one module.

    The loss is the mean over titles of -log p(title), nats: summed over the title's branching nodes (`nats_of`), or for
    the plain objective over its tokens (`plain_nats`). A `teacher` adds the divergence from what it says at each node.
    For the objectives of `AFTERWARDS` it is `preference_loss`.
    """

    def __init__(
        self, model: PeftModel, temperature: float, settings: FinetuneSettings | None = None,
        teacher: Teacher | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        settings = settings or FinetuneSettings()
        self.model, self.teacher, self._temperature = model, teacher, temperature
        learnt = settings.temperature == "learnt"
        device = next(model.parameters()).device
        # As the logit scale of CLIP (arXiv 2103.00020); in a row, as FSDP spreads nothing without a dimension.
        start = torch.tensor([math.log(temperature)], device=device)
        self.log_temperature = nn.Parameter(start) if learnt else None
        self.objective, self.preference = settings.objective, settings.preference

    @property
    def temperature(self) -> float:
        """As it stands; where it is learnt, the device is waited for."""
        return self._temperature if self.log_temperature is None else float(self.log_temperature.detach().exp())

    @property
    def _no_split_modules(self) -> Any:  # by which accelerate knows the layers that FSDP gathers one at a time
        return self.model.get_base_model()._no_split_modules

    def forward(self, batch: Batch | PreferenceBatch) -> Tensor:
        if isinstance(batch, PreferenceBatch):
            return preference_loss(
                self.model.get_base_model(), batch, self._temperature, self.objective, self.preference
            )
        temperature = self._temperature if self.log_temperature is None else self.log_temperature.exp()
        states = states_at(self.model.get_base_model(), batch, temperature)
        if batch.branches is None:
            return mean_nats(plain_nats(states.hidden_PH, batch, states.output), batch)
        if self.teacher is None:
            return mean_nats(nats_of(states, batch.branches), batch)
        with torch.no_grad():
            taught = states_at(self.teacher.model, batch, self.teacher.temperature)
        return mean_nats(nats_of(states, batch.branches, taught, self.teacher.share), batch)


def states_at(model: Any, batch: Batch, temperature: float | Tensor) -> States:
    """What a model says at the decisions of a batch."""
    backbone, output = split_model(model)
    hidden_RLH: Tensor = backbone(input_ids=batch.tokens_RL, use_cache=False).last_hidden_state
    return States(hidden_RLH.flatten(0, 1)[batch.position_P], output, temperature)


def add_lora(model: Any, settings: FinetuneSettings) -> PeftModel:
    """A fresh adapter on the model's linear layers; the base weights are frozen, and prepared if they are quantized.

    Raises ConfigError for modules that do not exist or cannot be trained (`_saved_modules`, `_check_output_layer`).
    """
    linear = {name.rpartition(".")[2]: part for name, part in model.named_modules() if isinstance(part, LINEAR)}
    saved = _saved_modules(model, settings.modules_to_save)
    if is_quantized(model):
        # All that is not quantized becomes float32, norms above all. Checkpointing without re-entry needs nothing more.
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    lora = LoraConfig(
        r=settings.rank, lora_dropout=settings.dropout, target_modules=settings.target_modules, task_type="CAUSAL_LM",
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # peft says int and takes any scale
        use_dora=settings.adapter == "dora", use_rslora=settings.adapter == "rslora",
        modules_to_save=saved or None,
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in linear.values()),
    )  # fmt: skip
    try:
        adapted = get_peft_model(model, lora)
    except ValueError as error:
        raise ConfigError(
            f"finetune.target_modules should be all-linear or name modules of the base model "
            f"({', '.join(sorted(linear))}), not {settings.target_modules!r}."
        ) from error
    assert isinstance(adapted, PeftModel)
    _check_output_layer(adapted, settings)
    return adapted


def _saved_modules(model: Any, names: list[str]) -> list[str]:
    """The paths of `modules_to_save`, whole, as peft would also take each module whose name only ends so.

    Raises ConfigError for names that do not exist, which peft passes over, and for quantized weights: they have no
    gradient.
    """
    parts: dict[str, nn.Module] = dict(model.named_modules())
    paths = {name: [path for path in parts if f".{path}".endswith(f".{name}")] for name in names}
    for name, found in paths.items():
        if not found:
            known = {path.rpartition(".")[2] for path, part in parts.items() if [*part.parameters(recurse=False)]}
            raise ConfigError(
                f"finetune.modules_to_save names {name!r}, which the base model has not: expected some of "
                f"{', '.join(sorted(known))}."
            )
        if not all(weight.is_floating_point() for path in found for weight in parts[path].parameters()):
            raise ConfigError(
                f"finetune.modules_to_save names {name!r}, whose weights are quantized and cannot be trained whole: "
                "leave it out, or set model.quantize to none."
            )
    return [path for found in paths.values() for path in found]


def _check_output_layer(adapted: PeftModel, settings: FinetuneSettings) -> None:
    """Raises ConfigError where the output layer, or what shares its weights, is adapted.

    Scores are computed with the base model's output layer: in training, an adapter of it would do nothing.
    """
    base: Any = adapted.get_base_model()
    head, embeddings = base.get_output_embeddings(), base.get_input_embeddings()
    tied = getattr(base.config.get_text_config(), "tie_word_embeddings", False)
    for setting, kind in (("target_modules", BaseTunerLayer), ("modules_to_save", ModulesToSaveWrapper)):
        if isinstance(head, kind) or (tied and isinstance(embeddings, kind)):
            raise ConfigError(
                f"finetune.{setting} is {getattr(settings, setting)!r}, which holds the output layer or what shares "
                "its weights; these stay as they are: leave it out, all-linear does so."
            )
