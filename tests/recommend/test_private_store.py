"""Requests and events with raw ids find the histories of a run with pseudonyms; what is stored names no user."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from whereupon.config import Config
from whereupon.errors import ConfigError
from whereupon.histories import prepare
from whereupon.histories.privacy import Privacy
from whereupon.histories.pseudonyms import Pseudonyms
from whereupon.histories.settings import PrivacySettings
from whereupon.recommend import Recommender, Request, RequestContext
from whereupon.recommend.private_store import PrivateStore, stored_as
from whereupon.recommend.store import open_store
from whereupon.recommend.store.event import Event
from whereupon.tests.texts import says

AT = "2024-01-20T12:00:00"
KEY = "a key of more than sixteen bytes"
IDS_ONLY = tuple(f"histories.privacy.{name}=null" for name in ("cell_km", "round_minutes", "min_item_users"))


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHEREUPON_PRIVACY_KEY", KEY)


def _event(user: str, number: int = 1, minute: int = 44) -> Event:
    time = datetime(2024, 1, 19, 20, minute, 9, tzinfo=UTC)
    return Event(event_id=f"e{number}", user_id=user, item_id="bar1", time=time, latitude=52.51234, longitude=13.4)


def test_raw_user_is_answered_as_before_and_feedback_finds_its_history(town_copy: Callable[..., Config]) -> None:
    with Recommender.load(town_copy()) as plain:
        expected = plain.recommend("p00", at=AT)
    private = town_copy("histories.privacy={}", *IDS_ONLY)
    prepare(private.histories, private.catalogue, private.run, private.seed)
    with Recommender.load(private, keeps_events=True) as recommender:
        assert recommender.recommend("p00", at=AT).equals(expected)
        assert not {"p00", "p01"} & set(recommender.user_ids)
        num = recommender.question(Request("p00", None, RequestContext(AT))).prompt.num_events
        assert recommender.store is not None
        private = PrivateStore(recommender.store, recommender.privacy)
        private.append([_event("p00")])
        assert recommender.question(Request("p00", None, RequestContext(AT))).prompt.num_events == num + 1
        assert recommender.store.users() == [Pseudonyms(KEY.encode()).of_id("p00")]
        assert set(recommender.recommend_all(k=1, at=AT)["user_id"]) == set(recommender.user_ids)


def test_run_with_pseudonyms_needs_their_key(town_copy: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    private = town_copy("histories.privacy={}", *IDS_ONLY)
    prepare(private.histories, private.catalogue, private.run, private.seed)
    monkeypatch.setenv("WHEREUPON_PRIVACY_KEY", "another key of sixteen bytes")
    with pytest.raises(ConfigError, match=says("another key")):
        Recommender.load(private)


def test_stored_event_names_no_user_no_place_and_no_minute(tmp_path: Path) -> None:
    privacy = Privacy(PrivacySettings(), Pseudonyms(KEY.encode()))
    store = open_store(tmp_path / "events.sqlite")
    private = PrivateStore(store, privacy)
    assert private.append([_event("ann"), _event("ann")]) == (1, 1)  # sending it again is safe
    [event] = private.of_user("ann", 10)
    assert store.of_user("ann", 10) == []
    assert event.user_id == privacy.user("ann")
    assert event.time == datetime(2024, 1, 19, 20, 30, tzinfo=UTC)
    assert (event.latitude, event.longitude) == privacy.place(latitude=52.51234, longitude=13.4)
    assert event.latitude != 52.51234
    store.close()


def test_event_is_stored_as_it_is_where_nothing_is_hidden() -> None:
    assert stored_as(None, _event("ann")) == _event("ann")
