"""Names of the rankers, and the part of a configuration that every answer depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from ..catalogue.settings import CatalogueSettings
from ..decode.settings import DecodeSettings, ModelSettings
from ..histories.settings import HistoriesSettings
from ..prompts.settings import PromptSettings

BaselineName = Literal[
    "popularity", "recent popularity", "popularity by hour of week", "own counts", "own counts + transitions",
    "context-weighted own events", "own counts by hour of week", "transitions", "factorised transitions (FPMC)",
    "nearest", "spatial KNN", "geographically weighted regression", "learnt own events", "learnt new items",
    "boosted own events", "boosted two-stage", "ItemKNN", "EASE", "ALS",
    "demand forecast", "GRU4Rec", "GRU4Rec + time", "LSTM", "LSTM + time", "SASRec", "SASRec + time", "LightGCN",
    "LightGCN + time", "ST-CNN",
]  # fmt: skip
QUICK: Final[tuple[BaselineName, ...]] = get_args(BaselineName)[:8]
"""What takes a minute or two together, tuning included, on the data of the examples."""


class RunConfig(BaseModel):
    """What an answer depends on; `config.Config` has all of it and more. Paths are absolute once loaded."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run: Path = Field(description="Run folder: each stage reads its input from here and writes its output to it.")
    seed: int = Field(7, ge=0, description="Seed of everything random.")
    histories: HistoriesSettings
    model: ModelSettings = Field(default_factory=ModelSettings)
    catalogue: CatalogueSettings = Field(default_factory=CatalogueSettings)
    prompts: PromptSettings = Field(default_factory=PromptSettings)
    decode: DecodeSettings = Field(default_factory=DecodeSettings)
    priors: Literal["auto", "none"] | list[BaselineName] = Field(
        "none",
        description="Classic rankers that are blended with the model; the model is trained on top of them. auto "
        "chooses them on the validation split; a list names them.",
    )
