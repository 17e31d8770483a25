"""What is used of vLLM's EngineClient, computed by transformers: only vLLM itself is missing."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from whereupon.config import Config
from whereupon.decode.adapters import current_adapter
from whereupon.decode.edge_logits import EdgesWanted
from whereupon.decode.models import load_base_model, merge_adapter
from whereupon.decode.settings import ModelSettings


class LocalClient:
    """What is used of vLLM's EngineClient, computed by transformers without any cache."""

    def __init__(self, config: Config) -> None:
        self.model = merge_adapter(load_base_model(config.model), current_adapter(config.run)).eval()
        self.model_config = SimpleNamespace(
            max_model_len=400, get_vocab_size=lambda: self.model.config.vocab_size, model="", dtype="torch.float32"
        )
        self.vllm_config = SimpleNamespace(cache_config=SimpleNamespace(block_size=16))
        self.is_alive, self.is_paused, self.running, self.delay_s, self.num_resets = True, False, 0, 0.0, 0
        self.trace_headers: list[Mapping[str, str]] = []

    async def reset_prefix_cache(self) -> bool:
        self.num_resets += 1
        return True

    async def pause_generation(self, mode: str) -> None:
        assert (mode, self.running) == ("wait", 0), "nothing runs while the weights change"
        self.is_paused = True
        self.num_resets += 1

    async def resume_generation(self) -> None:
        self.is_paused = False

    async def collective_rpc(self, method: str, args: tuple[str]) -> None:
        """Of all methods the one of `serve.app.worker`."""
        assert method == "whereupon_take_weights"
        assert self.is_paused
        self.model = load_base_model(ModelSettings(base=args[0], device="cpu")).eval()

    async def check_health(self) -> None:
        if not self.is_alive:
            raise RuntimeError("dead")

    async def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, trace_headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Any, None]:
        import torch

        assert not self.is_paused
        self.trace_headers += [trace_headers] if trace_headers else []
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


@asynccontextmanager
async def local_engine(config: Config) -> AsyncIterator[LocalClient]:
    """What a batch asks instead of vLLM's engine."""
    yield LocalClient(config)
