from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from whereupon.catalogue import Ragged
from whereupon.errors import PromptError
from whereupon.prompts import EncodedWindow, HistoryText, PromptEncoder

Events = Callable[..., pl.DataFrame]
Templates = Callable[..., str]
MakeEncoder = Callable[..., PromptEncoder]
PLACES = ["Bar", "Park", "Old Library"]
# Ten Mondays of one user: at the bar at 8, every fourth time in the library at 20.
MONDAYS = [datetime(2024, 1, 1, 20 if i % 4 == 3 else 8) + timedelta(weeks=i) for i in range(10)]
TEN = [(0, monday.isoformat(), 2 if monday.hour == 20 else 0) for monday in MONDAYS]


def _encoded(text: HistoryText) -> list[EncodedWindow]:
    return text.encode_windows(text.windows)


def _read(encoder: PromptEncoder, tokens: NDArray[np.int32]) -> str:
    return cast(Any, encoder.encode).text(tokens.tolist())  # type: ignore[no-any-return]  # the toy tokenizer can


def _prompt(text: HistoryText, row: int) -> list[int]:
    """All that the model has read before it predicts the title of event `row`."""
    windows = text.windows.select((text.windows.target_W <= row) & (row < text.windows.end_W))
    [window] = text.encode_windows(windows)
    return window.tokens_L[: window.title_start_V[row - windows.start_W[0]]].tolist()


def test_window_by_hand_is_preamble_then_context_and_title_of_each_event(
    events: Events, templates: Templates, make_encoder: MakeEncoder
) -> None:
    encoder = make_encoder(PLACES, template=templates(), prefix=(77,))
    text = encoder.text(events([(0, "2024-01-01T08:00", 0), (0, "2024-01-02T20:00", 2), (1, "2024-01-03T09:00", 1)]), 2)
    first, second = _encoded(text)
    assert _read(encoder, first.tokens_L[1:]) == "Log.\nMonday 8: Bar\nTuesday 20: Old Library\n"
    assert _read(encoder, second.tokens_L[1:]) == "Log.\nWednesday 9: Park\n"
    assert (first.tokens_L[0], first.tokens_L.dtype) == (77, np.int32)
    # <prefix> Log. \n Monday 8 : | Bar \n Tuesday 20 : | Old Library \n
    assert first.title_start_V.tolist() == [6, 11]
    assert encoder.titles.tokens[encoder.titles.ptr[2] :].tolist() == first.tokens_L[11:].tolist()


def test_open_question_has_a_context_and_no_title(
    events: Events, templates: Templates, make_encoder: MakeEncoder
) -> None:
    encoder = make_encoder(PLACES, template=templates())
    [window] = _encoded(encoder.text(events([(0, "2024-01-01T08:00", 0), (0, "2024-01-02T20:00", -1)]), 1))
    assert _read(encoder, window.tokens_L) == "Log.\nMonday 8: Bar\nTuesday 20:"
    assert window.title_start_V[-1] == len(window.tokens_L)


def test_window_that_turned_over_opens_with_a_profile_of_what_is_no_longer_shown(
    events: Events, templates: Templates, make_encoder: MakeEncoder
) -> None:
    # An event has at most 6 tokens, the preamble 2, a line of the profile 5 or 6.
    encoder = make_encoder(PLACES, template=templates(), budget_tokens=40, profile_tokens=12, keep_fraction=0.2)
    text = encoder.text(events(TEN), 1)
    windows = text.windows
    assert (windows.start_W.tolist(), windows.target_W.tolist()) == ([0, 6], [0, 7])
    late = _encoded(text)[1]
    assert _read(encoder, late.tokens_L).startswith("Log.\nweekdays x5: Bar\nweekdays x1: Old Library\nMonday 8: Bar\n")
    assert [len(profile) for profile in text.profiles(windows)] == [0, 11]


@pytest.mark.parametrize(("profile_tokens", "num_tokens"), [(0, 0), (4, 0), (5, 5), (10, 5), (11, 11)])
def test_profile_keeps_whole_lines_within_its_budget(
    events: Events, templates: Templates, make_encoder: MakeEncoder, profile_tokens: int, num_tokens: int
) -> None:
    encoder = make_encoder(
        PLACES, template=templates(), budget_tokens=28 + profile_tokens, profile_tokens=profile_tokens
    )
    text = encoder.text(events(TEN), 1)
    assert len(text.profiles(text.windows)[-1]) == num_tokens


@settings(deadline=None, max_examples=10)
@given(
    items=st.lists(st.integers(0, 2), min_size=1, max_size=14),
    budget=st.integers(24, 60),
    profile_tokens=st.sampled_from([0, 5, 12]),
)
def test_no_encoded_window_exceeds_the_budget(
    events: Events, templates: Templates, make_encoder: MakeEncoder, items: list[int], budget: int, profile_tokens: int
) -> None:
    encoder = make_encoder(PLACES, template=templates(), budget_tokens=budget, profile_tokens=profile_tokens)
    text = encoder.text(events([(0, f"2024-01-{i + 1:02}T08:00", item) for i, item in enumerate(items)]), 1)
    assert max(len(window.tokens_L) for window in _encoded(text)) <= budget


@pytest.mark.parametrize("profile_tokens", [0, 24])
def test_aligned_prompts_end_on_a_block_and_say_the_same(
    events: Events, templates: Templates, make_encoder: MakeEncoder, profile_tokens: int
) -> None:
    """Filled up behind the preamble, by less than a block, within the budget; nothing else changes."""
    encoder = make_encoder(
        PLACES, template=templates(), budget_tokens=64, profile_tokens=profile_tokens, align_tokens=8
    )
    plain = make_encoder(PLACES, template=templates(), budget_tokens=57, profile_tokens=profile_tokens)
    fills = []
    for num in range(1, len(TEN) + 1):
        said = events(TEN[:num])
        window, same = _encoded(encoder.text(said, 1))[-1], _encoded(plain.text(said, 1))[-1]
        fill, begin = len(window.tokens_L) - len(same.tokens_L), len(encoder.preamble)
        assert window.title_start_V[-1] % 8 == 0
        assert len(window.tokens_L) <= 64
        assert window.tokens_L[begin : begin + fill].tolist() == [encoder.filler] * fill
        assert _read(encoder, np.delete(window.tokens_L, np.arange(begin, begin + fill))) == _read(plain, same.tokens_L)
        assert (window.title_start_V - fill).tolist() == same.title_start_V.tolist()
        fills.append(fill)
    assert max(fills) < 8
    assert len(set(fills)) > 1
    assert encoder.identity["prompts"]["align_tokens"] == 8
    assert "align_tokens" not in plain.identity["prompts"]


@pytest.mark.parametrize("profile_tokens", [0, 24])
def test_window_is_filled_up_to_the_event_that_is_named(
    events: Events, templates: Templates, make_encoder: MakeEncoder, profile_tokens: int
) -> None:
    encoder = make_encoder(
        PLACES, template=templates(), budget_tokens=64, profile_tokens=profile_tokens, align_tokens=8
    )
    text = encoder.text(events(TEN), 1)
    windows = text.windows
    asked_W = windows.target_W - windows.start_W
    encoded = text.encode_windows(windows, windows.target_W)
    assert [int(one.title_start_V[at]) % 8 for one, at in zip(encoded, asked_W, strict=True)] == [0] * len(windows)
    assert [one.title_start_V[-1] % 8 for one in encoded] != [0] * len(windows)
    assert max(len(one.tokens_L) for one in encoded) <= 64


def test_title_longer_than_the_budget_is_one_sentence(
    events: Events, templates: Templates, make_encoder: MakeEncoder
) -> None:
    encoder = make_encoder(["Bar", "a " * 40], template=templates(), budget_tokens=30, profile_tokens=0)
    with pytest.raises(PromptError, match=r"longest title, 4\d tokens.*budget_tokens=30 .* shorten titles"):
        _ = encoder.text(events([(0, "2024-01-01T08:00", 0)]), 1).windows


def test_nothing_to_read_before_a_title_is_refused(
    events: Events, templates: Templates, make_encoder: MakeEncoder
) -> None:
    one = events([(0, "2024-01-01T08:00", 0)])
    with pytest.raises(PromptError, match="empty context and an empty preamble"):
        make_encoder(PLACES, template=templates(context="", preamble="")).text(one, 1)
    assert make_encoder(PLACES, template=templates(context="", preamble=""), prefix=(1,)).text(one, 1).windows
    assert make_encoder(PLACES, template=templates(context="")).text(one, 1).windows


def test_identity_changes_with_template_catalogue_and_budget_but_not_with_the_folders_name(
    templates: Templates, make_encoder: MakeEncoder
) -> None:
    def identity(titles: list[str] = PLACES, **settings: Any) -> str:
        return str(make_encoder(titles, **{"template": templates(), **settings}).identity)

    assert identity() == identity()
    others = [identity(["Bar", "Pub"]), identity(template=templates("{{ hour }}:")), identity(budget_tokens=500)]
    assert len({identity(), *others}) == 4


def _town(events: Events, random: np.random.Generator) -> pl.DataFrame:
    """Two users with eight events each; everything that can differ does."""
    n = 16
    hours = np.sort(random.integers(0, 24 * 60, (2, 8)), axis=1).ravel()
    times = [(datetime(2024, 1, 1) + timedelta(hours=int(hour))).isoformat() for hour in hours]
    items = random.integers(0, 3, n).tolist()
    town = events(
        [(row // 8, time, item) for row, (time, item) in enumerate(zip(times, items, strict=True))],
        temperature_c=random.normal(10, 10, n), precipitation_mm=random.choice([0.0, 3.0], n),
        latitude=random.uniform(-9, 9, n), longitude=random.uniform(-9, 9, n), carrier=random.choice(["UA", "B6"], n),
    )  # fmt: skip
    return town.sort("user_idx", "local_time")


TELLS_ALL = "{{ weekday }} {{ hour }} {{ weather }} {{ carrier }} {{ days_since_previous }}{{ new_day }}"


@pytest.mark.parametrize("location", ["outcome", "context"])
@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 2**32))
def test_no_prompt_changes_with_its_own_choice_or_anything_later(
    events: Events, templates: Templates, make_encoder: MakeEncoder, location: str, seed: int
) -> None:
    line = TELLS_ALL + (" {{ latitude }}:" if location == "context" else ":")
    encoder = make_encoder(PLACES, location=location, template=templates(line), budget_tokens=48, profile_tokens=12)
    random = np.random.default_rng(seed)
    town, other = _town(events, random), _town(events, random)
    original = encoder.text(town, 2)
    assert len(original.windows) > 2, "the town is small, yet its windows turn over"
    for row in range(8):
        chosen = {"item_id", "item_idx"} | ({"latitude", "longitude"} if location == "outcome" else set())
        known = town[row].with_columns(other[row][name] for name in chosen)
        changed = pl.concat([town[:row], known, other[row + 1 :]])
        assert _prompt(encoder.text(changed, 2), row) == _prompt(original, row)
        assert _prompt(encoder.text(changed[: row + 1], 1), row) == _prompt(original, row)


def test_prompt_changes_with_an_earlier_choice_shown_in_the_window_or_in_the_profile(
    events: Events, templates: Templates, make_encoder: MakeEncoder
) -> None:
    encoder = make_encoder(PLACES, template=templates(), budget_tokens=40, profile_tokens=12, keep_fraction=0.2)
    original = encoder.text(events(TEN), 1)
    for earlier in (2, 8):  # shown by the profile, shown as an event
        changed = [(user, time, 1 if row == earlier else item) for row, (user, time, item) in enumerate(TEN)]
        assert _prompt(encoder.text(events(changed), 1), 9) != _prompt(original, 9)


@settings(deadline=None)
@given(lists=st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=6), data=st.data())
def test_gather_equals_picking_list_by_list(lists: list[list[int]], data: st.DataObject) -> None:
    which = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=9))
    gathered = Ragged.of(lists).gather(np.array(which, np.int64))
    bounds = pairwise(gathered.ptr.tolist())
    assert [gathered.tokens[begin:end].tolist() for begin, end in bounds] == [lists[i] for i in which]


def test_lines_of_the_past_are_tokenised_once(events: Events, templates: Templates, make_encoder: MakeEncoder) -> None:
    encoder = make_encoder(PLACES, template=templates())
    first = _encoded(encoder.text(events(TEN[:5]), 1))[0]
    asked: list[str] = []

    def encode(texts: list[str]) -> list[list[int]]:
        asked.extend(texts)
        return inner(texts)

    inner = encoder.encode
    encode.text = cast(Any, inner).text  # type: ignore[attr-defined]
    object.__setattr__(encoder, "encode", encode)
    later = (0, "2024-02-05T11:00", 1)
    second = _encoded(encoder.text(events([*TEN[:5], later]), 1))[0]
    assert asked == ["Monday 11:"]
    assert second.tokens_L[: len(first.tokens_L)].tolist() == first.tokens_L.tolist()
    assert _read(encoder, second.tokens_L[len(first.tokens_L) :]) == "Monday 11: Park\n"
