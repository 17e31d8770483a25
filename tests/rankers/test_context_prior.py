"""Own events and moves as masses: hand-derived numbers, the baseline's scores, and nothing of the future."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whereupon.decode import ContextSettings, PriorSettings
from whereupon.eval.protocol import read_task
from whereupon.eval.ranked import rank
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories
from whereupon.histories.questions import SPLIT_CODES, evaluated_events, num_previous
from whereupon.rankers.context_prior import ContextPrior, Past, Pasts
from whereupon.rankers.own import ContextWeights, MoveWeights, OwnEvents

Build = Callable[..., Histories]
Row = tuple[int, int, int, str]
HOUR, DAY = 3600, 86_400
MONDAY = 4 * DAY  # 5 January 1970
NUM_ITEMS = 5
A, B, C, D, E = range(NUM_ITEMS)
PLAIN = ContextSettings(
    own_smoothing=1, age_days=1e12, hour_sigma=1e9, hour_floor=0, other_kind_of_day=1, same_previous=1, moves=1,
    moves_smoothing=0,
)  # fmt: skip


def _masses(histories: Histories, row: int, context: ContextSettings) -> list[float]:
    """Own mass of every item for the question of a row."""
    prior = ContextPrior.of(histories, PriorSettings(context=context))
    item_M, mass_M = prior.masses(Pasts.of(histories).before(row))
    found: list[float] = np.bincount(item_M, mass_M, NUM_ITEMS).tolist()
    return found


def _with(**changes: float) -> ContextSettings:
    return PLAIN.model_copy(update=changes)


@pytest.fixture
def routine(build: Build) -> Histories:
    """Ann: Monday A at 8, B at 9; Tuesday A at 8; Saturday C at 20; then Monday B at 9. Bob moved from C to D once, on
    Wednesday, and from C to E in the very second in which Ann is asked."""
    week = MONDAY + 7 * DAY
    ann = [(0, A, MONDAY + 8 * HOUR), (0, B, MONDAY + 9 * HOUR), (0, A, MONDAY + DAY + 8 * HOUR)]
    ann += [(0, C, MONDAY + 5 * DAY + 20 * HOUR), (0, B, week + 9 * HOUR)]
    bob = [(1, C, MONDAY + 2 * DAY), (1, D, MONDAY + 2 * DAY + HOUR), (1, C, week), (1, E, week + 9 * HOUR)]
    return build([(*row, "train") for row in [*ann, *bob]], NUM_ITEMS)


ASKED = 4  # Ann's last row


def test_plain_weights_are_counts_and_moves_are_those_of_strictly_earlier_seconds(routine: Histories) -> None:
    assert _masses(routine, ASKED, PLAIN) == pytest.approx([2, 1, 1, 1, 0])


def test_own_smoothing_divides_own_events_alone(routine: Histories) -> None:
    assert _masses(routine, ASKED, _with(own_smoothing=4)) == pytest.approx([0.5, 0.25, 0.25, 1, 0])


def test_moves_grow_towards_their_worth_with_their_number(routine: Histories) -> None:
    assert _masses(routine, ASKED, _with(moves=0.6, moves_smoothing=2))[D] == pytest.approx(0.6 * 1 / (1 + 2))


def test_age_counts_from_the_last_event(routine: Histories) -> None:
    """From Saturday at 20 back to Monday at 8 are 5.5 days."""
    found = _masses(routine, ASKED, _with(age_days=2))
    expected_A = math.exp(-5.5 / 2) + math.exp(-4.5 / 2)
    assert found[:3] == pytest.approx([expected_A, math.exp(-(5 + 11 / 24) / 2), 1.0])


def test_hours_are_those_of_the_moment_and_go_round_midnight(routine: Histories) -> None:
    found = _masses(routine, ASKED, _with(hour_sigma=2, hour_floor=0.1))
    one_hour, eleven = 0.1 + math.exp(-0.5 * 0.25), 0.1 + math.exp(-0.5 * (11 / 2) ** 2)
    assert found[:3] == pytest.approx([2 * one_hour, 1.1, eleven])
    late = Past(np.array([A]), np.array([0]), np.array([23 * HOUR]), DAY + HOUR, DAY + HOUR)
    _, mass_M = ContextPrior.of(routine, PriorSettings(context=_with(hour_sigma=2))).masses(late)
    assert mass_M[0] == pytest.approx(math.exp(-0.5))


def test_weekend_is_another_kind_of_day(routine: Histories) -> None:
    assert _masses(routine, ASKED, _with(other_kind_of_day=0.25))[:3] == pytest.approx([2, 1, 0.25])


def test_event_that_followed_upon_the_same_item_counts_more(build: Build) -> None:
    """Now at A: B followed upon A once, C upon B, and A upon nothing and upon C."""
    histories = build([(0, item, at, "train") for at, item in enumerate([A, B, C, A, D])], NUM_ITEMS)
    assert _masses(histories, 4, _with(same_previous=3, moves=0)) == pytest.approx([2, 3, 1, 0, 0])


def test_nobody_has_no_masses(routine: Histories) -> None:
    item_M, mass_M = ContextPrior.of(routine, PriorSettings()).masses(Past.nobody())
    assert (len(item_M), len(mass_M)) == (0, 0)


def test_last_item_that_the_histories_do_not_have_has_no_moves(routine: Histories) -> None:
    past = Past(np.array([A, NUM_ITEMS]), np.array([0, 1]), np.array([0, 1]), 10**9, 10**9)
    item_M, _ = ContextPrior.of(routine, PriorSettings()).masses(past)
    assert item_M.tolist() == [A, NUM_ITEMS]


_ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, NUM_ITEMS - 1), st.integers(0, 40), st.just("train")),
    min_size=4, max_size=25,
).map(lambda rows: [(user, item, at * 5 * HOUR, split) for user, item, at, split in rows])  # fmt: skip


def _asked_rows(rows: list[Row]) -> list[Row]:
    """The rows with the last event of each user in the test split, so that it is asked for."""
    last = {user: max(at for u, _, at, _ in rows if u == user) for user, *_ in rows}
    return [(user, item, at, "test" if at == last[user] else "train") for user, item, at, _ in rows]


@given(_ROWS)
def test_masses_rank_as_the_baseline_of_the_same_weights(build: Build, rows: list[Row]) -> None:
    """Own events alone: the baseline's scores are the shares of these masses."""
    histories = build(_asked_rows(rows), NUM_ITEMS)
    context = ContextSettings(moves=0)
    if not _has_questions(histories):
        return
    weights = ContextWeights(30.0, 1.5, 0.03, 0.5, 7.0)
    ranked = rank(OwnEvents(weights, MoveWeights(0, 0)), read_task(histories, "test", EvaluateSettings()), NUM_ITEMS)
    for event, row in enumerate(ranked.row_E.tolist()):
        mass_I = np.array(_masses(histories, row, context))
        share_I = mass_I / mass_I.sum()
        found = {item: score for item, score in zip(ranked.item_EK[event], ranked.score_EK[event], strict=True)}
        assert [found[item] for item in range(NUM_ITEMS)] == pytest.approx(share_I.tolist())


@given(_ROWS, st.data())
def test_changing_anything_at_or_after_the_moment_changes_nothing(
    build: Build, rows: list[Row], data: st.DataObject
) -> None:
    histories = build(_asked_rows(rows), NUM_ITEMS)
    if not _has_questions(histories):
        return
    row = data.draw(st.sampled_from(evaluated_events(histories, "test").tolist()))
    user, moment = int(histories.user_idx_N[row]), int(histories.time_s_N[row])
    own_past = row - int(histories.offset_U1[user])
    kept: list[Row] = []
    for number, (u, item, at) in enumerate(
        zip(histories.user_idx_N.tolist(), histories.item_idx_N.tolist(), histories.time_s_N.tolist(), strict=True)
    ):
        if number == row:  # the question itself stays, with another answer
            kept.append((u, data.draw(st.integers(0, NUM_ITEMS - 1)), at, "test"))
        elif number < row if u == user else at < moment:
            kept.append((u, item, at, "train"))
        elif data.draw(st.booleans()):  # what comes later is changed or was never there
            later = at + data.draw(st.integers(0, 10)) * HOUR
            kept.append((u, data.draw(st.integers(0, NUM_ITEMS - 1)), later, "train"))
    other = build(kept, NUM_ITEMS)
    same_user = sorted({u for u, *_ in kept}).index(user)
    same_row = int(other.offset_U1[same_user]) + own_past
    context = ContextSettings(moves=1)
    assert _masses(other, same_row, context) == pytest.approx(_masses(histories, row, context))


def test_changing_what_came_before_changes_the_masses(routine: Histories, build: Build) -> None:
    """So that the test above can fail."""
    arrays = (routine.user_idx_N, routine.item_idx_N, routine.time_s_N)
    rows = [(u, i, t, "train") for u, i, t in zip(*(array.tolist() for array in arrays), strict=True)]
    rows[0] = (0, E, rows[0][2], "train")
    assert _masses(build(rows, NUM_ITEMS), ASKED, PLAIN) != pytest.approx(_masses(routine, ASKED, PLAIN))


def _has_questions(histories: Histories) -> bool:
    return bool(((histories.split_N == SPLIT_CODES["test"]) & (num_previous(histories) > 0)).any())
