"""A run: histories, base model, adapter, stack, catalogue, stored events, port. Reads; changes and loads nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ...catalogue import snapshot_manifest
from ...decode.adapter_card import check_card, read_card
from ...decode.adapters import current_adapter
from ...decode.base_models import resolve_base_model
from ...decode.identity import base_identity
from ...errors import WhereuponError
from ...histories import read_histories
from ...prompts import identity_of, load_templates
from ...rankers.blend import read_blend
from ...recommend.saved_catalogue import catalogue_folder
from ...recommend.store import open_store
from ..launcher.launch import free_address
from ..settings import ServeConfig
from .finding import Finding
from .machine import GIB

Look = Callable[[ServeConfig], str]


def looked_at(name: str, look: Look, config: ServeConfig) -> Finding:
    """What a look finds; an error that a user can fix is what is wrong, and says what to do itself."""
    try:
        return Finding(name, "well", look(config))
    except WhereuponError as error:
        return Finding(name, "wrong", str(error))
    except OSError as error:
        return Finding(name, "wrong", f"{error.strerror}: {error.filename}", "check who may read and write there")


def histories(config: ServeConfig) -> str:
    """Users, events and items."""
    found = read_histories(config.run)
    return f"{len(found.user_ids):,} users, {found.events.height:,} events, {found.items.height:,} items"


def base_model(config: ServeConfig) -> str:
    """Where the base model lies."""
    return f"{config.model.base}, {weights_gib(config):.2f} GiB, in {_base_folder(config)}"


def weights_gib(config: ServeConfig) -> float:
    """Size of the base model's weights. Raises ModelError where there is none."""
    return sum(file.stat().st_size for file in _base_folder(config).glob("*.safetensors")) / GIB


def adapter(config: ServeConfig) -> str:
    """The adapter in use, which must have been trained for this model and these prompts."""
    known, folder = read_histories(config.run), current_adapter(config.run)
    card, templates = read_card(folder), load_templates(config.prompts.template)
    identity = identity_of(config.prompts, templates, known.catalogue_hash)
    check_card(card, folder, {**base_identity(config.model), "title_recipe": known.title_recipe, **identity})
    figures = ", ".join(f"{name} {value:.4f}" for name, value in card.get("validation", {}).items())
    return f"version {folder.name}{f', validation {figures}' if figures else ''}"


def stack(config: ServeConfig) -> str:
    """The rankers that answers use, which must be those that the adapter was pooled with."""
    folder = current_adapter(config.run)
    blend = read_blend(config, read_histories(config.run), read_card(folder), folder)
    if blend.stack is None:
        return "none (priors: none)"
    return ", ".join(dict.fromkeys([*blend.stack.recipe.again, *blend.stack.recipe.new]))


def catalogue(config: ServeConfig) -> str:
    """The version that answers come from."""
    folder = catalogue_folder(config.run)
    if not (folder / "CURRENT").is_file():
        return f"{read_histories(config.run).items.height:,} items, as prepared"
    manifest = snapshot_manifest(folder)
    return f"{manifest['num_items']:,} items, version {manifest['version']}"


def store(config: ServeConfig) -> str:
    """Stored events; a file that is not there yet is not made."""
    address = config.events_address
    if isinstance(address, Path) and not address.is_file():
        return f"no events yet; {address} is made when the first one comes"
    with closing(open_store(address)) as opened:
        where = address if isinstance(address, Path) else "the database"
        return f"{opened.count():,} events in {where}"


def port(config: ServeConfig) -> str:
    """Whether a server could listen now."""
    address = free_address(config.serve)
    return f"{address.host}:{address.port} is free"


LOOKS: dict[str, Look] = {
    "histories": histories, "base model": base_model, "adapter": adapter, "rankers": stack, "catalogue": catalogue,
    "events": store, "port": port,
}  # fmt: skip


def _base_folder(config: ServeConfig) -> Path:
    return resolve_base_model(config.model.base, config.model.revision)


def as_json(findings: list[Finding]) -> str:
    """All of them for a program."""
    return json.dumps([vars(finding) for finding in findings], ensure_ascii=False, indent=2)
