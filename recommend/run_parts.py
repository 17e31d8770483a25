"""What a `Recommender` reads of a run folder for one version of the adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import read_object
from ..histories import Histories, read_histories
from ..histories.store import histories_folder
from ..prompts import PromptEncoder
from ..rankers.blend import Blend, read_blend
from ..rankers.pooling import Pools
from .versions import Catalogues

if TYPE_CHECKING:
    from ..decode.tokenizer import Tokenizer
    from .settings import RecommendConfig


@dataclass(frozen=True, eq=False)
class RunParts:
    """Histories, tokenizer and encoder, and what goes with the adapter in folder `adapter` (None: no adapter, for
    prompts alone): its card, and the catalogue reweighted by its stack."""

    histories: Histories
    tokenizer: Tokenizer
    encoder: PromptEncoder
    catalogues: Catalogues
    card: dict[str, Any]
    adapter: Path | None


def read_parts(config: RecommendConfig, adapter: Path | None, before: RunParts | None = None) -> RunParts:
    """Read a run folder; of `before`, read earlier from the same run, what has not changed since is used again.

    Raises WhereuponError for what is missing or does not belong together.
    """
    from ..decode.adapter_card import check_card, read_card
    from ..decode.models import adapter_identity, build_encoder, load_tokenizer

    tokenizer = before.tokenizer if before else load_tokenizer(config.model)
    if before and read_object(histories_folder(config.run) / "manifest.json") == before.histories.manifest:
        histories, encoder = before.histories, before.encoder
    else:
        histories = read_histories(config.run)
        encoder = build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)
    card, blend = dict[str, Any](), Blend(Pools())
    if adapter is not None:
        card = read_card(adapter)
        check_card(card, adapter, adapter_identity(config.model, encoder, tokenizer, histories.title_recipe))
        blend = read_blend(config, histories, card, adapter)
    catalogues = Catalogues(config, histories, tokenizer, encoder, blend)
    return RunParts(histories, tokenizer, encoder, catalogues, card, adapter)
