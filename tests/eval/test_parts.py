"""Parts of log-odds: they add up, each is what it says it is, and the report shows them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from whereupon.decode.search import score_all
from whereupon.errors import DataError
from whereupon.eval.parts import other_items, parts_of, read_parts, write_parts
from whereupon.eval.rankings import Rankings, parts_file, read_rankings, slug_of, write_rankings
from whereupon.eval.report import report
from whereupon.eval.report.parts import EVERYTHING, TOTAL, added_parts, explained, first_with_parts
from whereupon.eval.report.runs import read_datasets
from whereupon.eval.slices import first_visits
from whereupon.histories import Histories
from whereupon.histories.questions import num_previous
from whereupon.rankers import stack
from whereupon.rankers.families import FAMILIES
from whereupon.rankers.parts import GATE, MODEL, NORMALISER
from whereupon.rankers.pooling import Pool, Pools, SearchedCatalogue, change_of
from whereupon.rankers.settings import BaselineName
from whereupon.rankers.stack import BoundStack, Member, StackRanker, StackRecipe, fit_stack
from whereupon.tests.decode.tables import TableReading, make_trie
from whereupon.tests.eval.report_town import MODEL as NAME
from whereupon.tests.eval.report_town import write_town

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]
Floats = NDArray[np.float64]
DAY, NUM_ITEMS = 86_400, 12


def _member(name: BaselineName, weight: float) -> dict[BaselineName, Member]:
    return {name: Member(FAMILIES[name].grid()[0], weight)}


AGAIN = _member("own counts", 0.8) | _member("learnt own events", 0.7)
NEW = _member("popularity", 0.6) | _member("transitions", 0.5)
RECIPES = {"gated": StackRecipe(AGAIN, NEW, {}), "ungated": StackRecipe({}, AGAIN | NEW, {})}
POOLED = Pools(Pool(1.3, 0.7), Pool(0.8, 0.5))


@pytest.fixture(name="histories")
def _histories(build: Build) -> Histories:
    """Five people; a sixth comes in the validation split, and a seventh has chosen everything by then."""
    random, rows = np.random.default_rng(0), []
    for user in range(5):
        for day in np.sort(random.choice(60, 20, replace=False)).tolist():
            rows.append((user, int(random.integers(NUM_ITEMS - 2)), day * DAY + user, "train" if day < 40 else "valid"))
    rows += [(5, 3, 50 * DAY, "valid"), (5, 4, 51 * DAY, "valid")]
    rows += [(6, item, item * DAY + 7, "train") for item in range(NUM_ITEMS)] + [(6, 2, 55 * DAY, "valid")]
    return build(rows, NUM_ITEMS)


def _answered(bound: BoundStack, pools: Pools, kind: str) -> tuple[Rankings, dict[str, Floats]]:
    """Rankings of a toy model with a stack over all events of validation, and their parts."""
    histories, trie = bound.histories, make_trie(3, NUM_ITEMS)
    row_E = np.flatnonzero(histories.split_N == 1).astype(np.int64)
    searched = SearchedCatalogue(trie, bound.share_I)
    change = change_of(bound.masses(row_E), searched, pools)
    item_E = histories.item_idx_N[row_E].astype(np.int64)
    log_EI = np.stack([score_all(TableReading(trie, len(row_E), 4, kind), trie, query, change)
                       for query in range(len(row_E))]).astype(np.float64)  # fmt: skip
    order_EI = np.argsort(-log_EI, axis=1, kind="stable")
    rankings = Rankings(
        row_E, (order_EI == item_E[:, None]).argmax(axis=1) + 1, order_EI[:, :5].astype(np.int32),
        np.take_along_axis(log_EI, order_EI, 1)[:, :5], log_EI[np.arange(len(row_E)), item_E].astype(np.float32),
    )  # fmt: skip
    parts = parts_of(bound, lambda row_Q: change_of(bound.masses(row_Q), searched, pools), rankings, item_E)
    return rankings, parts


def _bound(histories: Histories, recipe: StackRecipe) -> BoundStack:
    return fit_stack(recipe, histories, "valid", 0).on(histories)


@pytest.mark.parametrize("pools", [Pools(), POOLED], ids=["as trained", "pooled"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_parts_add_up_to_the_log_odds(histories: Histories, recipe: str, pools: Pools) -> None:
    rankings, parts = _answered(_bound(histories, RECIPES[recipe]), pools, "random")
    item_E = histories.item_idx_N[rankings.row_E].astype(np.int64)
    names = list(parts)
    assert [names[0], *names[-2:]] == [GATE, NORMALISER, MODEL]
    assert {*AGAIN, *NEW} < set(parts)
    assert rankings.log_prob_E is not None
    for at, item in enumerate(item_E.tolist()):
        place = 1 if rankings.item_EK[at, 0] == item else 0
        expected = rankings.log_prob_E[at] - rankings.score_EK[at, place]
        assert sum(float(one[at]) for one in parts.values()) == pytest.approx(expected, abs=1e-4)
    assert np.ptp(parts[MODEL]) > 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_parts_of_rankers_are_what_the_stack_alone_says(histories: Histories, recipe: str) -> None:
    """The model's part is what is left: nothing where it says nothing."""
    bound = _bound(histories, RECIPES[recipe])
    rankings, parts = _answered(bound, Pools(), "random")
    item_E = histories.item_idx_N[rankings.row_E].astype(np.int64)
    alone_EI = StackRanker(bound.stack).on(histories, "valid").scores(rankings.row_E)
    event_E, (other_E, _) = np.arange(len(item_E)), other_items(rankings, item_E)
    expected_E = alone_EI[event_E, item_E] - alone_EI[event_E, other_E]
    assert sum(one for name, one in parts.items() if name != MODEL) == pytest.approx(expected_E, abs=1e-4)
    _, silent = _answered(bound, Pools(), "uniform")
    assert silent[MODEL] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("pools", [Pools(), POOLED], ids=["as trained", "pooled"])
def test_each_ranker_is_worked_out_by_hand(histories: Histories, pools: Pools) -> None:
    bound = _bound(histories, RECIPES["gated"])
    rankings, parts = _answered(bound, pools, "random")
    item_E = histories.item_idx_N[rankings.row_E].astype(np.int64)
    other_E, _ = other_items(rankings, item_E)
    says = {name: FAMILIES[name].ranker(histories, "valid", FAMILIES[name].grid()[0], 0).on(histories, "valid")
            for name in ("transitions", "popularity")}  # fmt: skip
    num_apart = 0
    for at, row in enumerate(rankings.row_E.tolist()):
        if num_previous(histories)[row] == 0:
            assert parts["transitions"][at] == 0
            share_I = np.log(bound.share_I)
            expected = pools.new.weight * (share_I[item_E[at]] - share_I[other_E[at]])
            assert parts["popularity"][at] == pytest.approx(expected, abs=1e-5)
            continue
        past = set(histories.item_idx_N[histories.offset_U1[histories.user_idx_N[row]] : row].tolist())
        true, other = int(item_E[at]), int(other_E[at])
        signs = [(true, 1.0), (other, -1.0)]
        for name in ("transitions", "popularity"):
            said_I = says[name].scores(np.array([row]))[0]
            expected = sum(sign * NEW[name].weight * pools.new.weight * said_I[item] for item, sign in signs
                           if item not in past)  # fmt: skip
            assert parts[name][at] == pytest.approx(expected, abs=1e-5)
        if (true in past) == (other in past):
            assert parts[GATE][at] == 0
            assert parts[NORMALISER][at] == pytest.approx(0, abs=1e-9)
        else:
            num_apart += 1
            assert parts[GATE][at] != 0
    assert num_apart


def test_large_catalogue_has_all_parts_too(histories: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "WHOLE", 3)
    monkeypatch.setattr(stack, "_NAMED", 3)
    _, parts = _answered(_bound(histories, RECIPES["gated"]), Pools(), "uniform")
    assert parts[MODEL] == pytest.approx(0, abs=1e-4)
    assert np.abs(parts["transitions"]).max() > 0.1


def test_ranker_that_alone_decides_has_all_of_it(build: Build) -> None:
    """Everybody's own counts say where they go; the model says nothing."""
    rows = [(user, item, day * DAY + user, "train" if day < 12 else "valid")
            for user in range(4) for day, item in enumerate([user] * 9 + [user + 4] * 3 + [user] * 3)]  # fmt: skip
    histories = build(rows, NUM_ITEMS)
    _, parts = _answered(_bound(histories, StackRecipe(_member("own counts", 1.0), NEW, {})), Pools(), "uniform")
    assert (parts["own counts"] > 0.9).all()
    for name in parts.keys() - {"own counts"}:
        assert parts[name] == pytest.approx(0, abs=1e-4)


def test_event_without_another_item_or_held_impossible_has_no_parts(histories: Histories) -> None:
    bound = _bound(histories, RECIPES["gated"])
    rankings, _ = _answered(bound, Pools(), "random")
    item_EK, score_EK = rankings.item_EK.copy(), rankings.score_EK.copy()
    item_EK[0], score_EK[0] = -1, -np.inf
    assert rankings.log_prob_E is not None
    log_prob_E = rankings.log_prob_E.copy()
    log_prob_E[1] = -np.inf
    less = replace(rankings, item_EK=item_EK, score_EK=score_EK, log_prob_E=log_prob_E)
    searched = SearchedCatalogue(make_trie(3, NUM_ITEMS), bound.share_I)
    item_E = histories.item_idx_N[rankings.row_E].astype(np.int64)
    parts = parts_of(bound, lambda row_Q: change_of(bound.masses(row_Q), searched, Pools()), less, item_E)
    for one_E in parts.values():
        assert np.isnan(one_E[:2]).all()
        assert np.isfinite(one_E[2:]).all()


def test_parts_are_read_as_they_were_written_and_go_with_their_rankings(tmp_path: Path) -> None:
    row_E = np.array([2, 5, 9])
    parts = {GATE: np.array([0.5, np.nan, 0.0]), "own counts": np.array([1.0, np.nan, -2.0]),
             MODEL: np.array([0.1, np.nan, 0.2])}  # fmt: skip
    write_parts(tmp_path, "one", row_E, parts)
    found = read_parts(tmp_path, "one", np.array([1, 2, 5]))
    assert found is not None
    assert list(found) == list(parts)
    assert found["own counts"] == pytest.approx([np.nan, 1.0, np.nan], nan_ok=True)
    assert read_parts(tmp_path, "two", row_E) is None
    file = parts_file(tmp_path, "one")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"^\S+one\.parts\.parquet should hold .* `whereupon evaluate` again\.$"):
        read_parts(tmp_path, "one", row_E)
    none = np.full((3, 1), -1, np.int32)
    write_rankings(tmp_path, "one", Rankings(row_E, np.zeros(3, np.int64), none, np.full((3, 1), -np.inf)), {})
    assert not file.is_file()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy model with parts: own counts decide repeats, and the model first visits; of one event, none are known."""
    run = write_town(tmp_path_factory.mktemp("parts") / "town")
    folder, slug = run / "evaluation" / "test", slug_of(NAME)
    [dataset] = read_datasets([run])
    is_first_E = first_visits(dataset.histories)[dataset.row_E]
    noise_E = np.random.default_rng(0).normal(0, 0.1, len(is_first_E))
    noise_E[0] = np.nan
    write_parts(folder, slug, read_rankings(folder, slug)[0].row_E, {
        GATE: noise_E, "own counts": np.where(is_first_E, -1.0, 3.0) + noise_E, NORMALISER: 0 * noise_E,
        MODEL: np.where(is_first_E, 2.0, 0.0) + noise_E,
    })  # fmt: skip
    return run


def test_means_are_those_of_all_events_first_visits_and_repeats(town: Path) -> None:
    [dataset] = read_datasets([town])
    [found] = added_parts(dataset, 7)
    is_first_E = first_visits(dataset.histories)[dataset.row_E]
    assert found["ranker"].name == NAME
    assert found["groups"] == {
        EVERYTHING: len(is_first_E) - 1, "first visits": is_first_E[1:].sum(), "repeats": (~is_first_E[1:]).sum()
    }  # fmt: skip
    assert [name for name, _ in found["rows"]] == [GATE, "own counts", NORMALISER, MODEL, TOTAL]
    cells = {name: [one.mean for one in row] for name, row in found["rows"]}
    assert cells["own counts"][1:] == pytest.approx([-1, 3], abs=0.05)
    assert cells[MODEL][1:] == pytest.approx([2, 0], abs=0.05)
    assert [one.sign for one in dict(found["rows"])["own counts"]][1:] == [-1, 1]
    assert found["num_unknown"] == 1
    assert re.search(r"own counts \+(2\.9|3\.0)", found["panels"][2][1])


def test_event_is_explained_by_its_own_parts(town: Path) -> None:
    [dataset] = read_datasets([town])
    parts = first_with_parts(dataset)
    assert parts is not None
    assert explained(dataset, 0, parts) is None
    one = explained(dataset, 1, parts)
    assert one is not None
    assert one["other"] != dataset.histories.items["title"][int(dataset.histories.item_idx_N[dataset.row_E[1]])]
    assert [name for name, _ in one["rows"]] == [GATE, "own counts", MODEL], "a normaliser of 0 says nothing"
    assert one["total"] == pytest.approx(sum(value for _, value in one["rows"]), abs=1e-6)


def test_page_shows_what_each_part_adds(town: Path, tmp_path: Path) -> None:
    html = report([town], tmp_path / "with.html").read_text(encoding="utf-8")
    assert html.count('id="data-1-adds"') == 1
    assert "What each part adds" in html
    assert "Mean parts of the log-odds of true items, repeats: gate" in html
    assert 8 <= len(re.findall(r'<table class="adds"><caption><span>[^<]*parts of the log-odds against', html)) <= 10
    parts_file(town / "evaluation" / "test", slug_of(NAME)).rename(tmp_path / "away")
    try:
        without = report([town], tmp_path / "without.html").read_text(encoding="utf-8")
    finally:
        (tmp_path / "away").rename(parts_file(town / "evaluation" / "test", slug_of(NAME)))
    assert "What each part adds" not in without
    assert "parts of the log-odds" not in without
