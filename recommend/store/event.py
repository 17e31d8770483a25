"""One thing that happened: who chose what, when, and in which context."""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    field_validator,
    model_validator,
)

MAX_LABEL_CHARS = 200
MAX_TEXT_CHARS = 500
MAX_CONTEXT_COLUMNS = 32
MAX_EXACT_INTEGER = 2**53  # beyond it a float, as which numbers are kept, skips some
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
FUTURE = timedelta(days=1)  # a clock may be wrong, or a shop a time zone ahead
# Control characters, halves of surrogate pairs, line and paragraph separators: none can stand in one line of text.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")


def _printable(value: Any) -> Any:
    if isinstance(value, str) and any(unicodedata.category(letter) in _UNPRINTABLE for letter in value):
        raise ValueError("should hold no control characters such as newlines; take them out")
    return value


def _context_value(value: Any) -> str | float | bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if len(value) > MAX_TEXT_CHARS:
            raise ValueError(f"should have at most {MAX_TEXT_CHARS} characters, not {len(value)}; shorten it")
        return str(_printable(value)).strip()
    if isinstance(value, int) and abs(value) > MAX_EXACT_INTEGER:
        raise ValueError(f"should be at most {MAX_EXACT_INTEGER} to be kept exactly; write it as text")
    if isinstance(value, int | float) and math.isfinite(value):
        return _one_zero(value)
    raise ValueError("should be text, a finite number, true, false or null")


def _one_zero(value: float) -> float:
    """-0.0 becomes 0.0: SQLite makes no difference, and equal content must stay equal."""
    return value + 0.0


Label = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_LABEL_CHARS),
    BeforeValidator(_printable),
    Field(json_schema_extra={"pattern": r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"}),  # of _UNPRINTABLE
]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False), AfterValidator(_one_zero)]
ContextValue = Annotated[
    str | float | bool | None,
    PlainValidator(_context_value, json_schema_input_type=str | float | bool | None),
]


_PLACE = ("latitude", "longitude")


class Placed(BaseModel):
    """A place, or none: both coordinates or neither."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [*_PLACE], "properties": {name: {"type": "number"} for name in _PLACE}},
                {"properties": {name: {"type": "null"} for name in _PLACE}},
            ]
        }
    )

    latitude: Annotated[Number, Field(ge=-90, le=90)] | None = Field(None, description="Degrees, WGS 84.")
    longitude: Annotated[Number, Field(ge=-180, le=180)] | None = Field(None, description="Degrees, WGS 84.")

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError("should have both latitude and longitude or neither")
        return self


class PastEvent(Placed):
    """A click, a purchase, a check-in of the user in the request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    item_id: Label = Field(description="What was chosen.")
    time: AwareDatetime = Field(
        description="When, in ISO 8601 with its offset (2026-03-01T18:30:00+01:00); kept in UTC, to the microsecond."
    )
    utc_offset_minutes: Annotated[int, Field(strict=True, ge=-14 * 60, le=14 * 60)] | None = Field(
        None, description="Offset of the user's clock to UTC; by default that of `time`, unless it is zero or Z."
    )
    event: Label | None = Field(None, description="What kind: click, purchase, check-in...")
    value: Number | None = Field(None, description="How much: a price, a rating, seconds...")
    context: dict[Label, ContextValue] = Field(
        default_factory=dict,
        max_length=MAX_CONTEXT_COLUMNS,
        description="Further columns, such as weather, by the names that the training data has for them.",
    )

    @model_validator(mode="before")
    @classmethod
    def _offset_of_time(cls, data: Any) -> Any:
        """An offset of zero says nothing of the user: programs write UTC wherever their users are."""
        if isinstance(data, dict) and data.get("utc_offset_minutes") is None:
            time = _parsed(data.get("time"))
            offset = time.utcoffset() if time else None
            if offset:
                return {**data, "utc_offset_minutes": round(offset.total_seconds() / 60)}
        return data

    @field_validator("time", mode="before")
    @classmethod
    def _time_in_utc(cls, value: Any) -> datetime:
        time = _parsed(value)
        if time is None:
            raise ValueError("should be a time in ISO 8601 such as 2026-03-01T18:30:00+01:00")
        if time.tzinfo is None:
            raise ValueError("should say its offset to UTC, as in 2026-03-01T18:30:00+01:00 or 2026-03-01T17:30:00Z")
        try:
            utc = time.astimezone(UTC)
        except OverflowError:
            utc = datetime.min.replace(tzinfo=UTC)
        if not EARLIEST <= utc <= datetime.now(UTC) + FUTURE:
            raise ValueError(f"should lie between {EARLIEST.year} and a day from now; check the clock that set it")
        return utc

    @field_validator("context")
    @classmethod
    def _columns_of_their_own(cls, context: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(context.keys() & cls.model_fields.keys())
        if taken:
            raise ValueError(f"should not repeat the event's own field {taken[0]}; put it beside context")
        return dict(sorted(context.items()))


class Event(PastEvent):
    """What happened, to be kept: the next recommendation for this user knows of it."""

    event_id: Label = Field(description="Names this event for good: sent again, it counts once.")
    user_id: Label = Field(description="Who chose.")


def _parsed(value: Any) -> datetime | None:
    """A time with or without an offset, from ISO 8601; None for what is none."""
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
