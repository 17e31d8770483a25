"""Runs inside vLLM's engine: writes the logits of a request's edges for the search, and changes nothing.

A logits processor for both of vLLM's model runners; it has the methods of both interfaces. vLLM gets its name
(`PROCESSOR` of `edge_logits`) and imports it. Nothing else imports this module, as it needs vLLM.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as LogitsProcessorV2

from .edge_logits import EdgesWanted


class EdgeLogits(LogitsProcessor, LogitsProcessorV2):  # type: ignore[misc]  # mypy does not follow imports of vLLM
    """See the module's docstring."""

    def __init__(self, vllm_config: Any, *of_the_runner: Any) -> None:
        self._wanted: dict[int, EdgesWanted] = {}  # by row of the batch in the first runner, by slot in the second

    def is_argmax_invariant(self) -> bool:
        """First runner: whether greedy requests can do without it. They cannot, as it reads what they are made of."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """First runner: requests came, went and moved."""
        process_dict_updates(self._wanted, batch_update, lambda params, *_: EdgesWanted.of(params))

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """Second runner: a request came to a slot."""
        self._wanted.pop(req_idx, None)
        if (wanted := EdgesWanted.of(sampling_params)) is not None:
            self._wanted[req_idx] = wanted
        return wanted is not None

    def apply(self, logits: torch.Tensor, ctx: Any = None) -> torch.Tensor:
        """Write logits (float [R, V], R rows) for those who want some. `ctx`: second runner; where the slots are."""
        slot_R = range(len(logits)) if ctx is None else ctx.idx_mapping_np.tolist()
        rows = [(row, self._wanted[slot]) for row, slot in enumerate(slot_R) if slot in self._wanted]
        if not rows:
            return logits
        count_X = [len(wanted.token_J) for _, wanted in rows]
        row_J = np.repeat([row for row, _ in rows], count_X)
        token_J = np.concatenate([wanted.token_J for _, wanted in rows]).astype(np.int64)
        # One step of the device and one copy for all of the batch.
        chosen_J = logits[torch.from_numpy(row_J).to(logits.device), torch.from_numpy(token_J).to(logits.device)]
        parts = np.split(chosen_J.float().cpu().numpy(), np.cumsum(count_X)[:-1])
        for (_, wanted), logit_J in zip(rows, parts, strict=True):
            wanted.write(logit_J)
        return logits
