"""From hidden states to logits, as the families of models compute them: a projection, a factor and a soft cap.

Shape legend: X positions, H hidden size, V vocabulary, U chosen tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Settings of models that change logits in other ways; the catalogue distribution would silently differ.
UNSUPPORTED = ("lm_head_multiplier", "output_multiplier")


@dataclass(frozen=True)
class OutputLayer:
    """The output projection, with the factor and the soft cap that some families put behind it.

    `scale` multiplies the logits (Cohere; Granite divides by it). `cap` bounds them: cap * tanh(logit / cap) (Gemma 2).
    """

    weight_VH: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None

    def rows(self, token_U: Tensor) -> OutputLayer:
        """The output layer of the tokens `token_U` (int64 [U]) alone, float32."""
        bias_U = None if self.bias_V is None else self.bias_V[token_U].float()
        return OutputLayer(self.weight_VH[token_U].float(), bias_U, self.scale, self.cap)

    def logits(self, hidden_XH: Tensor, token_U: Tensor | slice = slice(None)) -> Tensor:
        """float32 [X, U]: logits of the tokens `token_U` (int64 [U]; by default all of the vocabulary)."""
        with torch.autocast(hidden_XH.device.type, enabled=False):
            logits_XU = hidden_XH.float() @ self.weight_VH[token_U].float().T
            if self.bias_V is not None:
                logits_XU = logits_XU + self.bias_V[token_U].float()
            if self.scale != 1:
                logits_XU = logits_XU * self.scale
            return logits_XU if self.cap is None else torch.tanh(logits_XU / self.cap) * self.cap


def output_layer_of(head: Any, config: Any) -> OutputLayer:
    """The output layer of a model, from its projection `head` and the settings of its text part."""
    bias = getattr(head, "bias", None)
    factor = getattr(config, "logit_scale", None) or 1.0
    divisor = getattr(config, "logits_scaling", None) or 1.0
    cap = getattr(config, "final_logit_softcapping", None)
    return OutputLayer(head.weight.detach(), None if bias is None else bias.detach(), factor / divisor, cap)
