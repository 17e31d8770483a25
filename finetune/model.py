"""The model that is trained: a base model with LoRA, and the catalogue loss.

The loss is the negative log-probability of each title under the distribution that serving ranks by.
"""

from __future__ import annotations

from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from ..decode.branching import TrieTensors, edge_log_probs, edge_logits, log_softmax
from ..decode.transformers_engine import output_layers
from ..errors import ConfigError
from .lessons import Batch
from .settings import FinetuneSettings


def catalogue_loss(
    hidden_RLH: Tensor, batch: Batch, trie: TrieTensors, weight_VH: Tensor, bias_V: Tensor | None, temperature: float
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
        log_prob_J, first_P = edge_log_probs(hidden_PH, batch.node_P, trie, weight_VH, bias_V, temperature)
        chosen_P = first_P + batch.edge_P - trie.child_ptr_B1[batch.node_P]
        return -log_prob_J[chosen_P].sum() / batch.num_titles
    prior = batch.prior
    logits_J = edge_logits(hidden_PH, prior.edge_J, prior.row_J, trie, weight_VH, bias_V)
    log_prob_J = log_softmax(logits_J / temperature + prior.log_mass_J, prior.row_J)
    return -log_prob_J[prior.taken_P].sum() / batch.num_titles


class CatalogueModel(nn.Module):
    """A PEFT model whose forward pass is the catalogue loss, so that wrappers for many devices see one module."""

    def __init__(self, model: PeftModel, trie: TrieTensors, temperature: float) -> None:
        super().__init__()
        self.model, self.trie, self.temperature = model, trie, temperature

    @property
    def _no_split_modules(self) -> Any:  # by which accelerate knows the layers that FSDP gathers one at a time
        return self.model.get_base_model()._no_split_modules

    def forward(self, batch: Batch) -> Tensor:
        base: Any = self.model.get_base_model()
        backbone, weight_VH, bias_V = output_layers(base)
        hidden: Any = backbone(input_ids=batch.tokens_RL, use_cache=False).last_hidden_state
        return catalogue_loss(hidden, batch, self.trie, weight_VH, bias_V, self.temperature)


def add_lora(model: Any, settings: FinetuneSettings) -> PeftModel:
    """A fresh LoRA adapter on the model's linear layers; the base weights are frozen.

    Raises ConfigError for modules that do not exist, and where the output layer or what shares its weights is adapted.
    """
    lora = LoraConfig(
        r=settings.rank, lora_dropout=settings.dropout, target_modules=settings.target_modules, task_type="CAUSAL_LM",
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # peft says int and takes any scale
    )  # fmt: skip
    try:
        adapted = get_peft_model(model, lora)
    except ValueError as error:
        linear = {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, nn.Linear)}
        raise ConfigError(
            f"finetune.target_modules should be all-linear or name modules of the base model "
            f"({', '.join(sorted(linear))}), not {settings.target_modules!r}."
        ) from error
    assert isinstance(adapted, PeftModel)
    base: Any = adapted.get_base_model()
    head, embeddings = base.get_output_embeddings(), base.get_input_embeddings()
    tied = head.weight is embeddings.weight
    # Scores are computed with the base model's output layer: in training, an adapter of it would do nothing.
    if isinstance(head, BaseTunerLayer) or (tied and isinstance(embeddings, BaseTunerLayer)):
        raise ConfigError(
            f"finetune.target_modules is {settings.target_modules!r}, which holds the output layer or what shares its "
            "weights; these stay as they are: leave it out, all-linear does so."
        )
    return adapted
