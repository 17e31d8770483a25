"""What others did: as of a time, of several others only, the same in training and in serving."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.errors import PromptError
from whereupon.prompts import HistoryText, PromptEncoder, encode_text
from whereupon.prompts.similar import MIN_USERS, Others, periods

Events = Callable[..., pl.DataFrame]
Templates = Callable[..., str]
MakeEncoder = Callable[..., PromptEncoder]
TITLES = ["Home", "Cafe", "Museum", "Old Library"]
HOME, CAFE, MUSEUM, LIBRARY = range(4)
SIMILAR = (
    "{{ days }}{% if daypart %} {{ daypart }}{% endif %} others after {{ after }}:{% if also %} {{ also }};{% endif %}"
)


@pytest.fixture(name="with_similar")
def _with_similar(templates: Templates) -> Callable[..., str]:
    def with_similar(text: str = SIMILAR) -> str:
        folder = templates()
        (Path(folder) / "similar.j2").write_text(text, encoding="utf-8")
        return folder

    return with_similar


def _visit(user: int, day: str, first: int, then: int) -> list[tuple[int, str, int]]:
    """Two events of a morning."""
    return [(user, f"{day}T08:00", first), (user, f"{day}T09:00", then)]


# In one week users 1 and 2 go from the cafe to the museum, and user 3 to the library, all in the morning.
OTHERS = [
    *_visit(1, "2024-01-02", CAFE, MUSEUM), *_visit(2, "2024-01-03", CAFE, MUSEUM),
    *_visit(3, "2024-01-03", CAFE, LIBRARY),
]  # fmt: skip


def _walked(walks: list[list[tuple[int, int]]]) -> list[tuple[int, str, int]]:
    """Events of users who each choose an item so many hours after the one before."""
    rows = []
    for user, walk in enumerate(walks):
        time = datetime(2024, 1, 1)
        for item, hours in walk:
            time += timedelta(hours=hours)
            rows.append((user, time.isoformat(), item))
    return rows


def _period(moment: datetime) -> int:
    return int(periods(pl.DataFrame({"local_time": [moment]}))[0])


def _similar(encoder: PromptEncoder, events: pl.DataFrame, row: int) -> str:
    """The lines of what others did in the prompt that asks for an event's title."""
    text = encoder.text(events, int(events["user_idx"].max()) + 1)  # type: ignore[arg-type]
    windows = text.windows.select((text.windows.target_W <= row) & (row < text.windows.end_W))
    return cast(Any, encoder.encode).text(text.similar(windows)[0].tolist())  # type: ignore[no-any-return]


def _prompt(text: HistoryText, row: int) -> list[int]:
    windows = text.windows.select((text.windows.target_W <= row) & (row < text.windows.end_W))
    [window] = text.encode_windows(windows)
    return window.tokens_L[: window.title_start_V[row - windows.start_W[0]]].tolist()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("2024-01-04T09:00", "weekdays morning others after Cafe: Museum\n"),
        ("2024-01-04T20:00", "any day others after Cafe: Museum\n"),  # none did anything after it in an evening
        ("2024-01-06T09:00", "any day others after Cafe: Museum\n"),  # nor on a weekend
        ("2024-01-03T08:30", ""),  # before the second one has done it
        ("2024-01-03T09:00", ""),  # and at that very time
        ("2024-01-03T09:01", "weekdays morning others after Cafe: Museum\n"),
    ],
)
def test_line_names_what_two_others_did_by_then_at_that_time_of_week(
    events: Events, with_similar: Callable[..., str], make_encoder: MakeEncoder, asked: str, says: str
) -> None:
    encoder = make_encoder(TITLES, template=with_similar(), similar_tokens=40, similar_every=1)
    before = (datetime.fromisoformat(asked) - timedelta(hours=2)).isoformat()
    log = events([(0, before, CAFE), (0, asked, HOME), *OTHERS])
    assert _similar(encoder.with_others(log), log, 1) == says


def test_one_other_is_not_enough_and_the_user_is_no_other(
    events: Events, with_similar: Callable[..., str], make_encoder: MakeEncoder
) -> None:
    """The library follows the cafe for one other and for the user: no line names it."""
    encoder = make_encoder(TITLES, template=with_similar(), similar_tokens=40, similar_every=1)
    own = [*_visit(0, "2024-01-03", CAFE, LIBRARY), *_visit(0, "2024-01-04", CAFE, HOME)]
    log = events([*own, *OTHERS])
    assert _similar(encoder.with_others(log), log, 3) == "weekdays morning others after Cafe: Museum\n"
    second = events([*own, *OTHERS, *_visit(4, "2024-01-03", CAFE, LIBRARY)])
    assert "others after Cafe: Museum; Old Library\n" in _similar(encoder.with_others(second), second, 3)


def test_only_training_events_are_told(
    events: Events, with_similar: Callable[..., str], make_encoder: MakeEncoder
) -> None:
    encoder = make_encoder(TITLES, template=with_similar(), similar_tokens=40, similar_every=1)
    log = events([*_visit(0, "2024-01-04", CAFE, HOME), *OTHERS])
    held_out = log.with_columns(split=pl.when(pl.col("user_idx") == 2).then(pl.lit("valid")).otherwise("split"))
    assert _similar(encoder.with_others(log), log, 1)
    assert not _similar(encoder.with_others(held_out), held_out, 1)


def test_next_event_after_the_session_is_no_pair(
    events: Events, with_similar: Callable[..., str], make_encoder: MakeEncoder
) -> None:
    log = events([*_visit(0, "2024-01-04", CAFE, HOME), *OTHERS])
    for hours, message in ((0.5, False), (1.0, True)):
        encoder = make_encoder(TITLES, template=with_similar(), similar_tokens=40, similar_every=1, similar_hours=hours)
        assert bool(_similar(encoder.with_others(log), log, 1)) == message


@settings(deadline=None, max_examples=10)
@given(
    walks=st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30)), max_size=12), min_size=2, max_size=6),
    every=st.integers(1, 5), row=st.integers(0, 60), later=st.integers(0, 3),
)  # fmt: skip
def test_nothing_at_or_after_the_first_event_of_a_window_changes_its_lines(
    events: Events, templates: Templates, make_encoder: MakeEncoder, walks: list[list[tuple[int, int]]], every: int,
    row: int, later: int,
) -> None:  # fmt: skip
    """All users' events at and after the time of the window's first new event are exchanged."""
    encoder = make_encoder(TITLES, template="checkins", similar_tokens=60, similar_every=every, profile_tokens=0)
    rows = _walked(walks)
    if not rows:
        return
    log = events(rows)
    row %= log.height
    num = len(walks)
    text = encoder.with_others(log).text(log, num)
    window = text.windows.select((text.windows.target_W <= row) & (row < text.windows.end_W))
    moment = log["time"][int(window.target_W[0])]
    changed = log.with_columns(
        item_idx=pl.when(pl.col("time") >= moment).then((pl.col("item_idx") + 1 + later) % 4).otherwise("item_idx")
    )
    other = encoder.with_others(changed).text(changed, num)
    np.testing.assert_array_equal(text.similar(window)[0], other.similar(window)[0])


@settings(deadline=None, max_examples=10)
@given(
    walks=st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), max_size=10), min_size=3, max_size=6),
    at=st.integers(0, 300),
)
def test_counts_are_those_of_a_plain_loop(events: Events, walks: list[list[tuple[int, int]]], at: int) -> None:
    rows = [*_walked(walks), *[(len(walks), f"2024-01-0{day}T10:00", HOME) for day in (1, 2)]]
    log = events(rows)
    others, moment = Others.of(log, 24.0), datetime(2024, 1, 1) + timedelta(hours=at)
    period = _period(moment)
    did: dict[tuple[int, int], set[int]] = {}
    for (user, before, item), (other, after, following) in pairwise(rows):
        left, right = datetime.fromisoformat(before), datetime.fromisoformat(after)
        if user == other and right < moment and right - left <= timedelta(days=1) and _period(right) == period:
            did.setdefault((item, following), set()).add(user)
    micros = np.array([int((moment - datetime(1970, 1, 1)) / timedelta(microseconds=1))])
    for user in (0, 1, -1):
        for item in range(4):
            counts = {after: len(who - {user}) for (before, after), who in did.items() if before == item}
            message = {after: count for after, count in counts.items() if count >= MIN_USERS}
            expected = sorted(message, key=lambda after: (-message[after], after))[:3]
            found = others._next(np.array([item]), np.array([period]), micros, np.array([user]))[0]
            assert found[found >= 0].tolist() == expected


def test_prompt_at_serving_is_the_one_of_the_training_window(
    events: Events, with_similar: Callable[..., str], make_encoder: MakeEncoder
) -> None:
    """A user's events up to a row, alone and with an open question, give what the windows over all users give."""
    encoder = make_encoder(
        TITLES, template=with_similar(), budget_tokens=130, profile_tokens=20, similar_tokens=30, similar_every=3
    )
    days = [f"2024-01-{day:02}" for day in range(5, 20)]
    log = events([*[row for day in days for row in _visit(0, day, CAFE, HOME)], *OTHERS])
    encoder = encoder.with_others(log)
    text = encoder.text(log, 4)
    assert (text.windows.start_W > 0).any()  # some turned over
    message = 0
    for row in range(2, 30):
        asked = log[: row + 1].with_columns(
            item_idx=pl.when(pl.int_range(pl.len()) == row).then(-1).otherwise("item_idx").cast(pl.Int32)
        )
        alone = encoder.text(asked, 1)
        assert _prompt(alone, row) == _prompt(text, row)
        message += "others after Cafe" in cast(Any, encoder.encode).text(_prompt(alone, row))
    assert message > 20


@settings(deadline=None, max_examples=10)
@given(
    num=st.integers(1, 20), budget=st.integers(48, 90), similar=st.sampled_from([8, 16, 24]), every=st.integers(1, 6)
)
def test_no_window_exceeds_the_budget_and_every_event_has_one_window(
    events: Events, make_encoder: MakeEncoder, num: int, budget: int, similar: int, every: int
) -> None:
    encoder = make_encoder(
        TITLES, template="terse", budget_tokens=budget, profile_tokens=8, similar_tokens=similar, similar_every=every
    )
    log = events([(0, f"2024-02-{day + 1:02}T08:00", CAFE) for day in range(num)] + OTHERS)
    text = encoder.with_others(log).text(log, 4)
    encoded = text.encode_windows(text.windows)
    assert max(len(window.tokens_L) for window in encoded) <= budget
    assert max(window.num_similar_tokens for window in encoded) <= similar
    windows = text.windows
    new = [row for a, b in zip(windows.target_W, windows.end_W, strict=True) for row in range(a, b)]
    assert new == list(range(log.height))
    assert (windows.end_W - windows.target_W).max() <= every


def test_lines_stand_between_preamble_and_profile(
    events: Events, with_similar: Callable[..., str], make_encoder: MakeEncoder
) -> None:
    encoder = make_encoder(
        TITLES, template=with_similar(), budget_tokens=80, profile_tokens=20, similar_tokens=20, similar_every=2
    )
    days = [f"2024-01-{day:02}" for day in range(5, 20)]
    log = events([*[row for day in days for row in _visit(0, day, CAFE, HOME)], *OTHERS])
    encoder = encoder.with_others(log)
    text = encoder.text(log, 4)
    last = text.windows.select(text.windows.end_W == 30)
    [window] = text.encode_windows(last)
    said = cast(Any, encoder.encode).text(window.tokens_L.tolist())
    lines = said.split("\n")
    assert lines[0] == "Log."
    assert "others after Cafe: Museum" in lines[1]
    assert " x" in lines[2]  # the profile
    assert window.num_similar_tokens > 0
    assert window.num_profile_tokens > 0
    again = encode_text(encoder, said, encoder.catalogue.titles)
    assert again == window.tokens_L.tolist()


def test_without_time_lines_tell_no_time(
    events: Events, with_similar: Callable[..., str], make_encoder: MakeEncoder
) -> None:
    encoder = make_encoder(TITLES, template=with_similar(), similar_tokens=40, similar_every=1, leave_out=("time",))
    log = events([*_visit(0, "2024-01-04", CAFE, HOME), *OTHERS])
    assert "morning" not in _similar(encoder.with_others(log), log, 1)
    assert "weekdays" not in _similar(encoder.with_others(log), log, 1)
    assert "others after Cafe: Museum" in _similar(encoder.with_others(log), log, 1)


def test_switched_off_is_the_identity_that_older_adapters_know(make_encoder: MakeEncoder) -> None:
    off = make_encoder(TITLES, template="plain").identity
    assert not any(name.startswith("similar") for name in off["prompts"])
    on = make_encoder(TITLES, template="plain", similar_tokens=30).identity
    assert on["template_hash"] != off["template_hash"]
    assert on["prompts"]["similar_tokens"] == 30


def test_template_set_without_its_file_is_named(templates: Templates, make_encoder: MakeEncoder) -> None:
    with pytest.raises(PromptError, match=r"similar\.j2.*similar_tokens"):
        make_encoder(TITLES, template=templates(), similar_tokens=30)


@pytest.mark.parametrize(
    "template",
    ["plain", "checkins", "flights", "movies", "places", "terse", "terse-zh", "descriptive", "descriptive-zh"],
)
def test_every_shipped_set_can_tell_what_others_did(events: Events, make_encoder: MakeEncoder, template: str) -> None:
    encoder = make_encoder(TITLES, template=template, similar_tokens=60, similar_every=1)
    log = events([*_visit(0, "2024-01-04", CAFE, HOME), *OTHERS], carrier="AA", origin="JFK")
    said = _similar(encoder.with_others(log), log, 1)
    assert "Cafe" in said
    assert said.endswith("Museum\n")
