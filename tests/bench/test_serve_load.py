"""Questions at once, times, rates, and which questions are sent."""

import asyncio

import numpy as np
import pytest
from serve_load import Answer, Phase, Timed, drive, figures, overlap, quality
from serve_offline import best_way, phases_within, until_whole
from serve_questions import Question, everybody_first

QUESTIONS = [Question(row, [row]) for row in range(9)]


def test_every_question_is_sent_once_and_never_more_at_once_than_wanted() -> None:
    running, most = 0, 0

    async def ask(tokens: list[int]) -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return Answer([str(tokens[0])])

    phase = asyncio.run(drive(ask, QUESTIONS, 4))
    assert sorted(one.row for one in phase.timed) == list(range(9))
    assert [one.answer.item_ids for one in phase.timed] == [[str(one.row)] for one in phase.timed]
    assert most == 4


def test_figures_have_quantiles_rates_and_answers() -> None:
    timed = [Timed(row, float(row + 1), Answer(["a"])) for row in range(3)]
    found = figures([Phase(1, 6.0, timed)])
    assert found["at"] == {"1": {"num_prompts": 3, "p50_s": 2.0, "p99_s": pytest.approx(2.98), "wall_s": 6.0,
                                 "requests_per_s": 0.5}}  # fmt: skip
    assert found["answers"] == {"0": ["a"], "1": ["a"], "2": ["a"]}


def test_quality_counts_what_is_no_title_and_what_is_there_twice() -> None:
    ten: list[str | None] = [str(number) for number in range(10)]
    found = quality([Answer(ten, num_calls=3, num_lost=1), Answer(["a", None, "a", "b"])])
    assert (found["num_results"], found["invalid_rate"]) == (14, 1 / 14)
    assert found["duplicate_rate"] == 1 / 13
    assert (found["share_with_ten"], found["calls_mean"], found["lost_mean"]) == (0.5, 2.0, 0.5)


def test_overlap_is_over_what_was_answered_and_is_known() -> None:
    assert overlap({"1": ["a", None], "2": ["c"]}, {"1": ["a", "b"], "3": ["d"]}) == (0.5, 1)
    assert overlap({"1": ["a"]}, {}) == (None, 0)


def test_everybody_comes_once_before_anybody_comes_twice() -> None:
    row_E, user_E = np.array([10, 11, 12, 13, 14]), np.array([3, 3, 1, 3, 1])
    assert everybody_first(row_E, user_E).tolist() == [10, 12, 11, 14, 13]


def test_offline_phases_that_would_take_too_long_are_left_out() -> None:
    asked: list[int] = []

    def ask(questions: list[Question]) -> list[Answer]:
        asked.append(len(questions))
        return [Answer([]) for _ in questions]

    found = phases_within(1e9, {1: 2, 8: 9}, QUESTIONS, ask, 1.0)
    assert asked == [1, 1, 8, 1]
    assert [[timed["row"] for timed in phase["timed"]] for phase in found["phases"]] == [[0, 1], list(range(9))]
    assert found["not_measured"] == {}
    found = phases_within(100.0, {1: 2, 8: 9}, QUESTIONS, ask, 60.0)
    assert found["phases"] == []
    assert found["not_measured"]["8"] == "9 prompts would have taken some 9 minutes"


def test_beams_are_widened_until_all_answers_have_ten_titles() -> None:
    def ask(width: int) -> list[Answer]:
        return [Answer([str(number) if number % 2 else None for number in range(num)]) for num in (width, width // 2)]

    found = until_whole(ask, 1e9)
    assert [(one["width"], one["share_with_ten"], one["titles_mean"]) for one in found] == [
        (20, 0.5, 7.5),
        (40, 1.0, 15),
    ]
    assert [one["width"] for one in until_whole(ask, 0.0)] == [20]


def test_best_way_is_the_fastest_that_gives_titles() -> None:
    slow = {"backend": "slow", "seconds": 9.0, "num_results": 10, "num_titles": 10}
    broken = {"backend": "broken", "seconds": 1.0, "num_results": 10, "num_titles": 3}
    refused = {"backend": "refused", "refused": "ValueError: no"}
    assert best_way([refused, broken, slow]) == slow
    assert best_way([refused, broken, slow, {**slow, "seconds": 8.0}]) == {**slow, "seconds": 8.0}
    assert best_way([refused, broken]) is None
