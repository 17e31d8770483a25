"""Settings of `evaluate`: which events are predicted and whom the model has to beat."""

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["BaselineName", "EvaluateSettings", "EvaluatedSplit"]

EvaluatedSplit = Literal["valid", "test"]
BaselineName = Literal["popularity", "own counts", "own counts + transitions", "context-weighted own events"]


class EvaluateSettings(BaseModel):
    """What is evaluated, and against what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: EvaluatedSplit = Field("test", description="Events to predict; choose settings on valid, report on test.")
    limit: int | None = Field(
        None,
        ge=1,
        description="Predict only a random sample of this many events, the same for every ranker; None: all.",
    )
    baselines: list[BaselineName] = Field(
        default=list(get_args(BaselineName)), description="Rankers by counting that the model is compared with."
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
