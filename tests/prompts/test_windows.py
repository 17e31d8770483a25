from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from whereupon.errors import PromptError
from whereupon.prompts import PromptSettings, Windows, plan_windows


@dataclass(frozen=True)
class Plan:
    """Tokens of each event's context and title, users' first rows, and what plan_windows needs besides."""

    context_N: list[int]
    title_N: list[int]
    offset_U1: list[int]
    longest: int
    preamble: int
    settings: PromptSettings

    def windows(self, num_events: int | None = None) -> Windows:
        """Windows of the first `num_events` events, the last of them an open question without a title."""
        title = np.array(self.title_N[:num_events], np.int64)
        title[-1:] *= num_events is None
        offset = np.minimum(np.array(self.offset_U1, np.int64), num_events or len(title))
        context = np.array(self.context_N[:num_events], np.int64)
        return plan_windows(context, title, offset, self.longest, self.preamble, self.settings)

    def need(self, row: int) -> int:
        return self.context_N[row] + self.longest

    @property
    def budgets(self) -> tuple[int, int]:
        budget = self.settings.budget_tokens - self.preamble
        return budget, budget - self.settings.profile_tokens


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    longest = draw(st.integers(1, 8))
    events = draw(st.lists(st.tuples(st.integers(1, 8), st.integers(1, longest)), min_size=1, max_size=40))
    cuts = draw(st.lists(st.integers(0, len(events)), max_size=3))
    prompt = PromptSettings(
        budget_tokens=draw(st.integers(12, 60)),
        profile_tokens=draw(st.integers(0, 20)),
        keep_fraction=draw(st.sampled_from([0.1, 0.5, 0.9])),
    )
    context_N, title_N = map(list, zip(*events, strict=True))
    return Plan(context_N, title_N, [0, *sorted(cuts), len(events)], longest, draw(st.integers(0, 4)), prompt)


@st.composite
def fitting_plans(draw: st.DrawFn) -> Plan:
    plan = draw(plans())
    assume(max(map(plan.need, range(len(plan.context_N)))) <= plan.budgets[1])
    return plan


def _rows(windows: Windows) -> list[tuple[int, int, int]]:
    return list(zip(windows.start_W.tolist(), windows.target_W.tolist(), windows.end_W.tolist(), strict=True))


EIGHT = Plan([3] * 8, [2] * 8, [0, 8], 2, 2, PromptSettings(budget_tokens=30, profile_tokens=8, keep_fraction=0.5))


def test_windows_by_hand_fill_up_then_turn_over() -> None:
    # Budget: 28 tokens, 20 beside a profile; an event has 5. The first window takes 5 events; the next ones keep the
    # two that fit into half of 20 tokens, and take two more.
    assert _rows(EIGHT.windows()) == [(0, 0, 5), (3, 5, 7), (5, 7, 8)]


def test_fewer_recent_events_are_kept_where_the_next_one_would_not_fit_beside_them() -> None:
    settings = PromptSettings(budget_tokens=30, profile_tokens=8, keep_fraction=0.9)
    # Nine tenths of 20 tokens would keep two events of 7; the next one, with 7, then has only 6.
    assert _rows(Plan([4] * 5, [3] * 5, [0, 5], 3, 2, settings).windows()) == [(0, 0, 4), (3, 4, 5)]


def test_no_events_are_no_windows() -> None:
    empty = np.empty(0, np.int64)
    assert len(plan_windows(empty, empty, np.array([0, 0]), 2, 2, PromptSettings())) == 0


@settings(deadline=None)
@given(plan=fitting_plans())
def test_every_event_is_the_target_of_exactly_one_window_of_its_user(plan: Plan) -> None:
    windows = plan.windows()
    targets = [row for _, target, end in _rows(windows) for row in range(target, end)]
    assert targets == list(range(len(plan.context_N)))
    for user, first, start, target, end in zip(
        *(getattr(windows, n) for n in windows.__dataclass_fields__), strict=True
    ):
        assert first == plan.offset_U1[user] <= start <= target < end <= plan.offset_U1[user + 1]
        assert (start == first) == (target == first), "a user's first window opens at the first event, and no later one"


@settings(deadline=None)
@given(plan=fitting_plans())
def test_no_window_exceeds_the_budget_whatever_its_last_title(plan: Plan) -> None:
    for start, target, end in _rows(plan.windows()):
        said = sum(plan.context_N[start:end]) + sum(plan.title_N[start : end - 1]) + plan.longest
        assert said <= plan.budgets[0 if target in plan.offset_U1 else 1]


@settings(deadline=None)
@given(plan=fitting_plans(), data=st.data())
def test_windows_of_the_past_stay_when_later_events_are_appended(plan: Plan, data: st.DataObject) -> None:
    asked = data.draw(st.integers(0, len(plan.context_N) - 1), label="asked event")
    before, after = _rows(plan.windows(asked + 1)), _rows(plan.windows())
    [(start, target, _)] = [row for row in after if row[1] <= asked < row[2]]
    assert before[-1] == (start, target, asked + 1)
    assert before[:-1] == after[: len(before) - 1]


@settings(deadline=None)
@given(plan=plans())
def test_plan_fails_only_where_a_single_event_cannot_fit(plan: Plan) -> None:
    need = max(map(plan.need, range(len(plan.context_N))))
    try:
        plan.windows()
    except PromptError:
        assert need > plan.budgets[1]
    else:
        assert need <= plan.budgets[0]


def test_event_too_long_is_one_sentence_with_the_numbers() -> None:
    plan = Plan([3, 3], [2, 2], [0, 2], 9, 2, PromptSettings(budget_tokens=13, profile_tokens=0))
    with pytest.raises(
        PromptError, match=r"^An event of 12 tokens .* longest title, 9 tokens.*budget_tokens=13 beside 2"
    ):
        plan.windows()


def test_profile_that_leaves_no_tokens_is_shown_when_a_window_turns_over() -> None:
    plan = Plan([3] * 9, [2] * 9, [0, 9], 2, 2, PromptSettings(budget_tokens=30, profile_tokens=40))
    with pytest.raises(PromptError, match="beside 42 tokens of preamble and profile"):
        plan.windows()
