"""Everything a server needs beside the model, loaded and tried once before the first request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from ..catalogue import Selection
from ..decode.adapter_card import check_card, read_card
from ..decode.adapters import current_adapter
from ..decode.models import build_encoder, load_tokenizer
from ..decode.vllm_engine import Client, Limits, VllmEngine
from ..eval.context_prior import Past
from ..histories import read_histories
from . import metrics
from .edition import Editions
from .event_store import open_store
from .service import Room, Service, exact_plan
from .settings import server_name

if TYPE_CHECKING:
    from ..config import Config


async def load_service(config: Config, client: Client) -> Service:
    """Load histories, catalogue, calibration and event store, and search once.

    Raises WhereuponError for what is missing or does not belong together.
    """
    service = await asyncio.to_thread(_load, config, client)
    metrics.ITEMS.set(service.editions.current.items.height)
    await _warm_up(service)
    return service


def _load(config: Config, client: Client) -> Service:
    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.location, config.prompts, tokenizer)
    adapter = current_adapter(config.run)
    card = read_card(adapter)
    check_card(card, adapter, {"base_model": config.model.base, **encoder.identity})
    editions = Editions(config, histories, tokenizer, encoder, card)
    store = open_store(config.serve.events or config.run / "events.sqlite")
    engine = VllmEngine(client, card["temperature"])
    room = Room(config.serve.max_searches)
    name, limits = server_name(config), Limits.of(client)
    return Service(config, name, histories, editions, engine, store, room, tokenizer, limits)


async def _warm_up(service: Service) -> None:
    """What the model does for the first time takes seconds (kernels are compiled); no user should wait for it."""
    edition = service.editions.current
    prompt_L = np.concatenate([edition.encoder.preamble, edition.trie.row_tokens(0)])
    everything = Selection(np.ones(edition.trie.num_items, bool), "")
    await service.search("warm-up", prompt_L, edition, everything, Past.nobody(), exact_plan(10), 100)
