"""The families of models that people use, each as a tiny random model with what is special about it switched on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import transformers
from transformers import PreTrainedConfig

WINDOW = 8
"""Tokens of the sliding windows: fewer than any prompt of the tests has."""
_TINY = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 1024, "initializer_range": 0.3,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": True,
}  # fmt: skip
_SLIDING = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
_LINEAR = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 2}
_EXPERTS = {
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 8,
    "shared_expert_intermediate_size": 8,
}


@dataclass(frozen=True)
class Family:
    """A row of the table in docs/models.md: the family's name, and a configuration of transformers with changes."""

    name: str
    kind: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    def config(self, **changes: Any) -> PreTrainedConfig | None:
        """A tiny model's configuration; None where the installed transformers does not know the family."""
        kind = getattr(transformers, self.kind, None)
        return None if kind is None else kind(**_TINY | dict(self.changes) | changes)


FAMILIES = [
    Family("Llama 2, Llama 3, SmolLM2", "LlamaConfig"),
    Family("Mistral", "MistralConfig", {"sliding_window": WINDOW}),
    Family("Qwen2.5", "Qwen2Config", {"use_sliding_window": True, **_SLIDING}),
    Family("Qwen3", "Qwen3Config"),
    Family("Gemma", "GemmaConfig"),
    Family("Gemma 2", "Gemma2Config", {**_SLIDING, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8}),
    Family("Gemma 3 (text)", "Gemma3TextConfig", {**_SLIDING, "query_pre_attn_scalar": 8}),
    Family("SmolLM3", "SmolLM3Config", {"no_rope_layers": [1, 0]}),
    Family("Phi-1.5, Phi-2", "PhiConfig", {"num_key_value_heads": 4, "tie_word_embeddings": False}),
    Family("Phi-3, Phi-4", "Phi3Config", {"sliding_window": WINDOW}),
    Family("GPT-2", "GPT2Config", {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 1024}),
    Family("OLMo", "OlmoConfig"),
    Family("OLMo 2", "Olmo2Config"),
    Family(
        "Granite", "GraniteConfig", {"logits_scaling": 8.0, "residual_multiplier": 0.5, "embedding_multiplier": 2.0}
    ),
    Family("Cohere (Command R)", "CohereConfig", {"logit_scale": 0.25}),
    Family("Cohere 2 (Command R7B)", "Cohere2Config", {"logit_scale": 0.25, **_SLIDING}),
]
"""Trained, searched in process and scored as by the plain model."""

REFUSED = [
    Family("Qwen3.5", "Qwen3_5TextConfig", {**_LINEAR, "num_hidden_layers": 4}),
    Family("Qwen3-Next", "Qwen3NextConfig", {**_LINEAR, **_EXPERTS, "num_hidden_layers": 4}),
    Family("LFM2", "Lfm2Config", {"layer_types": ["conv", "full_attention"]}),
    Family("Mamba", "MambaConfig", {"state_size": 4}),
    Family("Mamba 2", "Mamba2Config", {"state_size": 4, "num_heads": 8, "n_groups": 1}),
    Family("Falcon-H1", "FalconH1Config", {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8}),
    Family("GPT-Neo", "GPTNeoConfig", {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4}),
    Family("Granite 4 (hybrid)", "GraniteMoeHybridConfig", {"layer_types": ["mamba", "attention"], "mamba_n_heads": 8}),
]
"""Refused in one sentence, by their configuration alone: a running state, or a window over the order in memory."""
