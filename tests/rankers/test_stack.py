"""Masses of a stack against what its rankers say item by item, and what a search makes of them."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from whereupon.decode.search import score_all
from whereupon.errors import DataError
from whereupon.histories import Histories
from whereupon.histories.questions import num_previous
from whereupon.rankers import stack
from whereupon.rankers.families import FAMILIES
from whereupon.rankers.pooling import Pools, SearchedCatalogue, change_of
from whereupon.rankers.popular import popular_shares
from whereupon.rankers.protocol import Dense, Sparse
from whereupon.rankers.settings import BaselineName
from whereupon.rankers.stack import BoundStack, Member, PriorMasses, StackRecipe, fit_stack
from whereupon.tests.decode.tables import TableReading, make_trie

Row = tuple[int, int, int, str]
Build = Callable[[Sequence[Row], int], Histories]
Floats = NDArray[np.float64]
DAY, NUM_ITEMS = 86_400, 12


def _member(name: BaselineName, weight: float) -> dict[BaselineName, Member]:
    return {name: Member(FAMILIES[name].grid()[0], weight)}


AGAIN = _member("own counts", 0.8) | _member("learnt own events", 0.7)
NEW = _member("popularity", 0.6) | _member("transitions", 0.5)
GATE = _member("recent popularity", 0.3) | _member("learnt own events", 0.2)
GATED, UNGATED = StackRecipe(AGAIN, NEW, GATE, history_weight=0.9, bias=0.1), StackRecipe({}, AGAIN | NEW, {})


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


def _rows(histories: Histories) -> NDArray[np.int64]:
    return np.flatnonzero(histories.split_N == 1).astype(np.int64)


def _bound(histories: Histories, recipe: StackRecipe) -> BoundStack:
    return fit_stack(recipe, histories, "valid", 0).on(histories)


def _say(histories: Histories, name: BaselineName, row: int) -> Floats:
    """What a ranker says of each item, from its own answers, one after the other."""
    share_I = popular_shares(histories, "valid")
    answers = FAMILIES[name].ranker(histories, "valid", FAMILIES[name].grid()[0], 0).on(histories, "valid")
    if isinstance(answers, Dense):
        return answers.scores(np.array([row]))[0].astype(np.float64)
    assert isinstance(answers, Sparse)
    scored, p_I = answers.scores(np.array([row])), share_I.copy()
    total = scored.score_C.sum()
    if total > 0:
        for item, score in zip(scored.item_C.tolist(), scored.score_C.tolist(), strict=True):
            p_I[item] = 0.999 * score / total + 0.001 * share_I[item]
        p_I[np.setdiff1d(np.arange(NUM_ITEMS), scored.item_C)] *= 0.001
    return np.log(p_I)


def _past(histories: Histories, row: int) -> NDArray[np.bool_]:
    past_I = np.zeros(NUM_ITEMS, bool)
    past_I[histories.item_idx_N[histories.offset_U1[histories.user_idx_N[row]] : row]] = True
    return past_I


def _naive(histories: Histories, recipe: StackRecipe, row: int, odds: float) -> Floats:
    """p of each item, float64 [I]."""
    past_I, p_I = _past(histories, row), np.zeros(NUM_ITEMS)
    if not past_I.any():
        return popular_shares(histories, "valid")
    if not recipe.gated:
        past_I[:], odds = False, np.inf
    for members, chosen_I, share in (
        (recipe.again, past_I, 1 / (1 + np.exp(odds))), (recipe.new, ~past_I, 1 / (1 + np.exp(-odds))),
    ):  # fmt: skip
        if chosen_I.any():
            said = [one.weight * _say(histories, name, row) for name, one in members.items()]
            said_I = np.sum(said, axis=0)
            mass_I = np.where(chosen_I, np.exp(said_I), 0.0)
            p_I += share * mass_I / mass_I.sum()
    return p_I


def _parts(masses: PriorMasses, query: int) -> tuple[Floats, Floats]:
    """Masses of again and of new, by item."""
    parts = np.zeros(NUM_ITEMS), np.zeros(NUM_ITEMS)
    for part_I, query_X, item_X, mass_X in (
        (parts[0], masses.again_query_X, masses.again_item_X, masses.again_mass_X),
        (parts[1], masses.new_query_X, masses.new_item_X, masses.new_mass_X),
    ):
        part_I[item_X[query_X == query]] = mass_X[query_X == query]
    return parts


@pytest.mark.parametrize("recipe", [GATED, UNGATED], ids=["gated", "ungated"])
def test_stack_alone_is_what_its_rankers_say_together(histories: Histories, recipe: StackRecipe) -> None:
    """With a model that says nothing, so that the stack decides at every node."""
    bound, row_Q, trie = _bound(histories, recipe), _rows(histories), make_trie(3, NUM_ITEMS)
    masses = bound.masses(row_Q)
    change = change_of(masses, SearchedCatalogue(trie, bound.share_I), Pools())
    reading = TableReading(trie, len(row_Q), 0, "uniform")
    for query, row in enumerate(row_Q.tolist()):
        expected_I = _naive(histories, recipe, row, float(masses.log_odds_Q[query]))
        assert np.exp(score_all(reading, trie, query, change)) == pytest.approx(expected_I, rel=2e-4, abs=1e-7)
        reading.seen.clear()


def test_no_item_that_was_chosen_is_new_and_every_other_one_is(histories: Histories) -> None:
    row_Q = _rows(histories)
    masses = _bound(histories, GATED).masses(row_Q)
    for query, row in enumerate(row_Q.tolist()):
        again_I, new_I = _parts(masses, query)
        assert ((again_I > 0) == _past(histories, row)).all()
        assert ((new_I > 0) == ~_past(histories, row)).all()
    assert (masses.rest_mass_Q == 0).all()
    for mass_X in (masses.again_mass_X, masses.new_mass_X):
        assert mass_X.min() > 0
        assert mass_X.max() <= 1


def test_users_without_a_past_get_what_is_popular_and_who_knows_all_gets_it_again(histories: Histories) -> None:
    row_Q = _rows(histories)
    masses = _bound(histories, GATED).masses(row_Q)
    fresh_Q = num_previous(histories)[row_Q] == 0
    assert fresh_Q.sum() == 1
    assert np.isposinf(masses.log_odds_Q).tolist() == fresh_Q.tolist()
    assert np.isneginf(masses.log_odds_Q).tolist() == (histories.user_idx_N[row_Q] == 6).tolist()
    again_I, new_I = _parts(masses, int(fresh_Q.argmax()))
    assert not again_I.any()
    assert new_I / new_I.sum() == pytest.approx(popular_shares(histories, "valid"))


def test_odds_of_the_gate_are_its_own_and_those_of_rankers(histories: Histories) -> None:
    row_Q = _rows(histories)
    row_Q = row_Q[(num_previous(histories)[row_Q] > 0) & (histories.user_idx_N[row_Q] != 6)]
    bound = _bound(histories, GATED)
    own_Q, found_Q = bound.stack.gate.log_odds(histories, row_Q), bound.masses(row_Q).log_odds_Q
    for query, row in enumerate(row_Q.tolist()):
        expected = 0.9 * own_Q[query].clip(-10, 10) + 0.1
        for name, one in GATE.items():
            p_again = np.exp(_say(histories, name, row))[_past(histories, row)].sum()
            expected += one.weight * np.log((1 - p_again) / p_again).clip(-10, 10)
        assert found_Q[query] == pytest.approx(expected, rel=1e-6)


def test_rows_in_one_batch_are_answered_as_one_by_one(histories: Histories) -> None:
    bound, row_Q = _bound(histories, GATED), _rows(histories)
    together = bound.masses(row_Q)
    for query in range(len(row_Q)):
        alone = bound.masses(row_Q[[query]])
        assert alone.log_odds_Q == pytest.approx(together.log_odds_Q[[query]])
        for one_I, other_I in zip(_parts(alone, 0), _parts(together, query), strict=True):
            assert one_I == pytest.approx(other_I)


@pytest.fixture(name="large")
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy catalogue is too large to be scored whole; of a dense ranker three items count."""
    monkeypatch.setattr(stack, "WHOLE", 3)
    monkeypatch.setattr(stack, "_NAMED", 3)


@pytest.mark.usefixtures("large")
def test_large_catalogue_has_named_items_and_the_rest_by_popularity(histories: Histories) -> None:
    bound, row_Q, trie = _bound(histories, GATED), _rows(histories), make_trie(3, NUM_ITEMS)
    row_Q = row_Q[histories.user_idx_N[row_Q] != 6]
    masses = bound.masses(row_Q)
    change = change_of(masses, SearchedCatalogue(trie, bound.share_I), Pools())
    assert change.new.prior is not None
    found_QI = change.new.prior.of_items()
    power = sum(one.weight for one in NEW.values())
    assert masses.rest_power == pytest.approx(power)
    some_rest = False
    for query, row in enumerate(row_Q.tolist()):
        past_I, (_, named_I) = _past(histories, row), _parts(masses, query)
        assert not found_QI[query][past_I].any()
        rest_I = masses.rest_mass_Q[query] * bound.share_I**power
        expected_I = np.where(past_I, 0.0, np.where(named_I > 0, named_I, rest_I)) / masses.rest_mass_Q[query]
        assert found_QI[query] == pytest.approx(expected_I, rel=1e-6)
        assert (found_QI[query] > 0).tolist() == (~past_I).tolist()
        some_rest |= bool((~past_I & (named_I == 0)).any())
        log_prob_I = score_all(TableReading(trie, len(row_Q), 0, "uniform"), trie, query, change).astype(np.float64)
        assert np.exp(log_prob_I).sum() == pytest.approx(1, abs=1e-4)
    assert some_rest


def test_items_that_all_rankers_name_have_the_same_masses_in_a_large_catalogue(
    histories: Histories, monkeypatch: pytest.MonkeyPatch
) -> None:
    row_Q = _rows(histories)
    row_Q = row_Q[num_previous(histories)[row_Q] > 0]
    whole = _bound(histories, GATED).masses(row_Q)
    monkeypatch.setattr(stack, "WHOLE", 3)
    monkeypatch.setattr(stack, "_NAMED", NUM_ITEMS)
    bound = _bound(histories, GATED)
    large = bound.masses(row_Q)
    for query, row in enumerate(row_Q.tolist()):
        (again_I, new_I), (large_again_I, large_new_I) = _parts(whole, query), _parts(large, query)
        assert large_again_I == pytest.approx(again_I)
        if not _past(histories, row).all():
            assert large_new_I / large_new_I.sum() == pytest.approx(new_I / new_I.sum())
    assert large.log_odds_Q == pytest.approx(whole.log_odds_Q)


@pytest.mark.usefixtures("large")
def test_scores_without_probabilities_are_refused_for_a_large_catalogue(histories: Histories) -> None:
    bound = _bound(histories, StackRecipe({}, _member("EASE", 1.0), {}))
    with pytest.raises(DataError, match=r"'EASE' scores without probabilities, .* at most 3 items"):
        bound.masses(_rows(histories))


@pytest.mark.parametrize("large", [False, True])
def test_edited_catalogue_has_no_item_that_is_impossible(
    histories: Histories, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four items are gone, three came; the others stand elsewhere."""
    if large:
        monkeypatch.setattr(stack, "WHOLE", 3)
        monkeypatch.setattr(stack, "_NAMED", 3)
    bound, row_Q = _bound(histories, GATED), _rows(histories)
    index_T = np.array([10, -1, 3, 0, -1, 9, 1, -1, 7, 5, -1, 2])
    trie, masses = make_trie(4, 11), bound.masses(row_Q)  # 4, 6 and 8 are new to the catalogue
    share_I = np.full(11, 0.01)
    share_I[index_T[index_T >= 0]] = bound.share_I[index_T >= 0]
    change = change_of(masses, SearchedCatalogue(trie, share_I, index_T), Pools())
    for query, row in enumerate(row_Q.tolist()):
        reading = TableReading(trie, len(row_Q), 1, "random")
        p_I = np.exp(score_all(reading, trie, query, change).astype(np.float64))
        assert p_I.sum() == pytest.approx(1, abs=1e-4)
        assert (p_I > 0).all()
        past_I = np.zeros(11, bool)
        kept_T = index_T[_past(histories, row)]
        past_I[kept_T[kept_T >= 0]] = True
        assert change.again.prior is not None
        assert ((change.again.prior.of_items()[query] > 0) == past_I).all()
        assert (change.is_new(np.full(len(row_Q), 4))).all()


@pytest.mark.parametrize("large", [False, True])
def test_who_knows_all_that_is_left_gets_it_again(
    histories: Histories, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only three items left are those that this user has chosen before."""
    if large:
        monkeypatch.setattr(stack, "WHOLE", 3)
        monkeypatch.setattr(stack, "_NAMED", 3)
    row_Q = _rows(histories)
    row_Q = row_Q[(histories.user_idx_N[row_Q] == 0)][-1:]
    kept = np.flatnonzero(_past(histories, int(row_Q[0])))[:3]
    index_T = np.full(NUM_ITEMS, -1)
    index_T[kept] = np.arange(3)
    bound, trie = _bound(histories, GATED), make_trie(1, 3)
    change = change_of(bound.masses(row_Q), SearchedCatalogue(trie, bound.share_I[kept], index_T), Pools())
    assert change.log_odds_Q.tolist() == [-np.inf]
    log_prob_I = score_all(TableReading(trie, 1, 0, "random"), trie, 0, change)
    assert np.exp(log_prob_I).sum() == pytest.approx(1, abs=1e-4)


def test_rare_items_of_a_large_catalogue_stay_possible_whatever_the_power() -> None:
    share_I, none = np.append(1e-6, np.full(9, 0.111111)), np.zeros(0, np.int64)
    masses = PriorMasses(none, none, np.zeros(0), none, none, np.zeros(0), np.ones(1), 4.0, np.full(1, np.inf))
    change = change_of(masses, SearchedCatalogue(make_trie(0, 10), share_I), Pools())
    assert change.new.prior is not None
    assert (change.new.prior.of_items() > 0).all()


def test_recipe_is_read_as_it_was_written() -> None:
    read = StackRecipe.of_json(GATED.as_json())
    assert read == GATED
    assert read.identity == GATED.identity != UNGATED.identity
