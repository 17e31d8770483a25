"""Each rule of `prompt lint` finds what it should, and a sound template has no findings."""

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from whereupon.prompts import PromptEncoder
from whereupon.prompts.lint import Finding, lint

Events = Callable[..., pl.DataFrame]
Templates = Callable[..., str]
MakeEncoder = Callable[..., PromptEncoder]
TITLES = ["Bar", "Park", "Corner Bar"]
ROWS = [(0, f"2024-01-{day:02}T08:00", day % 3) for day in range(1, 13)]


@pytest.fixture(name="found")
def _found(events: Events, templates: Templates, make_encoder: MakeEncoder) -> Callable[..., list[Finding]]:
    def found(
        context: str = "{{ weekday }} {{ hour }}:", titles: list[str] = TITLES, columns: Any = None, *,
        location: str = "outcome", profile: str = "x{{ count }}:", preamble: str = "Log.", **settings: Any,
    ) -> list[Finding]:  # fmt: skip
        folder = templates(context, profile, preamble)
        encoder = make_encoder(titles, template=folder, location=location, **settings)
        return lint(encoder, events(ROWS, **(columns or {})), 1, ["<|end|>", "\n"])

    return found


def test_sound_template_has_no_findings(found: Callable[..., list[Finding]]) -> None:
    assert found() == []
    assert found("{{ weekday }} {{ origin }} {{ since_last }}:", columns={"origin": ["A", "B"] * 6}) == []


@pytest.mark.parametrize(
    ("arguments", "rule", "says"),
    [
        ({"context": "{{ weekdy }}:"}, "undefined", "context.j2 uses 'weekdy'; expected one of: cell, "),
        ({"profile": "{{ weekday }}:"}, "undefined", "profile.j2 uses 'weekday'; expected one of: count, days, "),
        ({"preamble": "{{ hour }}"}, "undefined", "preamble.j2 uses 'hour'; expected one of: no variables"),
        ({"context": "{{ title }}:"}, "leak", "uses 'title', which is the outcome"),
        ({"context": "{{ item_id }}:"}, "leak", "uses 'item_id', which is the outcome"),
        ({"context": "{{ value }}:"}, "leak", "uses 'value', which is the outcome"),
        ({"context": "{{ latitude }}:"}, "leak", "uses 'latitude', which is the outcome"),
        ({"context": "On a Corner"}, "terminator", "'On a Corner' before the title 'Bar' reads like"),
        ({"budget_tokens": 7, "profile_tokens": 0}, "rendering", "does not fit into prompts.budget_tokens=7"),
        ({"titles": ["Bar", "Park <|end|>", "Cinema"]}, "injection", "1 values of title hold a control token"),
        ({"context": "{{ sky }}:", "columns": {"sky": ["rain\nBar"] * 12}}, "injection", "hold a control character"),
        ({"context": "{{ sky }}:", "columns": {"sky": ["\u202ebar"] * 12}}, "injection", "hold a control character"),
    ],
)  # fmt: skip
def test_what_no_prompt_should_have_is_an_error(
    found: Callable[..., list[Finding]], arguments: dict[str, Any], rule: str, says: str
) -> None:
    titles = {"titles": ["Bar", "Park", "Cinema"]} if "titles" not in arguments and rule == "injection" else {}
    errors = [one for one in found(**{**titles, **arguments}) if one.level == "error"]
    assert [one.rule for one in errors if says in one.says][:1] == [rule], errors


@pytest.mark.parametrize(
    ("arguments", "rule", "says"),
    [
        ({"context": "{{ weekday }}"}, "terminator", "7 of 7 distinct lines end in a word before the title"),
        ({"context": "{{ near }}:", "columns": {"near": ["B", "C", "A"] * 4}}, "leak",
         "'near' gives the chosen item away in 100%"),
        ({"budget_tokens": 13, "profile_tokens": 0}, "budget", "events on average"),
        ({"preamble": "A very long preamble of ten words and more.", "budget_tokens": 36, "profile_tokens": 0},
         "budget", "the preamble takes"),
    ],
)  # fmt: skip
def test_what_somebody_should_look_at_is_a_warning(
    found: Callable[..., list[Finding]], arguments: dict[str, Any], rule: str, says: str
) -> None:
    assert [(one.level, one.rule) for one in found(**arguments) if says in one.says] == [("warning", rule)]


def test_coordinates_that_are_known_before_are_no_leak(found: Callable[..., list[Finding]]) -> None:
    columns = {"latitude": [1.0, 2.0] * 6, "longitude": [1.0, 2.0] * 6}
    assert found("{{ latitude }}:", columns=columns, location="context") == []


def test_errors_come_first(found: Callable[..., list[Finding]]) -> None:
    levels = [one.level for one in found("On a Corner")]
    assert levels == sorted(levels)
    assert set(levels) == {"error", "warning"}
