"""The model that is trained: a base model with LoRA, and the catalogue loss.

The loss is the negative log-probability of each title under the distribution that serving ranks by.
"""

from __future__ import annotations

from typing import Any, Literal

from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..decode.branching import TrieTensors, edge_logits, log_softmax, taken_log_probs
from ..decode.output_layer import OutputLayer
from ..decode.quantize import is_quantized
from ..decode.transformers_engine import split_model
from ..errors import ConfigError
from .settings import FinetuneSettings
from .training_examples import Batch

LINEAR = (nn.Linear, Conv1D)


def catalogue_loss(
    hidden_RLH: Tensor, batch: Batch, trie: TrieTensors, output: OutputLayer, temperature: float
) -> Tensor:
    """Mean over titles of -log p(title), nats; trie-masked cross-entropy summed over each title's branching nodes.

    Masked softmax loss: arXiv 2504.04178. Only the P branching positions and the tokens on their edges are projected.
    On top of a prior, the logarithm of its mass below each edge is added to the logits (a product of experts; residual
    fitting: arXiv 1908.10763), so that the gradient is about what the prior does not know.
    """
    if not len(batch.position_P):
        return hidden_RLH.sum() * 0.0
    hidden_PH = hidden_RLH.flatten(0, 1)[batch.position_P]
    if batch.prior is None:
        edge_P = batch.edge_P - trie.child_ptr_B1[batch.node_P]
        log_prob_P = taken_log_probs(hidden_PH, batch.node_P, edge_P, trie, output, temperature)
        return _mean_nats(log_prob_P, batch)
    prior = batch.prior
    logits_J = edge_logits(hidden_PH, prior.edge_J, prior.row_J, trie, output)
    log_prob_J = log_softmax(logits_J / temperature + prior.log_mass_J, prior.row_J)
    return _mean_nats(log_prob_J[prior.taken_P], batch)


def plain_loss(hidden_RLH: Tensor, batch: Batch, output: OutputLayer) -> Tensor:
    """Mean over titles of -log p(its tokens), nats: the cross-entropy of language models, at title tokens alone."""
    if not len(batch.position_P):
        return hidden_RLH.sum() * 0.0
    target_P = batch.tokens_RL.flatten()[batch.position_P + 1]
    logits_PV = output.logits(hidden_RLH.flatten(0, 1)[batch.position_P])
    return _mean_nats(-nn.functional.cross_entropy(logits_PV, target_P, reduction="none"), batch)


def _mean_nats(log_prob_P: Tensor, batch: Batch) -> Tensor:
    """Summed over each title's decisions by their weights, and averaged over titles."""
    weighted_P = log_prob_P if batch.weight_P is None else log_prob_P * batch.weight_P
    return -weighted_P.sum() / batch.num_titles


class CatalogueModel(nn.Module):
    """A PEFT model whose forward pass is the catalogue loss, or the plain one, so that wrappers for many devices see
    one module."""

    def __init__(
        self, model: PeftModel, trie: TrieTensors, temperature: float,
        objective: Literal["catalogue", "plain"] = "catalogue",
    ) -> None:  # fmt: skip
        super().__init__()
        self.model, self.trie, self.temperature, self.objective = model, trie, temperature, objective

    @property
    def _no_split_modules(self) -> Any:  # by which accelerate knows the layers that FSDP gathers one at a time
        return self.model.get_base_model()._no_split_modules

    def forward(self, batch: Batch) -> Tensor:
        base: Any = self.model.get_base_model()
        backbone, output = split_model(base)
        hidden: Any = backbone(input_ids=batch.tokens_RL, use_cache=False).last_hidden_state
        if self.objective == "plain":
            return plain_loss(hidden, batch, output)
        return catalogue_loss(hidden, batch, self.trie, output, self.temperature)


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
