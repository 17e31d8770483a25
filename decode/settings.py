"""Settings of the base model and of the search."""

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from .prior import PriorSettings

__all__ = ["CALIBRATIONS", "CalibrationName", "DecodeSettings", "ModelSettings"]

CalibrationName = Literal["none", "temperature", "popularity", "own counts", "context"]
CALIBRATIONS: tuple[CalibrationName, ...] = get_args(CalibrationName)


class ModelSettings(BaseModel):
    """Which causal language model, and how it is held."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str = Field(
        "smollm2-135m",
        description="Base model: smollm2-135m (see `whereupon model fetch`), a local directory, or a hub id.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "float32",
        description="Number format of the weights; float32 is the fast one on a CPU without native bfloat16.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the model runs; auto takes a GPU if there is one."
    )


class DecodeSettings(BaseModel):
    """How the top-k search over the catalogue runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(10, ge=1, description="How many items to rank.")
    max_expansions: int | None = Field(
        None,
        ge=1,
        description="Budget of expanded trie nodes; None searches until the top-k is proven exact.",
    )
    calibration: CalibrationName = Field(
        "none",
        description="What `whereupon calibrate` fitted: a temperature alone, or with a prior of what is popular, of "
        "that and the person's own past, or of both with the past weighted by its context.",
    )
    prior: PriorSettings = Field(default_factory=PriorSettings, description="How counts become the prior.")
