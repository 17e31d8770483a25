"""Methods that are added to vLLM's workers, by `--worker-extension-cls`. Only the processes of the engine import it."""

from __future__ import annotations

from typing import Any


class TakingWeights:
    """Mixed into a worker (`vllm.v1.worker.gpu_worker.Worker`)."""

    model_runner: Any
    reload_weights: Any

    def whereupon_take_weights(self, folder: str) -> None:
        """Put the weights of a checkpoint of the same model in the place of those that are loaded."""
        from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

        self.reload_weights(weights_path=folder)
        # On a CPU, vLLM 0.32 computes an output layer from a packed copy of its weights, and makes no new one where the
        # layer is tied to the input embeddings.
        for module in self.model_runner.get_model().modules():
            method = getattr(module, "quant_method", None)
            if isinstance(method, UnquantizedEmbeddingMethod):
                method.process_weights_after_loading(module)
