"""The page as a whole: what it says of a town whose truth is known; that nothing is fetched, or left unescaped."""

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from whereupon.errors import ConfigError
from whereupon.eval.rankings import read_rankings, slug_of, write_rankings
from whereupon.eval.report import report
from whereupon.eval.report.headline import headline
from whereupon.eval.report.runs import Ranked, read_datasets
from whereupon.eval.report.sections import leaderboard
from whereupon.histories.questions import STRETCH
from whereupon.tests.eval.report_town import CATEGORIES, MODEL, STRONGEST, TEST, write_town

pytestmark = pytest.mark.slow  # all together

VOID = {"meta", "link", "col"}


class Page(HTMLParser):
    """Elements in order, with the text of each; complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & {tag for tag, _ in self.open}:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_town(tmp_path_factory.mktemp("page") / "town")


@pytest.fixture(scope="module")
def html(town: Path) -> str:
    return report([town], town / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def _ndcg(town: Path, name: str) -> float:
    """Worked out again, from the definition."""
    rank_E = read_rankings(town / "evaluation" / "test", slug_of(name))[0].rank_E
    return float(np.mean([1 / np.log2(rank + 1) if 1 <= rank <= 10 else 0.0 for rank in rank_E]))


def test_nothing_is_fetched_and_the_browser_is_reported_so(html: str, page: Page) -> None:
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", html)
    assert not {"script", "iframe", "img", "object"} & {tag for tag, _ in page.elements}
    assert {attributes.get("href") for attributes in page.of("link")} == {"data:,"}
    [policy] = [attributes["content"] for attributes in page.of("meta") if "http-equiv" in attributes]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_every_table_has_a_caption_and_every_picture_words(html: str, page: Page) -> None:
    tables = re.findall(r"<table.*?</table>", html, re.DOTALL)
    assert len(tables) > 20
    assert all(re.search(r"<caption><span>[^<]*\S", table) for table in tables)
    assert all("<th scope=" in table for table in tables)
    pictures = page.of("svg")
    assert len(pictures) > 20
    assert all(p.get("aria-hidden") == "true" or (p["role"] == "img" and p["aria-label"]) for p in pictures)


def test_anchors_lead_somewhere_and_ids_are_unique(page: Page) -> None:
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert set(ids.values()) == {1}
    links = [attributes["href"] or "" for attributes in page.of("a")]
    assert len(links) > 8
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_headline_says_who_won_and_by_how_much(town: Path, page: Page) -> None:
    ours, theirs = _ndcg(town, MODEL), _ndcg(town, STRONGEST)
    assert ours > theirs
    assert (
        f"On {TEST:,} test events of 149 users of town, split by time and each predicted from what came before it among"
        in page.text
    )
    assert f"among all 60 items, {MODEL} reaches nDCG@10 {ours:.3f} (95 % interval " in page.text
    assert f"the best baseline, {STRONGEST}: the difference of +{ours - theirs:.3f} (" in page.text


def test_leaderboard_has_every_ranker_with_its_figure(town: Path, html: str) -> None:
    [board] = re.findall(r'<table class="board">.*?</table>', html, re.DOTALL)
    rows = re.findall(r"<tr class=.*?</tr>", board, re.DOTALL)
    names = [MODEL, STRONGEST, "own counts", "popularity", "random"]
    assert len(rows) == len(names)
    for name, row in zip(names, rows, strict=True):
        assert name in row
        assert f'<span class="value">{_ndcg(town, name):.3f}</span>' in row
    assert "significantly worse" in rows[-1]
    assert "significantly" not in rows[1]  # the best baseline is not tested against itself


def test_sections_are_all_there(page: Page) -> None:
    ids = {attributes.get("id") for _, attributes in page.elements}
    parts = (
        "leaderboard",
        "curves",
        "slices",
        "ablation",
        "calibration",
        "time",
        "map",
        "examples",
        "beyond",
        "provenance",
    )
    assert {f"data-1-{part}" for part in parts} <= ids


def test_text_from_the_data_is_escaped(html: str, page: Page) -> None:
    assert "<Hall>" in CATEGORIES[-1]
    assert "<Hall>" not in html
    assert "Market <Hall> & Co" in page.text


def test_ablation_shows_what_each_context_is_worth(town: Path, page: Page) -> None:
    gap = _ndcg(town, f"{MODEL}, time removed") - _ndcg(town, MODEL)
    assert gap < -0.02
    assert f"−{-gap:.3f}" in page.text  # noqa: RUF001
    assert "time removed" in page.text
    assert "Lines changed" in page.text
    assert "41.0 %" in page.text


def test_examples_are_ten_and_each_shows_both_lists_and_its_prompt(html: str) -> None:
    shown = re.findall(r'<article class="example">.*?</article>', html, re.DOTALL)
    assert len(shown) == 10
    for one in shown:
        assert one.count('<table class="guesses">') == 2
        assert one.count("<tr") >= 20
        assert "<pre" in one
    words = Counter(re.search(r"<strong>(.*?)</strong>", one)[1] for one in shown)  # type: ignore[index]
    assert words == {"ranked first": 4, "ranked 2 to 10": 3, "not among the first 10": 3}


def test_slices_of_too_few_events_are_left_out_and_that_is_said(page: Page) -> None:
    assert "2 slices of fewer than 20 events are left out." in page.text


def test_command_of_every_ranker_is_reported(page: Page) -> None:
    for name in (MODEL, STRONGEST, "random"):
        assert f"whereupon evaluate town.yaml --only '{slug_of(name)}'" in page.text


@pytest.mark.slow
def test_same_seed_gives_the_same_page_but_for_its_date(town: Path, html: str) -> None:
    again = report([town], town / "again.html").read_text(encoding="utf-8")
    date = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
    assert date.sub("", again) == date.sub("", html)
    other = report([town], town / "other.html", seed=8).read_text(encoding="utf-8")
    assert date.sub("", other) != date.sub("", html)


@pytest.mark.slow
def test_several_datasets_stand_side_by_side(town: Path, tmp_path: Path) -> None:
    village = write_town(tmp_path / "village", seed=9, name="village")
    page = Page(report([town, village], tmp_path / "report.html").read_text(encoding="utf-8"))
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert {"data-1", "data-2", "data-2-leaderboard"} <= ids
    assert "2 datasets: town, test; village, test" in page.text
    assert page.of("table")[0] == {"class": "overview"}


def test_metric_that_does_not_exist_is_a_users_error(town: Path) -> None:
    with pytest.raises(ConfigError, match="no metric 'nDCC@10'"):
        report([town], town / "none.html", metric="nDCC@10")
    assert not (town / "none.html").exists()


def test_page_is_small(html: str) -> None:
    assert len(html) < 400_000
    assert html.count("\n") < 10_000
    assert str(TEST // 1000) + ",000" in html


def test_infinite_log_loss_is_reported_and_not_drawn(town: Path, tmp_path: Path) -> None:
    run = tmp_path / "town"
    shutil.copytree(town, run)
    ranked, facts = read_rankings(run / "evaluation" / "test", slug_of(MODEL))
    assert ranked.log_prob_E is not None
    held_impossible = np.where(np.arange(TEST) % 700 == 0, -np.inf, ranked.log_prob_E).astype(np.float32)
    worse = replace(ranked, log_prob_E=held_impossible)
    write_rankings(run / "evaluation" / "test", "impossible", worse, facts | {"name": "impossible"})
    page = Page(report([run], run / "report.html", metric="log-loss").read_text(encoding="utf-8"))
    assert f"{MODEL} reaches log-loss 2.5" in page.text
    assert "the difference from the next best ranker, impossible, is −∞ and cannot be tested." in page.text  # noqa: RUF001


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        (
            {"split": {"protocol": "leave_one_out"}, "repeats": "allowed"},
            "each the last of its user and each predicted",
        ),
        ({"split": {"protocol": "user_cold_start"}, "repeats": "excluded"}, "without the user's own past ones"),
        ({"split": {}, "num_without_candidate": 12}, "12 further events are not predicted"),
    ],
)
def test_protocol_of_the_rankings_is_reported(protocol: dict[str, object], said: str, town: Path) -> None:
    [dataset] = read_datasets([town])
    asked = replace(dataset.contender, facts={**dataset.contender.facts, "protocol": protocol})
    other = replace(dataset, rankers=[asked, *dataset.rankers[1:]])
    found = headline(other, leaderboard(other, 7))
    assert said in " ".join([found["sentence"], *found["facts"].values(), *found["caveats"]])


@pytest.mark.parametrize(
    ("split", "num_split_events", "said"),
    [
        ("test-2000", 4113, "a sample of 2,000 of 4,113 events, in stretches of eight in a row of one user"),
        ("test-2000", None, "a sample of 2,000 events, in stretches of eight in a row of one user"),
        ("test-2000", 2000, ""),
        ("test-2500", None, ""),
        ("test", 2000, ""),
    ],
)
def test_sample_is_said_to_be_one(split: str, num_split_events: int | None, said: str, town: Path) -> None:
    assert STRETCH == 8
    [dataset] = read_datasets([town])
    known = {} if num_split_events is None else {"num_split_events": num_split_events}
    rankers = [replace(one, facts={**one.facts, **known}) for one in dataset.rankers]
    sample = replace(dataset, split=split, rankers=rankers)
    caveats = " ".join(headline(sample, leaderboard(sample, 7))["caveats"])
    assert (said in caveats) if said else ("sample" not in caveats)


def test_log_loss_is_said_to_be_over_the_whole_catalogue_where_repeats_are_no_candidates(town: Path) -> None:
    [dataset] = read_datasets([town])

    def caveats(repeats: str, rankers: Sequence[Ranked]) -> str:
        asked = [replace(one, facts={**one.facts, "protocol": {"repeats": repeats}}) for one in rankers]
        other = replace(dataset, rankers=asked)
        return " ".join(headline(other, leaderboard(other, 7))["caveats"])

    without_probabilities = [one for one in dataset.rankers if one.rankings.log_prob_E is None]
    assert "over the whole catalogue" in caveats("excluded", dataset.rankers)
    assert "over the whole catalogue" not in caveats("allowed", dataset.rankers)
    assert "over the whole catalogue" not in caveats("excluded", without_probabilities)
