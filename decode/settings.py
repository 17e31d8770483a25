"""Settings of the base model and of the search."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ..files import NameOrFolder, path_as_text

CalibrationName = Literal["none", "temperature", "popularity", "own counts", "context"]
CALIBRATIONS: tuple[CalibrationName, ...] = get_args(CalibrationName)


class ModelSettings(BaseModel):
    """Which causal language model, and how it is held."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Annotated[str, NameOrFolder(frozenset({"smollm2-135m"}), others=True), BeforeValidator(path_as_text)] = Field(
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


# Hours so wide that all are alike, and all days of one kind.
WITHOUT_CLOCK: Final = {"hour_sigma": 1e9, "other_kind_of_day": 1.0}


class ContextSettings(BaseModel):
    """How a person's own events and everybody's moves become masses beside popularity, whose masses add up to 1.

    The weights of own events are those of the baseline "context-weighted own events" and default to its own. The other
    defaults are by the log-likelihood of the prior alone on validation events of nyc-checkins: half or twice of any one
    of own smoothing, moves and moves smoothing gains less than 0.01 nats over them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    own_smoothing: float = Field(
        2.5, gt=0, description="Total weight of own events that is worth as much as what is popular among all."
    )
    age_days: float = Field(30.0, gt=0, description="Days in which the weight of an own event falls by e.")
    hour_sigma: float = Field(
        1.5, gt=0, description="Hours of the standard deviation of a Gaussian over the distance of times of day."
    )
    hour_floor: float = Field(0.03, ge=0, description="What is left of the weight at another time of day.")
    other_kind_of_day: float = Field(
        0.5, ge=0, description="Factor for a working day's event at a weekend, and the reverse."
    )
    same_previous: float = Field(
        7.0, ge=0, description="Factor for an event that followed upon the item where the person is now."
    )
    moves: float = Field(
        0.2, ge=0, description="What all users' moves out of the last item are worth in all, where they are many."
    )
    moves_smoothing: float = Field(5.0, ge=0, description="How many moves are worth half of that.")

    def without_clock(self) -> ContextSettings:
        """The same, asking neither for the time of day nor for the kind of day; the age of events stays."""
        return self.model_copy(update=WITHOUT_CLOCK)


class PriorSettings(BaseModel):
    """How counts become a prior.

    Defaults by the log-likelihood of the prior alone on validation events of nyc-checkins: 10 is the best own smoothing
    of 5, 8, 10, 15 and 20; a popularity smoothing of 30 or 100 gains less than 0.02 nats over 10.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    popularity_smoothing: float = Field(
        10.0, gt=0, description="Added to every item's count in training: how often a never seen item counts."
    )
    own_smoothing: float = Field(
        10.0, gt=0, description="How many of a person's own events weigh as much as what is popular among all."
    )
    context: ContextSettings = Field(
        default_factory=ContextSettings, description="How own events count by their context, for the one of that name."
    )


class DecodeSettings(BaseModel):
    """How the top-k search over the catalogue runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(10, ge=1, description="How many items to rank.")
    max_expansions: int | None = Field(
        None, ge=1, description="Budget of expanded trie nodes; None searches until the top-k is proven exact."
    )
    calibration: CalibrationName = Field(
        "none",
        description="What `whereupon calibrate` fitted: a temperature alone, or with a prior of what is popular, of "
        "that and the person's own past, or of both with the past weighted by its context.",
    )
    prior: PriorSettings = Field(default_factory=PriorSettings, description="How counts become the prior.")
