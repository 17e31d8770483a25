from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import SandboxedEnvironment

from whereupon.errors import PromptError
from whereupon.prompts import context_frame, load_templates
from whereupon.prompts import templates as whereupon_templates

Templates = Callable[..., str]
Events = Callable[..., pl.DataFrame]
ROW = pl.DataFrame({"weekday": ["Monday"], "hour": [7]})


def _texts(folder: str, frame: pl.DataFrame) -> list[str]:
    texts, index = load_templates(folder).render("context.j2", frame)
    return [texts[i] for i in index]


@pytest.mark.parametrize("name", ["checkins", "flights", "movies", "plain"])
def test_shipped_set_renders_an_event_with_nothing_but_its_time(name: str, events: Events) -> None:
    templates = load_templates(name)
    context = {"origin": ["EWR"], "carrier": ["UA"]} if name == "flights" else {}
    [line], _ = templates.render(
        "context.j2", context_frame(events([(0, "2024-01-01T19:00", 0)], **context), "context")
    )
    place = pl.DataFrame({"days": ["weekdays"], "hours": ["morning 8"], "count": [12], "share": [0.5]})
    [message], _ = templates.render("profile.j2", place)
    [preamble], _ = templates.render("preamble.j2", pl.DataFrame({"_row": [0]}))
    assert line == {"flights": "EWR UA Monday evening 7:", "movies": "Monday evening:"}.get(name, "Monday evening 7:")
    assert message == ("earlier:" if name == "movies" else "weekdays morning 8 x12:")
    assert preamble.endswith(", oldest first.")


def test_checkins_show_the_weather_once_a_day(events: Events) -> None:
    rows = [(0, "2024-01-01T08:00", 0), (0, "2024-01-01T19:00", 0)]
    frame = context_frame(events(rows, temperature_c=[-4.0, -4.0]), "outcome")
    assert _texts("checkins", frame) == ["Monday morning 8 freezing:", "Monday evening 7:"]


def test_movies_show_day_and_place_once_a_day_and_are_at_home_without(events: Events) -> None:
    rows = [(0, "2024-01-01T08:00", 0), (0, "2024-01-01T08:00", 1), (0, "2024-01-02T19:00", 2)]
    placed = context_frame(events(rows, place=["Ohio", "Ohio", None]), "outcome")
    assert _texts("movies", placed) == ["Monday morning in Ohio:", ":", "Tuesday evening:"]
    assert _texts("movies", context_frame(events(rows), "outcome")) == ["Monday morning:", ":", "Tuesday evening:"]


def test_unknown_variable_names_what_exists(templates: Templates) -> None:
    with pytest.raises(PromptError, match=r"context\.j2 uses 'weekdy'; expected one of: hour, weekday\.$"):
        _texts(templates("{{ weekdy }}:"), ROW)


def test_unknown_variable_in_a_branch_not_taken_is_still_shown(templates: Templates) -> None:
    with pytest.raises(PromptError, match="uses 'snow'"):
        _texts(templates("{% if hour > 50 %}{{ snow }}{% endif %}:"), ROW)


def test_variable_in_the_preamble_is_refused(templates: Templates) -> None:
    with pytest.raises(PromptError, match=r"preamble\.j2 uses 'hour'; expected no variables here\.$"):
        load_templates(templates(preamble="{{ hour }}")).render("preamble.j2", pl.DataFrame({"_row": [0]}))


def test_template_with_a_syntax_error_names_file_and_line(templates: Templates) -> None:
    with pytest.raises(PromptError, match=r"context\.j2, line 2: Expected an expression"):
        load_templates(templates("{{ hour }}\n{% if %}"))


def test_unknown_filter_is_one_sentence(templates: Templates) -> None:
    with pytest.raises(PromptError, match=r"context\.j2, line 1: No filter named 'shout'"):
        load_templates(templates("{{ hour | shout }}"))


def test_missing_file_is_named(templates: Templates) -> None:
    folder = Path(templates())
    (folder / "profile.j2").unlink()
    with pytest.raises(PromptError, match=r"has no profile\.j2; expected preamble\.j2, context\.j2, profile\.j2\.$"):
        load_templates(str(folder))


def test_unknown_set_names_the_shipped_ones() -> None:
    with pytest.raises(
        PromptError, match=r"no template set 'flight': .* sets .*checkins, .*flights, movies, .*plain, .*terse"
    ):
        load_templates("flight")


def test_template_in_another_encoding_is_one_sentence(templates: Templates) -> None:
    folder = Path(templates())
    (folder / "context.j2").write_bytes("{{ hour }} Café:".encode("latin-1"))
    with pytest.raises(PromptError, match=r"context\.j2 is not UTF-8 text"):
        load_templates(str(folder))


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__ }}", "{{ weekday.__init__.__globals__ }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% include '/etc/passwd' %}", "{{ range(999999999) | list }}", "{{ hour / 0 }}", "{{ hour + weekday }}",
        "{{ hour.nothing }}",
    ],
)  # fmt: skip
def test_template_that_reaches_out_or_fails_is_refused(templates: Templates, template: str) -> None:
    with pytest.raises(PromptError, match=r"context\.j2 could not be rendered: "):
        _texts(templates(template), ROW)


def test_context_of_two_lines_is_refused(templates: Templates) -> None:
    with pytest.raises(PromptError, match=r"gives more than one line \('Monday\\n7:'\); expected one"):
        _texts(templates("{{ weekday }}\n{{ hour }}:"), ROW)


def test_line_break_at_the_end_of_the_file_is_no_second_line(templates: Templates) -> None:
    assert _texts(templates("{{ weekday }}:\n"), ROW) == ["Monday:"]


def test_null_renders_as_nothing(templates: Templates) -> None:
    frame = pl.DataFrame({"origin": ["EWR", None], "hour": [7, None]})
    assert _texts(templates("{{ origin }} {{ hour }}:"), frame) == ["EWR 7:", " :"]


@settings(deadline=None, max_examples=15)
@given(
    template=st.sampled_from(["{{ a }}|{{ b }}", "{{ a }}", "{% if b %}{{ a }}{% else %}-{% endif %}", "same"]),
    rows=st.lists(st.tuples(st.sampled_from(["x", "", None]), st.sampled_from([0, 1, None])), max_size=6),
    few=st.sampled_from([0, 2000]),
)
def test_rendering_distinct_rows_once_equals_rendering_each(
    tmp_path_factory: pytest.TempPathFactory, template: str, rows: list[tuple[str | None, int | None]], few: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "once"
    folder.mkdir(exist_ok=True)
    for name in ("context", "profile", "preamble"):
        (folder / f"{name}.j2").write_text(template)
    templates = load_templates(str(folder))
    frame = pl.DataFrame(rows, schema={"a": pl.String, "b": pl.Int64}, orient="row")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(whereupon_templates, "_FEW_ROWS", few)
        texts, index = templates.render("context.j2", frame)
    assert [texts[i] for i in index] == [templates.render("context.j2", row)[0][0] for row in frame.iter_slices(1)]
    assert len(texts) <= max(1, len(set(rows)))


@pytest.mark.parametrize(
    "template",
    [
        "{% set c = b %}{{ c is none }} {{ a }}", "{% for n in range(b or 0) %}{{ loop.index }}{{ a }}{% endfor %}",
        "{% macro said(x) %}<{{ x }}{{ b }}>{% endmacro %}{{ said(a) }}", "{% set b = 7 %}{{ a }} {{ b }}",
        "  {{ a }}  \n",
        "{# a note #}{{ a }}{% raw %}{{ b }}{% endraw %}",
    ],
)  # fmt: skip
def test_each_row_is_rendered_as_if_it_were_the_only_one(templates: Templates, template: str) -> None:
    rows: list[tuple[str, int | None]] = [("x", 2), ("y", None), ("z", 1), ("w", 0)]
    expected = [SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, finalize=lambda value: "" if value is None
                                     else value).from_string(template).render(a=a, b=b) for a, b in rows]  # fmt: skip
    frame = pl.DataFrame(rows, schema={"a": pl.String, "b": pl.Int64}, orient="row")
    assert _texts(templates(template), frame) == expected


def test_fingerprint_changes_with_any_of_the_three_files(templates: Templates) -> None:
    prints = {
        load_templates(templates(**texts)).fingerprint
        for texts in ({}, {"context": "a:"}, {"profile": "b:"}, {"preamble": "c"}, {"context": "a:", "profile": "b:"})
    }
    assert len(prints) == 5


def test_line_that_is_remembered_is_not_that_of_an_equal_value_of_another_kind(templates: Templates) -> None:
    chosen = load_templates(templates(context="{{ amount }}:"))
    for kind, said in ((pl.Int64, "1:"), (pl.Float64, "1.0:"), (pl.Boolean, "True:"), (pl.Int64, "1:")):
        assert chosen.render("context.j2", pl.DataFrame({"amount": pl.Series([1]).cast(kind)}))[0] == [said]


def test_lines_are_rendered_once_and_forgotten_when_they_are_too_many(
    templates: Templates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whereupon_templates, "_REMEMBERED", 3)
    chosen = load_templates(templates(context="{{ n }}:"))
    rendered: list[int] = []

    def text(self: object, file: str, variables: dict[str, list[tuple[int]]]) -> str:
        rendered.extend(row[0] for row in variables["rows_of_the_frame"])
        return "".join(f"{row[0]}:\n" for row in variables["rows_of_the_frame"])

    monkeypatch.setattr(whereupon_templates.TemplateSet, "_text", text)
    for numbers, new in (([1, 2, 2], [1, 2]), ([2, 3], [3]), ([1, 4], [4]), ([4, 1], [1])):
        rendered.clear()
        texts, index = chosen.render("context.j2", pl.DataFrame({"n": numbers}))
        assert [texts[at] for at in index] == [f"{n}:" for n in numbers]
        assert rendered == new
