"""Everything a server needs beside the model, loaded and tried once before the first request."""

from __future__ import annotations

import asyncio

import numpy as np

from ...catalogue import Selection
from ...decode.vllm_engine import Client, Limits, VllmEngine
from ...recommend.prompt import Prompt
from ...recommend.recommender import Question, Recommender, exact_plan
from ..settings import ServeConfig
from . import metrics
from .concurrency import ConcurrencyLimit
from .service import Service


async def load_service(config: ServeConfig, client: Client) -> Service:
    """Load histories, catalogue, calibration and event store, and search once.

    Raises WhereuponError for what is missing or does not belong together.
    """
    recommender = await asyncio.to_thread(Recommender.load, config, keeps_events=True)
    engine = VllmEngine(client, recommender.card["temperature"])
    service = Service(config, recommender, engine, ConcurrencyLimit(config.serve.max_searches), Limits.of(client))
    metrics.ITEMS.set(recommender.catalogues.current.items.height)
    await _warm_up(service)
    return service


async def _warm_up(service: Service) -> None:
    """What the model does for the first time takes seconds (kernels are compiled); no user should wait for it."""
    version = service.recommender.catalogues.current
    tokens_L = np.concatenate([version.encoder.preamble, version.trie.row_tokens(0)])
    everything = Selection(np.ones(version.trie.num_items, bool), "")
    question = Question(version, Prompt.of_tokens(tokens_L.tolist()), everything)
    await service.search("warm-up", question, exact_plan(10), 100)
