"""A person who is forgotten: neither recommended to, nor listed, nor answered with what was prepared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from whereupon.config import Config
from whereupon.errors import UnknownUserError
from whereupon.recommend import Recommender, Request, RequestContext
from whereupon.recommend.forgotten import Forgotten
from whereupon.recommend.store.event import PastEvent

AT = "2024-01-20T12:00:00"


@pytest.fixture
def recommender(town_copy: Callable[..., Config]) -> Iterator[Recommender]:
    with Recommender.load(town_copy()) as recommender:
        yield recommender


def test_forgotten_person_is_unknown_and_others_are_not(recommender: Recommender) -> None:
    recommender.forgotten.add("p00")
    with pytest.raises(UnknownUserError, match="no user 'p00'"):
        recommender.question(Request("p00", None, RequestContext(AT)))
    assert recommender.question(Request("p01", None, RequestContext(AT))).prompt.num_events > 0
    assert recommender.user_ids == ["p01", "p02", "p03"]


def test_person_who_comes_back_is_known_by_later_events_alone(recommender: Recommender) -> None:
    recommender.forgotten.add("p00")
    later = [PastEvent(item_id="bar1", time=datetime(2024, 1, 19, 20, tzinfo=UTC))]
    question = recommender.question(Request("p00", later, RequestContext(AT)))
    stranger = recommender.question(Request(None, later, RequestContext(AT)))
    assert question.prompt.num_events == 1
    assert question.prompt.tokens_L.tolist() == stranger.prompt.tokens_L.tolist()


def test_what_one_process_forgets_another_one_has_forgotten(
    recommender: Recommender, town_copy: Callable[..., Config]
) -> None:
    Forgotten.of_run(town_copy().run).add("p02")
    assert "p02" in recommender.forgotten
    assert recommender.user_ids == ["p00", "p01", "p03"]


def test_folder_of_the_forgotten_names_no_user(tmp_path: Path) -> None:
    forgotten = Forgotten.of_run(tmp_path)
    assert forgotten.without(["ann", "bob"]) == ["ann", "bob"]
    for user_id in ("ann", "ann", "../bob/\x00"):
        forgotten.add(user_id)
    assert forgotten.without(["ann", "bob", "../bob/\x00"]) == ["bob"]
    files = [file.name for file in forgotten.folder.iterdir()]
    assert len(files) == 2
    assert not [name for name in files if "ann" in name or "bob" in name]


def test_prompts_say_nothing_that_rests_on_who_is_forgotten(town_copy: Callable[..., Config]) -> None:
    """Two of the town go from one place to the next; without one of them that is no longer said of anybody."""
    settings = ("prompts.similar_tokens=60", "prompts.similar_every=1", "prompts.similar_hours=1000")
    with Recommender.load(town_copy(*settings), only_prompts=True) as recommender:
        before = recommender.question(Request("p03", None, RequestContext(AT))).prompt
        assert before.num_similar_tokens > 0
        for user in ("p00", "p01"):
            recommender.forgotten.add(user)
        after = recommender.question(Request("p03", None, RequestContext(AT))).prompt
        assert after.num_similar_tokens == 0  # p02 alone is one other
        assert after.tokens_L[-20:].tolist() == before.tokens_L[-20:].tolist()
