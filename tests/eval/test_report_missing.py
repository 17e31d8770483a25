"""Reports of runs that lack something, and of runs whose names are hostile: each is whole, and nothing of them runs."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from whereupon.eval.rankings import Rankings, read_rankings, slug_of, slugs_in, write_rankings
from whereupon.eval.report import report
from whereupon.tests.eval.report_town import MODEL, STRONGEST, TEST, write_town
from whereupon.tests.eval.test_report_page import Page

SCRIPT = "<script>alert(1)</script>"
IMAGE = "\"'><img src=x onerror=alert(1)>"
EVERYTHING = {"leaderboard", "curves", "slices", "ablation", "calibration", "time", "map", "examples", "beyond",
              "provenance"}  # fmt: skip
FEW = slice(0, TEST, 33)  # 61 events are enough to have everything, and quicker


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The town with a sample of its test events."""
    run = write_town(tmp_path_factory.mktemp("missing") / "town")
    _each(run, lambda ranked: ranked.take(np.arange(TEST)[FEW]))
    return run


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    """A run folder to be spoilt."""
    shutil.copytree(small, tmp_path / "town")
    return tmp_path / "town"


def _each(run: Path, change: Callable[[Rankings], Rankings]) -> None:
    folder = run / "evaluation" / "test"
    for slug in slugs_in(folder):
        ranked, facts = read_rankings(folder, slug)
        write_rankings(folder, slug, change(ranked), facts)


def _keep(run: Path, *names: str) -> None:
    kept = {slug_of(name) for name in names}
    for path in (run / "evaluation" / "test").iterdir():
        if path.stem not in kept:
            path.unlink()


def _table(run: Path, name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    path = run / "histories" / f"{name}.parquet"
    change(pl.read_parquet(path)).write_parquet(path)


def _report(run: Path) -> tuple[str, Page, set[str]]:
    """The page's text, the page, and which sections it has."""
    html = report([run], run / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert not re.search(r"\b(nan|None|inf)\b", page.text)
    ids = {attributes.get("id") or "" for _, attributes in page.elements}
    return html, page, {one.removeprefix("data-1-") for one in ids if one.startswith("data-1-")}


def _without_weather(run: Path) -> None:
    _table(run, "events", lambda events: events.drop("temperature_c", "precipitation_mm"))


def _without_places(run: Path) -> None:
    _table(run, "events", lambda events: events.drop("latitude", "longitude"))
    _table(run, "items", lambda items: items.drop("latitude", "longitude"))


def _of_one_user(run: Path) -> None:
    user_N = pl.read_parquet(run / "histories" / "events.parquet")["user_idx"].to_numpy()
    _each(run, lambda ranked: ranked.take(user_N[ranked.row_E] == np.bincount(user_N[ranked.row_E]).argmax()))


def _with_empty_lists(run: Path) -> None:
    """The opponent says nothing at all of any event."""
    folder = run / "evaluation" / "test"
    ranked, facts = read_rankings(folder, slug_of(STRONGEST))
    nothing = replace(
        ranked, rank_E=np.zeros_like(ranked.rank_E), item_EK=np.full_like(ranked.item_EK, -1),
        score_EK=np.full_like(ranked.score_EK, -np.inf),
    )  # fmt: skip
    write_rankings(folder, slug_of(STRONGEST), nothing, facts)
    _keep(run, MODEL, STRONGEST)


@pytest.mark.parametrize(
    ("spoil", "lacks", "says"),
    [
        (lambda run: None, set(), "What was read"),
        (_without_weather, set(), "Time of day"),
        (_without_places, {"map"}, "Time of day"),
        (lambda run: _keep(run, MODEL, STRONGEST), {"ablation"}, f"the best baseline, {STRONGEST}"),
        (lambda run: _keep(run, "popularity", STRONGEST), {"ablation", "calibration"}, "What a model would read"),
        (lambda run: _keep(run, MODEL), {"ablation"}, "there is nothing to compare it with."),
        (_of_one_user, set(), "of 1 user of town"),
        (lambda run: _each(run, lambda ranked: ranked.take(np.array([0]))), {"time", "slices"}, "On 1 test event of"),
        (_with_empty_lists, {"ablation"}, "significantly better than the best baseline"),
        (_with_empty_lists, {"ablation"}, f"{STRONGEST}: no item at all for {len(range(TEST)[FEW])} of the events"),
        (lambda run: (run / "run.json").unlink(), set(), "not recorded, so none are shown"),
    ],
    ids=[
        "everything",
        "weather",
        "places",
        "ablation",
        "model",
        "opponent",
        "users",
        "events",
        "lists",
        "silence",
        "record",
    ],
)
def test_what_a_run_lacks_is_left_out_and_all_else_is_there(
    spoil: Callable[[Path], object], lacks: set[str], says: str, copy: Path
) -> None:
    spoil(copy)
    _, page, sections = _report(copy)
    assert says in page.text
    assert EVERYTHING - sections == lacks


def test_model_is_no_baseline_where_there_is_none(copy: Path) -> None:
    folder = copy / "evaluation" / "test"
    ranked, facts = read_rankings(folder, "random")
    write_rankings(folder, "random", ranked, {**facts, "kind": "run file"})
    _keep(copy, MODEL, "random")
    _, page, _ = _report(copy)
    assert "Difference from the best ranker" in page.text
    assert f"significantly worse than the best ranker, {MODEL}, p below" in page.text
    assert "best baseline" not in page.text


def test_hostile_names_are_text_and_never_markup(copy: Path) -> None:
    """Titles, users, categories, names of rankers, of runs and settings: all come from data that anybody may write."""
    hostile = copy.with_name(f"town{IMAGE.replace('/', '')}")
    copy.rename(hostile)
    _table(hostile, "items", lambda items: items.with_columns(
        title=pl.concat_str(pl.lit(SCRIPT + IMAGE), "title"), category=pl.lit(SCRIPT)))  # fmt: skip
    _table(hostile, "events", lambda events: events.with_columns(user_id=pl.concat_str(pl.lit(IMAGE), "user_id")))
    for path in (hostile / "evaluation" / "test").glob("*.json"):
        facts = json.loads(path.read_text())
        said = {"name": facts["name"] + SCRIPT, "command": SCRIPT, "settings": {SCRIPT: IMAGE}, "finished": SCRIPT}
        path.write_text(json.dumps({**facts, **said}))
    manifest = hostile / "histories" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "recipe": SCRIPT, "inputs": {IMAGE: SCRIPT}}))
    record = json.loads((hostile / "run.json").read_text())
    record["evaluate"]["config"][SCRIPT] = IMAGE
    (hostile / "run.json").write_text(json.dumps(record))
    html, page, sections = _report(hostile)
    assert sections == EVERYTHING
    assert SCRIPT in page.text
    assert html.count("&lt;script&gt;") > 100
    assert not re.search(r"<\s*/?\s*(script|img)", html, re.IGNORECASE)
    assert not {tag for tag, _ in page.elements} & {"script", "img"}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
