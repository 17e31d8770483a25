"""Settings of the prompts: which templates, and how many tokens they may fill."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from ..files import NameOrFolder, path_as_text
from .kinds import CONTEXT_KINDS, ContextKind

SHIPPED = Path(__file__).parent / "templates"
SHIPPED_SETS = frozenset(folder.name for folder in SHIPPED.iterdir() if folder.is_dir())


class PromptSettings(BaseModel):
    """How a history becomes text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    template: Annotated[str, NameOrFolder(SHIPPED_SETS), BeforeValidator(path_as_text)] = Field(
        "plain", description="Name of a shipped template set, or a folder with *.j2 files."
    )
    budget_tokens: int = Field(1024, gt=0, description="A prompt and its answer never exceed this many tokens.")
    profile_tokens: int = Field(256, ge=0, description="Part of the budget kept for the profile; 0 for no profile.")
    similar_tokens: int = Field(
        0,
        ge=0,
        description="Part of the budget kept for what other users chose next, after items that this user chose "
        "recently; 0 for none. Set it before training.",
    )
    similar_every: int = Field(
        16,
        ge=1,
        description="With similar_tokens: what others chose is looked up again after so many new events. A smaller "
        "number gives fresher lines. It costs more prompts in training and more prefix cache in serving.",
    )
    similar_hours: float = Field(
        24.0,
        gt=0,
        description="With similar_tokens: an event counts as the next one if it follows within so many hours.",
    )
    keep_fraction: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="When a window is full, the next one starts with this share of it as recent events.",
    )
    align_tokens: int = Field(
        1,
        ge=1,
        le=1024,
        description="Fill prompts up to a multiple of so many tokens, with empty lines after the preamble. vLLM "
        "computes an incomplete last cache block (32 tokens on a CPU) again for each continuation. "
        "Set it before training.",
    )
    profile_order: Literal["count", "recent"] = Field("count", description="Which places the profile names first.")
    leave_out: tuple[ContextKind, ...] = Field(
        (),
        description="Kinds of context that no prompt shows, in training, evaluation and serving: time, place, weather. "
        "Set it before training; `whereupon ablate` measures what each kind is worth.",
    )
    column_kinds: dict[str, ContextKind] = Field(
        default={},
        description="Which kind a context column of your own is of, such as {district: place}; used by leave_out and "
        "`whereupon ablate` only.",
    )

    place_column: str = Field(
        "",
        description="A column of the items that names where each is, such as neighbourhood: the variable `here` of "
        "templates. Without it, `here` is the geohash of a cell of about 1 km.",
    )
    holiday_country: str = Field(
        "",
        description="Country or region of the holidays in the template variable `public_holiday`: an ISO 3166 code "
        "such as US or DE-BY. Needs the extra whereupon[holidays].",
    )

    @field_validator("leave_out")
    @classmethod
    def _each_once_in_order(cls, kinds: tuple[ContextKind, ...]) -> tuple[ContextKind, ...]:
        if len(set(kinds)) < len(kinds):
            raise ValueError("each kind of context can be left out only once")
        return tuple(kind for kind in CONTEXT_KINDS if kind in kinds)
