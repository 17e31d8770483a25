"""Settings of the base model and of the search."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ..files import NameOrFolder, path_as_text


class ModelSettings(BaseModel):
    """Which causal language model, and how it is held."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Annotated[str, NameOrFolder(frozenset({"smollm2-135m"}), others=True), BeforeValidator(path_as_text)] = Field(
        "smollm2-135m",
        description="Base model: smollm2-135m, which is SmolLM2-135M-Instruct (see `whereupon model fetch`), a local "
        "directory, or a hub id.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model; by default its main branch.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Number format of the weights; auto: bfloat16 on a GPU that multiplies it natively, else float32.",
    )
    quantize: Literal["none", "nf4", "int8"] = Field(
        "none",
        description="Few bits for the frozen weights, by bitsandbytes: nf4 (QLoRA) holds a layer in an eighth of "
        "float32, int8 in a quarter; an adapter belongs to the quantization that it was trained on.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the model runs; auto takes an NVIDIA or AMD GPU if there is one, never Apple's."
    )


class DecodeSettings(BaseModel):
    """How the top-k search over the catalogue runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(10, ge=1, description="How many items to rank.")
    max_expansions: int | None = Field(
        None, ge=1, description="Budget of expanded trie nodes; None searches until the top-k is proven exact."
    )
