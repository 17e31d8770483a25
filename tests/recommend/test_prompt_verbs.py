"""`prompt diff`, `prompt lint` and `prompt fields` on a prepared town; none needs an adapter."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from whereupon.cli import app
from whereupon.config import load_config
from whereupon.errors import ConfigError
from whereupon.histories import prepare, read_histories
from whereupon.prompts import PromptSettings
from whereupon.recommend.numbers_report import number_report
from whereupon.recommend.prompt_fields import training_fields
from whereupon.recommend.prompt_verbs import changed, difference


@pytest.fixture(scope="module")
def town(make_town: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_town(tmp_path_factory.mktemp("town"), people=4, days=10)
    config = load_config(path)
    prepare(config.histories, config.catalogue, config.run)
    return path


def test_diff_shows_lines_that_differ_and_what_both_cost(town: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    done = CliRunner().invoke(app, ["prompt", "diff", str(town), "plain", "template=terse; budget_tokens=300"])
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("- ") and "day " in line]
    assert [line for line in lines if line.startswith("+ ") and "h" in line]
    table = lines[-3:]
    assert all(word in table[0] for word in ("tokens", "budget", "events", "profile", "preamble"))
    assert table[1].startswith("- plain")
    assert table[2].startswith("+ template=terse")


def test_diff_of_a_prompt_with_itself_has_no_coloured_lines(town: Path) -> None:
    done = CliRunner().invoke(app, ["prompt", "diff", str(town), "terse", "terse", "--user", "p00"])
    assert [line for line in done.stdout.splitlines() if line.startswith(("- ", "+ "))][2:] == [
        line for line in done.stdout.splitlines()[-2:]
    ]
    assert "user p00" in done.stderr


@pytest.mark.parametrize("text", ["templat=plain", "budget_tokens=none", "budget_tokens=[", "profile_tokens=-1"])
def test_settings_that_cannot_be_are_one_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected a template set, or settings such as"):
        changed(PromptSettings(), text)


def test_settings_change_the_rest_of_the_run_stays() -> None:
    base = PromptSettings(template="movies", budget_tokens=99)
    assert changed(base, "terse") == PromptSettings(template="terse", budget_tokens=99)
    assert changed(base, "prompts.budget_tokens=7; profile_tokens=1").budget_tokens == 7


def test_events_are_compared_from_the_question_on() -> None:
    one, other = ["Log.", "a: Bar", "b: Bar", "c:"], ["Log!", "b2: Bar", "c:"]
    said = [line.plain for line in difference(one, other, (3, 2))]
    assert said == ["- Log.", "+ Log!", "- a: Bar", "- b: Bar", "+ b2: Bar", "  c:"]


def test_lint_exits_with_1_only_for_errors(town: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["prompt", "lint", str(town)])
    assert done.exit_code == 0, done.stdout + done.stderr
    assert "0 errors" in done.stderr
    for name, text in (("preamble", "Log."), ("context", "{{ title }}:"), ("profile", "x{{ count }}:")):
        (tmp_path / f"{name}.j2").write_text(text)
    done = CliRunner().invoke(app, ["prompt", "lint", str(town), "--set", f"prompts.template={tmp_path}"])
    assert done.exit_code == 1
    assert "error leak: context.j2 uses 'title'" in done.stdout


def test_fields_are_reported_with_bits_and_tokens(town: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    done = CliRunner().invoke(app, ["prompt", "fields", str(town)])
    assert done.exit_code == 0, done.stdout + done.stderr
    heading, *rows = done.stdout.splitlines()[1:]
    assert all(word in heading for word in ("field", "bits", "corrected", "p", "tokens an event", "bits a token"))
    assert {"hour", "weekday", "weather"} <= {row.split()[0] for row in rows}
    assert "training events of 4 users" in done.stderr


def test_fields_are_the_same_whatever_is_held_out(town: Path) -> None:
    histories, settings = read_histories(load_config(town).run), PromptSettings()
    later = pl.col("split") != "train"
    changed = histories.events.with_columns(
        pl.when(later).then(99.0).otherwise("temperature_c").alias("temperature_c"),
        pl.when(later).then(pl.lit(0, pl.Int32)).otherwise("item_idx").alias("item_idx"),
    )
    assert not changed.equals(histories.events)
    frames = [training_fields(one, settings, 0) for one in (histories, replace(histories, events=changed))]
    assert frames[0][0].equals(frames[1][0])
    assert frames[0][1].equals(frames[1][1])


def test_numbers_are_reported_with_bits_of_items_and_categories_and_components(town: Path) -> None:
    histories = read_histories(load_config(town).run)
    values = np.random.default_rng(0).normal(size=(histories.events.height, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]])
    names = ("temperature_c", "precipitation_mm")
    drawn = [pl.Series(name, column) for name, column in zip(names, values.T, strict=True)]
    report = number_report(replace(histories, events=histories.events.with_columns(drawn)))
    assert report is not None
    assert report.names == names
    assert {one.name for one in report.item_W if one} == set(report.names)
    correlation = np.corrcoef(values[histories.split_N == 0].T)[0, 1]
    assert report.share_D[0] == pytest.approx((1 + abs(correlation)) / 2, abs=1e-6), "of two columns"
    assert np.abs(report.loading_WD) == pytest.approx(np.full((2, 2), 0.5**0.5))


def test_numbers_are_the_same_whatever_is_held_out(town: Path) -> None:
    histories = read_histories(load_config(town).run)
    later = pl.when(pl.col("split") != "train")
    changed = histories.events.with_columns(
        temperature_c=later.then(-pl.col("temperature_c")).otherwise("temperature_c")
    )
    one, other = (number_report(replace(histories, events=events)) for events in (histories.events, changed))
    assert one is not None
    assert other is not None
    assert (one.item_W, one.category_W) == (other.item_W, other.category_W)
    assert (one.loading_WD == other.loading_WD).all()


def test_context_without_numbers_has_no_report(town: Path) -> None:
    histories = read_histories(load_config(town).run)
    events = histories.events.drop("temperature_c", "precipitation_mm", strict=False)
    assert number_report(replace(histories, events=events)) is None
