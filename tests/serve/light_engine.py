"""An engine for processes that are started by the dozen: it never loads vLLM, which takes long."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType, SimpleNamespace

from whereupon.config import Config
from whereupon.tests.serve.local_client import LocalClient


def values_alone() -> ModuleType:
    """All that searches use of vLLM beside its client: a class of values."""
    vllm = ModuleType("vllm")
    vllm.SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    return vllm


@asynccontextmanager
async def light_engine(config: Config) -> AsyncIterator[LocalClient]:
    """See `serve.batch.answering.Engine`."""
    sys.modules.setdefault("vllm", values_alone())
    yield LocalClient(config)
