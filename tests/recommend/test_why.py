"""Explanations: shares that add up, parts that add up, other wordings that are what they say, and a budget."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from whereupon.arrays import Float64
from whereupon.config import Config
from whereupon.recommend import Recommender, Request, RequestContext, RequestFilters
from whereupon.recommend.shapley import shapley_values
from whereupon.recommend.shown import recommend_verb
from whereupon.recommend.why import explaining
from whereupon.recommend.wordings import EVENT_GROUPS, Worded
from whereupon.tests.recommend.games import captum_values, shap_values, value_function

AT, RAIN = "2024-01-20T12:00:00", "rain, 18 C"


@pytest.fixture(params=["alone", "on top"])
def recommender(
    request: pytest.FixtureRequest, town_copy: Callable[..., Config], on_top_copy: Callable[..., Config]
) -> Iterator[Recommender]:
    with Recommender.load(town_copy() if request.param == "alone" else on_top_copy()) as recommender:
        yield recommender


@pytest.fixture
def alone(town_copy: Callable[..., Config]) -> Iterator[Recommender]:
    with Recommender.load(town_copy()) as recommender:
        yield recommender


# The values


def test_shapley_values_are_means_over_all_orders_and_add_up() -> None:
    value_SK = np.random.default_rng(3).normal(size=(16, 2))
    expected = np.zeros((4, 2))
    for order in itertools.permutations(range(4)):
        bits = 0
        for player in order:
            expected[player] += (value_SK[bits | 1 << player] - value_SK[bits]) / math.factorial(4)
            bits |= 1 << player
    assert np.allclose(shapley_values(value_SK), expected)
    assert np.allclose(shapley_values(value_SK).sum(axis=0), value_SK[-1] - value_SK[0])


def test_player_who_changes_nothing_gets_nothing() -> None:
    value_SK = np.random.default_rng(4).normal(size=(4, 3))
    assert np.allclose(shapley_values(np.concatenate([value_SK, value_SK]))[2], 0)


def test_game_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="not 6"):
        shapley_values(np.zeros((6, 1)))


# Of an answer


def test_shares_add_up_to_each_items_log_probability(recommender: Recommender) -> None:
    found = recommender.explain("p00", at=AT, weather=RAIN, budget_s=math.inf)
    assert found.left_out == []
    ranked = recommender.recommend("p00", at=AT, weather=RAIN)
    assert [why.item_id for why in found.items] == ranked["item_id"].to_list()
    for why in found.items:
        assert {share.group for share in why.groups} >= {"time", "weather", "recent events"}
        assert len(why.groups) <= 6
        assert why.nothing_log_prob is not None
        added = sum(share.log_prob or 0.0 for share in why.groups)
        assert added + why.nothing_log_prob == pytest.approx(math.log(why.probability), abs=1e-4)


def test_parts_add_up_to_the_log_odds_and_name_every_ranker(on_top_copy: Callable[..., Config]) -> None:
    with Recommender.load(on_top_copy()) as recommender:
        found = recommender.explain("p00", at=AT, weather=RAIN, budget_s=0.0)
        stack = recommender.catalogues.blend.stack
    assert stack is not None
    probability = {why.item_id: why.probability for why in found.items}
    for why in found.items:
        assert why.against is not None
        expected = math.log(why.probability) - math.log(probability[why.against])
        assert why.log_odds == pytest.approx(expected, abs=1e-6)
        assert sum(part.log_odds for part in why.parts) == pytest.approx(expected, abs=1e-6)
        names = {part.name for part in why.parts}
        assert {"model", "gate"} <= names
        assert set(stack.recipe.new) <= names


def test_model_alone_is_all_of_the_log_odds(alone: Recommender) -> None:
    why = alone.explain("p00", at=AT, budget_s=0.0).items[0]
    assert [(part.name, part.log_odds) for part in why.parts] == [("model", why.log_odds)]


def test_without_weather_is_the_answer_to_a_question_without_weather(recommender: Recommender) -> None:
    """The request is a week after the last event, so that the weather is unknown where it is not said."""
    found = recommender.explain("p00", at="2024-01-30T12:00", weather=RAIN, budget_s=math.inf)
    ranked = recommender.recommend("p00", at="2024-01-30T12:00").rows(named=True)
    expected = {row["item_id"]: (row["rank"], row["probability"]) for row in ranked}
    for why in found.items:
        [share] = [share for share in why.groups if share.group == "weather"]
        rank, probability = expected[why.item_id]
        assert share.without.rank == rank
        assert share.without.probability == pytest.approx(probability, rel=1e-4)


def test_hour_later_is_the_answer_an_hour_later(recommender: Recommender) -> None:
    found = recommender.explain("p00", at=AT, weather=RAIN, budget_s=math.inf)
    ranked = recommender.recommend("p00", at="2024-01-20T13:00:00", weather=RAIN).rows(named=True)
    expected = {row["item_id"]: (row["rank"], row["probability"]) for row in ranked}
    for why in found.items:
        assert why.hour_later is not None
        rank, probability = expected[why.item_id]
        assert why.hour_later.rank == rank
        assert why.hour_later.probability == pytest.approx(probability, rel=1e-4)


def test_past_events_are_the_users_own_and_the_most_important_come_first(recommender: Recommender) -> None:
    own = recommender.histories.events.filter(user_id="p01")
    known = {(row["item_id"], row["local_time"].isoformat(timespec="minutes")) for row in own.iter_rows(named=True)}
    for why in recommender.explain("p01", at=AT, weather=RAIN, budget_s=math.inf).items:
        assert 1 <= len(why.events) <= 3
        assert {(event.item_id, event.time) for event in why.events} <= known
        sizes = [abs(event.log_prob) for event in why.events]
        assert sizes == sorted(sizes, reverse=True)
        assert max(sizes) > 0


def test_no_other_users_events_change_or_enter_an_explanation(alone: Recommender) -> None:
    shown = alone.explain("p00", at=AT, budget_s=math.inf).model_dump_json()
    assert not [user for user in alone.user_ids if user != "p00" and user in shown]


def test_sentence_names_the_item_its_rank_and_an_hour_later(recommender: Recommender) -> None:
    found = recommender.explain("p00", at=AT, weather=RAIN, budget_s=math.inf)
    for why, place in zip(found.items, ("first", "second", "third", "number 4", "number 5"), strict=True):
        assert why.sentence.startswith(f"{why.title} is {place} with ")
        assert "an hour later it would be" in why.sentence
        assert why.sentence.endswith(".")
        assert "\n" not in why.sentence


def test_what_the_time_does_not_suffice_for_is_left_out_and_named(alone: Recommender) -> None:
    found = alone.explain("p00", at=AT, weather=RAIN, budget_s=0.0)
    assert len(found.items) == 5
    assert any("each group" in what for what in found.left_out)
    assert any("past events" in what for what in found.left_out)
    assert found.items[0].groups == []
    assert found.items[0].events == []
    assert found.items[0].hour_later is None
    assert "the language model" in found.items[0].sentence


def test_answer_without_items_has_nothing_to_explain(alone: Recommender) -> None:
    found = alone.explain("p00", at=AT, filters=RequestFilters(only=[]), budget_s=math.inf)
    assert (found.items, found.left_out) == ([], [])


def test_rank_is_unknown_where_an_item_leaves_the_list(alone: Recommender) -> None:
    ranks = [
        share.without.rank
        for at in range(8)
        for why in alone.explain("p00", k=1, at=f"2024-01-30T{9 + at:02}:00", weather=RAIN, budget_s=math.inf).items
        for share in why.groups
    ]
    assert set(ranks) <= {1, None}


# Wordings


def _worded(recommender: Recommender) -> Worded:
    return Worded(recommender.question(Request("p00", None, RequestContext(AT, RAIN))))


def test_wording_with_every_group_is_the_prompt_itself(recommender: Recommender) -> None:
    worded = _worded(recommender)
    text_L, query = worded.past_without(())
    assert np.array_equal(np.concatenate([text_L, worded.last_line(())]), worded.question.prompt.tokens_L)
    assert query.equals(worded.query)


def test_wording_without_groups_of_events_says_less(recommender: Recommender) -> None:
    worded = _worded(recommender)
    whole = len(worded.past_without(())[0])
    sizes = {group: len(worded.past_without((group,))[0]) for group in worded.groups if group in EVENT_GROUPS}
    assert sizes
    assert all(size < whole for size in sizes.values())
    text_L, query = worded.past_without(EVENT_GROUPS)
    assert query.height == 1
    assert np.array_equal(text_L, worded.question.version.encoder.preamble)


def test_wording_without_one_event_is_the_prompt_of_a_history_without_it(alone: Recommender) -> None:
    worded = _worded(alone)
    text_L, query = worded.without_event(1)
    text = alone.tokenizer.decode(text_L.tolist()).splitlines()
    before = alone.tokenizer.decode(worded.question.prompt.tokens_L.tolist()).splitlines()
    assert text == [*before[:-2], before[-1]]
    assert query.height == worded.query.height - 1


def test_groups_that_the_prompt_does_not_have_are_no_players(town_copy: Callable[..., Config]) -> None:
    with Recommender.load(town_copy()) as recommender:
        worded = Worded(recommender.question(Request(None, [], RequestContext(AT))))
        assert worded.groups == ("time",)
        answer = recommender.answer(worded.question)
        found = recommender.explained(answer, math.inf)
    assert [share.group for share in found.items[0].groups] == ["time"]
    assert found.items[0].events == []


def test_explanation_asks_the_model_nothing_once_the_time_is_up(alone: Recommender) -> None:
    answer = alone.answer(alone.question(Request("p00", None, RequestContext(AT))))
    with pytest.raises(StopIteration):
        next(explaining(answer, alone.catalogues.blend, alone.histories, 0.0))


# Against readings that share nothing, and other libraries


def test_shares_are_those_of_wordings_that_are_read_one_by_one(recommender: Recommender) -> None:
    answer = recommender.answer(recommender.question(Request("p00", None, RequestContext(AT, RAIN))), 3)
    expected_GK = shapley_values(value_function(recommender, answer))
    found_GK = np.array(
        [[share.log_prob for share in why.groups] for why in recommender.explained(answer, math.inf).items]
    ).T
    assert np.abs(found_GK - expected_GK).max() < 1e-4


@pytest.mark.filterwarnings("ignore")  # of what these libraries import
@pytest.mark.parametrize(("name", "library"), [("captum", captum_values), ("shap", shap_values)])
def test_shares_are_those_of_another_library(
    alone: Recommender, name: str, library: Callable[[Float64], Float64 | None]
) -> None:
    answer = alone.answer(alone.question(Request("p00", None, RequestContext(AT, RAIN))), 3)
    expected_GK = library(value_function(alone, answer))
    if expected_GK is None:
        pytest.skip(f"{name} is not installed; it comes with the extra explain-check")
    found_GK = np.array([[share.log_prob for share in why.groups] for why in alone.explained(answer, math.inf).items]).T
    assert np.abs(found_GK - expected_GK).max() < 1e-3


# On the command line


def test_command_line_says_why_in_a_sentence_and_in_figures(
    alone: Recommender, capsys: pytest.CaptureFixture[str]
) -> None:
    context = RequestContext(AT, RAIN)
    recommend_verb(alone.config, "p00", context, RequestFilters(), k=2, versus=None, as_json=False, why=True)
    printed = capsys.readouterr().out
    [first, second] = alone.explain("p00", k=2, at=AT, weather=RAIN, budget_s=math.inf).items
    assert f"1. {first.sentence}" in printed
    assert f"2. {second.sentence}" in printed
    assert f"against {first.item_id}: model " in printed
    assert "prompt: time " in printed


def test_command_line_gives_the_explanation_as_json_on_request(
    alone: Recommender, capsys: pytest.CaptureFixture[str]
) -> None:
    for why in (True, False):
        recommend_verb(
            alone.config, "p00", RequestContext(AT), RequestFilters(), k=2, versus=None, as_json=True, why=why
        )
        [printed] = json.loads(capsys.readouterr().out)
        assert ("explanation" in printed) is why
        if why:
            expected = alone.explain("p00", k=2, at=AT, budget_s=math.inf).items
            assert [one["item_id"] for one in printed["explanation"]["items"]] == [one.item_id for one in expected]
