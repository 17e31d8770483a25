"""Event store of a run with `histories.privacy`: users get pseudonyms, places and times become coarse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..histories.privacy import Privacy
from .store import EventStore
from .store.event import Event
from .store.event_store import Appended


def known_as(privacy: Privacy | None, user_id: str) -> str:
    """How histories and stored events call a user."""
    return privacy.user(user_id) if privacy else user_id


@dataclass(frozen=True)
class PrivateStore:
    """The event store as users of the server see it: their ids go in, and what is to be hidden is never stored."""

    store: EventStore
    privacy: Privacy | None

    def append(self, events: Sequence[Event]) -> Appended:
        """See `EventStore.append`."""
        return self.store.append([stored_as(self.privacy, event) for event in events])

    def of_user(self, user_id: str, limit: int) -> list[Event]:
        """See `EventStore.of_user`; the events are as they are stored."""
        return self.store.of_user(known_as(self.privacy, user_id), limit)


def stored_as(privacy: Privacy | None, event: Event) -> Event:
    """The event as it is stored."""
    if privacy is None:
        return event
    changes = {"user_id": privacy.user(event.user_id), "time": privacy.time(event.time)}
    if event.latitude is not None and event.longitude is not None:
        north, east = privacy.place(latitude=event.latitude, longitude=event.longitude)
        changes |= {"latitude": north, "longitude": east}
    return event.model_copy(update=changes)
