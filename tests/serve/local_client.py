"""What is used of vLLM's EngineClient, computed by transformers: only vLLM itself is missing."""

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

from whereupon.config import Config
from whereupon.decode.adapters import current_adapter
from whereupon.decode.edge_logits import EdgesWanted
from whereupon.decode.models import load_base_model, merge_adapter


class LocalClient:
    """What is used of vLLM's EngineClient, computed by transformers without any cache."""

    def __init__(self, config: Config) -> None:
        self.model = merge_adapter(load_base_model(config.model), current_adapter(config.run)).eval()
        self.model_config = SimpleNamespace(max_model_len=400, get_vocab_size=lambda: self.model.config.vocab_size)
        self.vllm_config = SimpleNamespace(cache_config=SimpleNamespace(block_size=16))
        self.is_alive, self.running, self.delay_s, self.num_resets = True, 0, 0.0, 0

    async def reset_prefix_cache(self) -> bool:
        self.num_resets += 1
        return True

    async def check_health(self) -> None:
        if not self.is_alive:
            raise RuntimeError("dead")

    async def generate(self, prompt: Any, sampling_params: Any, request_id: str) -> AsyncGenerator[Any, None]:
        import torch

        self.running += 1
        try:
            await asyncio.sleep(self.delay_s)
            tokens = prompt["prompt_token_ids"]
            with torch.inference_mode():
                logits = self.model(input_ids=torch.tensor([tokens])).logits[0, -1]
            wanted = EdgesWanted.of(sampling_params)
            assert wanted is not None
            wanted.write(logits.numpy()[wanted.token_J])
            yield SimpleNamespace(num_cached_tokens=0)
        finally:
            self.running -= 1
