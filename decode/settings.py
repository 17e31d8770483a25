"""Settings of the base model and of the search."""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from ..files import NameOrFolder
from .prior import PriorSettings

__all__ = ["CALIBRATIONS", "CalibrationName", "DecodeSettings", "ModelSettings"]

CalibrationName = Literal["none", "temperature", "popularity", "own counts", "context"]
CALIBRATIONS: tuple[CalibrationName, ...] = get_args(CalibrationName)


class ModelSettings(BaseModel):
    """Which causal language model, and how it is held."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Annotated[str, NameOrFolder(frozenset({"smollm2-135m"}), others=True)] = Field(
        "smollm2-135m",
        description="Base model: smollm2-135m (see `whereupon model fetch`), a local directory, or a hub id.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model; by default its main branch.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Number format of the weights; auto: bfloat16 on a GPU that multiplies it natively, else float32.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the model runs; auto takes an NVIDIA or AMD GPU if there is one, never Apple's."
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
