import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whereupon.errors import PromptError
from whereupon.prompts import FEATURES, Features, PromptEncoder, context_frame
from whereupon.prompts.kinds import CONTEXT_KINDS, VARIABLES, ContextKind, columns_of, leave_out, tidy

Events = Callable[..., pl.DataFrame]
Templates = Callable[..., str]
MakeEncoder = Callable[..., PromptEncoder]

PLACES = ["Bar", "Park"]
NOON = "2024-01-01T12:00"  # a Monday
TOWN = {"origin": ["EWR"], "carrier": ["UA"], "place": ["Ohio"], "temperature_c": [-3.0], "snowfall_cm": [1.0]}
EVERY_COMBINATION = [kinds for count in range(1, 4) for kinds in itertools.combinations(CONTEXT_KINDS, count)]
ALL = Features(frozenset(FEATURES), "US")
# The line of that event in each shipped set, and what each kind contributes to it.
LINES = {
    "checkins": "Monday afternoon 12 freezing snow:", "flights": "EWR UA Monday afternoon 12 freezing snow:",
    "movies": "Monday afternoon in Ohio:", "plain": "Monday afternoon 12 freezing snow:",
}  # fmt: skip
WORDS: dict[ContextKind, set[str]] = {
    "time": {"Monday", "afternoon", "12"}, "place": {"EWR", "in", "Ohio"}, "weather": {"freezing", "snow"},
}  # fmt: skip


def _line(encoder: PromptEncoder, events: pl.DataFrame) -> str:
    """The line of the first event up to its title."""
    text = encoder.text(events, 1)
    contexts = text.contexts.tokens[: text.contexts.ptr[1]] if text.context_N[0] == 0 else None
    assert contexts is not None
    return cast(Any, encoder.encode).text(contexts.tolist())  # type: ignore[no-any-return]  # the toy tokenizer can


def _without(events: pl.DataFrame, kinds: Sequence[ContextKind], location: str = "context") -> pl.DataFrame:
    return leave_out(context_frame(events, location, ALL), events, kinds, {})


@pytest.mark.parametrize("template", sorted(LINES))
@pytest.mark.parametrize("kinds", EVERY_COMBINATION, ids="+".join)
def test_shipped_set_reads_well_without_any_kinds_of_context(
    template: str, kinds: tuple[ContextKind, ...], events: Events, make_encoder: MakeEncoder
) -> None:
    said = events([(0, NOON, 0)], **TOWN)
    whole = _line(make_encoder(PLACES, location="context", template=template), said)
    assert whole == LINES[template]
    line = _line(make_encoder(PLACES, location="context", template=template, leave_out=kinds), said)
    gone = set().union(*(WORDS[kind] for kind in kinds))
    kept = [word for word in whole.removesuffix(":").split() if word not in gone]
    assert line == " ".join(kept) + ":"


@pytest.mark.parametrize("template", sorted(LINES))
@pytest.mark.parametrize("left_out", [(), ("place",)], ids=["all", "no places"])
def test_contexts_that_are_made_together_are_those_of_encoders_that_leave_kinds_out(
    template: str, left_out: tuple[ContextKind, ...], events: Events, make_encoder: MakeEncoder
) -> None:
    rows = [(0, NOON, 0), (0, "2024-01-01T19:00", 1), (1, "2024-01-01T12:30", 0), (1, "2024-01-02T08:00", 1)]
    columns = {name: values * 4 for name, values in TOWN.items()} | {"temperature_c": [-3.0, -3.0, 9.0, 30.0]}
    said, kinds_S = events(rows, **columns), [(), *EVERY_COMBINATION]
    encoder = make_encoder(PLACES, location="context", template=template, leave_out=left_out)
    for row in (1, 3):
        together = encoder.contexts_without(said, [row] * len(kinds_S), kinds_S)
        for kinds, tokens_L in zip(kinds_S, together, strict=True):
            text = encoder.without(kinds).text(said, 2)
            assert tokens_L.tolist() == text.contexts.gather(text.context_N[[row]]).tokens.tolist()


@pytest.mark.parametrize("template", sorted(LINES))
def test_shipped_profile_without_time_shows_how_often(template: str, events: Events, make_encoder: MakeEncoder) -> None:
    rows = [(0, f"2024-01-{day:02}T08:00", 0) for day in range(1, 13)]
    encoder = make_encoder(PLACES, template=template, leave_out=["time"], budget_tokens=32, profile_tokens=6,
                           location="context")  # fmt: skip
    text = encoder.text(events(rows, **{name: values * 12 for name, values in TOWN.items()}), 1)
    profile = cast(Any, encoder.encode).text(text.profiles(text.windows)[-1].tolist())
    assert re.fullmatch(r"(x\d+|earlier): Bar\n", profile)


def test_every_computed_variable_is_of_one_kind(events: Events) -> None:
    computed = context_frame(events([(0, NOON, 0)]), "context", ALL).columns
    assert sorted(computed) == sorted(itertools.chain(*VARIABLES.values()))


@pytest.mark.parametrize("kinds", EVERY_COMBINATION, ids="+".join)
def test_left_out_variables_are_empty_and_the_others_as_they_were(
    kinds: tuple[ContextKind, ...], events: Events
) -> None:
    said = events([(0, NOON, 0), (0, "2024-01-01T13:00", 1)], latitude=[1.0, 2.0], longitude=[3.0, 4.0],
                  origin=["EWR", "JFK"], carrier=["UA", "B6"], temperature_c=[1.0, 20.0])  # fmt: skip
    whole, part = context_frame(said, "context", ALL), _without(said, kinds)
    gone = {name for kind in kinds for name in VARIABLES[kind]} - {"new_day"}
    gone |= {"latitude", "longitude", "origin"} if "place" in kinds else set()
    assert set(itertools.chain(*part.select(gone).rows())) <= {"", None}
    strings = [name for name in gone if whole.schema[name] == pl.String]
    assert part.select(strings).null_count().sum_horizontal()[0] == 0, "filters such as upper would say NONE"
    kept = [name for name in whole.columns if name not in gone and name != "new_day"]
    assert part.select(kept).equals(whole.select(kept))
    assert part.columns == whole.columns


def test_what_is_shown_once_a_day_is_shown_where_it_changes_once_days_are_left_out(events: Events) -> None:
    rows = [(0, NOON, 0), (0, "2024-01-02T12:00", 0), (0, "2024-01-02T13:00", 0), (1, "2024-01-02T14:00", 0)]
    said = events(rows, temperature_c=[1.0, 2.0, 20.0, 20.0])
    assert context_frame(said, "outcome")["new_day"].to_list() == [True, True, False, True]
    # 1 and 2 degrees are both cold; the last row is another person's first.
    assert _without(said, ["time"])["new_day"].to_list() == [True, False, True, True]
    assert _without(said, ["weather"])["new_day"].to_list() == [True, True, False, True]
    moved = said.with_columns(origin=pl.Series(["EWR", None, None, "EWR"]), latitude=pl.Series([1.0, 2.0, 3.0, 4.0]))
    assert _without(moved, ["time"])["new_day"].to_list() == [True, True, True, True]
    assert _without(moved, ["time", "weather"])["new_day"].to_list() == [True, True, False, True]
    assert _without(moved, ["time", "weather", "place"])["new_day"].to_list() == [True, False, False, True]


def test_coordinates_are_of_place_only_where_they_are_known_before(events: Events) -> None:
    said = events([(0, NOON, 0)], latitude=[1.0], longitude=[2.0])
    assert _without(said, ["place"])["latitude"].to_list() == [None]
    assert "latitude" not in _without(said, ["place"], "outcome").columns


def test_context_column_of_ones_own_is_left_out_with_its_kind(
    events: Events, templates: Templates, make_encoder: MakeEncoder
) -> None:
    template = templates("{{ district }} {{ mood }} {{ weather }}:")
    said = events([(0, NOON, 0)], district=["Soho"], mood=["glad"], temperature_c=[30.0])
    asked = {"template": template, "column_kinds": {"district": "place"}}
    assert _line(make_encoder(PLACES, **asked), said) == "Soho glad hot:"
    assert _line(make_encoder(PLACES, **asked, leave_out=["place"]), said) == "glad hot:"
    assert _line(make_encoder(PLACES, **asked, leave_out=["weather"]), said) == "Soho glad:"


def test_what_is_said_of_a_column_goes_before_its_name() -> None:
    columns = ["local_time", "origin", "holiday", "wind_mps"]
    assert columns_of("place", columns, {}) == ["origin"]
    assert columns_of("time", columns, {"origin": "time"}) == ["local_time", "origin", "holiday"]


def test_kind_of_a_column_that_is_not_there_is_refused(events: Events, make_encoder: MakeEncoder) -> None:
    encoder = make_encoder(PLACES, leave_out=["place"], column_kinds={"distict": "place"})
    with pytest.raises(PromptError, match=r"^prompts\.column_kinds names 'distict', which is no context column"):
        encoder.text(events([(0, NOON, 0)], district=["Soho"]), 1)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("  :", ":"),
        (" , :", ":"),
        ("Monday  9:", "Monday 9:"),
        ("Monday, , cold:", "Monday, cold:"),
        ("Monday, :", "Monday:"),
        (", cold:", "cold:"),
        (": cold:", "cold:"),
        ("Monday | | cold:", "Monday | cold:"),
        ("Monday | :", "Monday:"),
        ("Monday · cold:", "Monday · cold:"),
        ("Monday () cold:", "Monday cold:"),
        ("Monday (, cold):", "Monday (cold):"),
        ("Monday (9, ):", "Monday (9):"),
        ("12:30, -3 C:", "12:30, -3 C:"),
        ("", ""),
    ],
)
def test_line_is_tidied_of_what_nothing_leaves(line: str, expected: str) -> None:
    assert tidy(line) == expected


@given(st.text("ab1 ,;:|·()", max_size=12))
def test_tidied_line_keeps_its_words_and_stays_as_it_is(line: str) -> None:
    once = tidy(line)
    assert tidy(once) == once
    assert [c for c in once if c in "ab1"] == [c for c in line if c in "ab1"]
    assert "  " not in once


def test_nothing_left_out_changes_no_text_and_no_identity(events: Events, make_encoder: MakeEncoder) -> None:
    """An adapter of before knows nothing of it."""
    plain = make_encoder(PLACES, location="context", column_kinds={"carrier": "place"})
    assert _line(plain, events([(0, NOON, 0)], **TOWN)) == "Monday afternoon 12 freezing snow:"
    assert not {"leave_out", "column_kinds"} & plain.identity["prompts"].keys()


def test_what_is_left_out_is_part_of_the_identity_in_whatever_order_it_is_named(make_encoder: MakeEncoder) -> None:
    one, other = (make_encoder(PLACES, leave_out=kinds) for kinds in (["weather", "time"], ["time", "weather"]))
    assert one.identity == other.identity
    assert one.identity["prompts"]["leave_out"] == ["time", "weather"]
    assert one.identity != make_encoder(PLACES).identity


@pytest.mark.parametrize("kinds", [["weather", "weather"], ["wether"]])
def test_kinds_that_mean_nothing_are_refused(kinds: list[str], make_encoder: MakeEncoder) -> None:
    with pytest.raises(ValueError, match=r"leave_out"):
        make_encoder(PLACES, leave_out=kinds)


def test_days_that_an_event_brings_along_are_shown_as_given(events: Events) -> None:
    said = events([(0, "2024-01-09T12:00", 0), (0, NOON, 0)], _days_since_previous=[None, 3], _new_day=[False, True])
    frame = context_frame(said, "context")
    assert frame["days_since_previous"].to_list() == [None, 3]
    assert frame["new_day"].to_list() == [False, True]
    assert not [name for name in frame.columns if name.startswith("_")]
