"""Settings of what is known beyond the prepared histories, and the part of a configuration that a Recommender needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..rankers.settings import RunConfig


class StoreSettings(BaseModel):
    """Where events are kept that happen after `prepare`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    events: Path | str | None = Field(
        None,
        description="Where events are kept: a SQLite file or a postgresql:// URL; by default <run>/events.sqlite.",
    )
    max_events: int = Field(1000, ge=1, description="Most events in one request, and most stored ones of one user.")

    @field_validator("events", mode="before")
    @classmethod
    def _file_or_url(cls, events: Any) -> Any:
        """A file is a `Path`, so that it is found from the configuration's folder as all others are; a URL is none."""
        return Path(events) if isinstance(events, str) and "://" not in events else events


class RecommendSettings(BaseModel):
    """Defaults of requests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weather: Literal["last event", "forecast"] = Field(
        "last event",
        description="The weather of a question that does not give it. last event: that of the user's last event, if it "
        "is less than a day old. forecast: an hour or more after that event, a forecast from the weather of events. "
        "This needs the extra forecast.",
    )


class RecommendConfig(RunConfig):
    """What a Recommender needs to know."""

    recommend: RecommendSettings = Field(default_factory=RecommendSettings)
    serve: StoreSettings = Field(default_factory=StoreSettings)

    @property
    def events_address(self) -> Path | str:
        """The SQLite file or the URL of stored events."""
        return self.serve.events or self.run / "events.sqlite"
