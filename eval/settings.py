"""Settings of `evaluate`: which events are predicted and which rankers the model has to beat."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..histories.candidates import EvaluatedSplit, Repeats
from ..rankers.settings import QUICK, BaselineName


class EvaluateSettings(BaseModel):
    """What is evaluated, and against what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: EvaluatedSplit = Field("test", description="Events to predict; choose settings on valid, report on test.")
    limit: int | None = Field(
        None,
        ge=1,
        description="Predict only a random sample of this many events, the same for every ranker. It consists of runs "
        "of consecutive events of one user. None: all events.",
    )
    repeats: Repeats = Field(
        "allowed",
        description="Whether an item that the user has chosen before may be ranked again; excluded: events that repeat "
        "one are not evaluated.",
    )
    baselines: list[BaselineName] = Field(
        default=list(QUICK),
        description="Rankers that the model is compared with, each tuned on the validation split; by default the quick "
        "ones. A baseline that needs other data is left out, and a message says so.",
    )
    # At least 10: recall@10 and nDCG@10 need that many items of each ranking.
    k: int = Field(10, ge=10, description="How many items to rank for each event.")

    @field_validator("baselines")
    @classmethod
    def _each_once(cls, names: list[BaselineName]) -> list[BaselineName]:
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"{repeated[0]!r} is listed more than once; name each baseline once")
        return names
