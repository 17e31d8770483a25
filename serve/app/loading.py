"""Everything a server needs beside the model, loaded and tried once before the first request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from ...catalogue import Selection
from ...decode.adapter_card import check_card, read_card
from ...decode.models import build_encoder, load_tokenizer
from ...decode.vllm_engine import Client, Limits, VllmEngine
from ...histories import read_histories
from ...rankers.context_prior import Past
from ...recommend.store.event_store import open_store
from ...recommend.versions import Catalogues
from . import metrics
from .service import Room, Service, exact_plan

if TYPE_CHECKING:
    from ..settings import ServeConfig


async def load_service(config: ServeConfig, client: Client) -> Service:
    """Load histories, catalogue, calibration and event store, and search once.

    Raises WhereuponError for what is missing or does not belong together.
    """
    service = await asyncio.to_thread(_load, config, client)
    metrics.ITEMS.set(service.catalogues.current.items.height)
    await _warm_up(service)
    return service


def _load(config: ServeConfig, client: Client) -> Service:
    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.location, config.prompts, tokenizer)
    card = read_card(config.run / "adapter")
    check_card(card, config.run / "adapter", {"base_model": config.model.base, **encoder.identity})
    catalogues = Catalogues(config, histories, tokenizer, encoder, card)
    store = open_store(config.serve.events or config.run / "events.sqlite")
    engine = VllmEngine(client, card["temperature"])
    room = Room(config.serve.max_searches)
    name, limits = config.name, Limits.of(client)
    return Service(config, name, histories, catalogues, engine, store, room, tokenizer, limits)


async def _warm_up(service: Service) -> None:
    """What the model does for the first time takes seconds (kernels are compiled); no user should wait for it."""
    version = service.catalogues.current
    prompt_L = np.concatenate([version.encoder.preamble, version.trie.row_tokens(0)])
    everything = Selection(np.ones(version.trie.num_items, bool), "")
    await service.search("warm-up", prompt_L, version, everything, Past.nobody(), exact_plan(10), 100)
