"""The explanation of an answer: parts, shares and alternatives of each item, and one sentence about them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

_WORDS = {
    "time": "the time",
    "place": "the place",
    "weather": "the weather",
    "recent events": "what was chosen last",
    "older events": "what was chosen before that",
    "profile": "what was chosen long before",
}
_ORDINALS = {1: "first", 2: "second", 3: "third"}
SMALL = 0.05
"""Nats. A share below it is nothing to speak of."""


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Said):
    """What the model, or a ranker of the stack, adds to the log-odds of an item against another one."""

    name: str = Field(description="model, a ranker, gate or normaliser.")
    log_odds: float = Field(description="In nats; the parts add up to the whole.")


class Alternative(_Said):
    """How the item would stand in another prompt."""

    rank: int | None = Field(description="null: not among as many items as were requested, or the search was stopped.")
    probability: float


class Share(_Said):
    """What a group of the prompt adds to the log-probability of an item."""

    group: str = Field(description="time, place, weather, recent events, older events or profile.")
    log_prob: float | None = Field(
        description="Its Shapley value in nats, over all ways to leave groups out; null where the time was up."
    )
    without: Alternative = Field(description="How the item would stand without this group alone.")


class PastShare(_Said):
    """What one past event adds: the log-probability with it less that without it."""

    item_id: str
    title: str
    time: str = Field(description="Local time of the event.")
    log_prob: float = Field(description="In nats.")


class Why(_Said):
    """Why an item stands where it stands."""

    item_id: str
    title: str
    rank: int
    probability: float
    against: str | None = Field(description="The item id that the log-odds are against: the first of the other items.")
    log_odds: float | None = Field(description="log p(item) - log p(against), in nats.")
    parts: list[Part] = Field(description="Of the log-odds; they add up to it.")
    groups: list[Share] = Field(description="With `nothing_log_prob`, they add up to the item's log-probability.")
    nothing_log_prob: float | None = Field(description="The log-probability where the prompt has none of the groups.")
    hour_later: Alternative | None = Field(description="Rank and probability if the request were an hour later.")
    events: list[PastShare] = Field(description="The past events that matter most, the most important first.")
    sentence: str = Field(description="The most of it in plain words.")


class Explanation(_Said):
    """Of all items of an answer."""

    items: list[Why]
    left_out: list[str] = Field(description="What was not done within the time budget; empty: all was done.")


def sentence_of(why: Why) -> str:
    """One plain sentence of what is known."""
    clauses = [f"{why.title} is {_place(why.rank)} with {_percent(why.probability)}"]
    shares = [(share.log_prob, share) for share in why.groups if share.log_prob is not None]
    if shares:
        clauses.append(_of_group(*max(shares, key=lambda pair: abs(pair[0]))))
    elif why.parts:
        part = max(why.parts, key=lambda one: abs(one.log_odds))
        who = "the language model" if part.name == "model" else f"the ranker {part.name!r}"
        clauses.append(f"{who} counts most ({part.log_odds:+.1f})")
    if why.hour_later is not None:
        clauses.append(f"an hour later {_would(why.hour_later)}")
    if why.events and abs(why.events[0].log_prob) >= SMALL:
        event = why.events[0]
        clauses.append(
            f"of the past events, {event.title} ({event.time[:16].replace('T', ' ')}) counts most "
            f"({event.log_prob:+.1f})"
        )
    return "; ".join(clauses) + "."


def _of_group(value: float, share: Share) -> str:
    if abs(value) < SMALL:
        return "nothing in the prompt alone decides it"
    side = "for" if value > 0 else "against"
    return f"{_WORDS[share.group]} speaks {side} it most ({value:+.1f}), without it {_would(share.without)}"


def _would(other: Alternative) -> str:
    where = f"{_place(other.rank)}" if other.rank is not None else "no longer listed"
    return f"it would be {where} with {_percent(other.probability)}"


def _place(rank: int) -> str:
    return _ORDINALS.get(rank, f"number {rank}")


def _percent(probability: float) -> str:
    if probability >= 0.1:
        return f"{probability:.0%}"
    return f"{probability:.1%}" if probability >= 1e-3 else "less than 0.1%"
