"""What the bench of replicas takes for lost, late, mixed, and the fault of a kill."""

from pathlib import Path

import pytest
from replicas import bars_of, figures_of, haproxy_text
from replicas_load import Answered, Failure, Promoted, Seen, apart, late, lost, outside_of_kills, spread

ONE, OTHER = {"bar": 0.75, "park": 0.25}, {"bar": 0.5, "park": 0.5}


def _answer(sent_s: float, adapter: str, title: str, probabilities: dict[str, float]) -> Answered:
    return Answered(sent_s, sent_s + 0.1, adapter, title, probabilities)


def _good() -> Seen:
    return Seen(
        answers=[_answer(1.0, "0001", "v", ONE), _answer(12.0, "0002", "v", OTHER), _answer(22.0, "0001", "v", ONE)],
        failures=[Failure(5.5, 0, True, "POST: 0, then 200")], events={"e-1": {"user_id": "u1"}},
        event_delays_s=[0.02], edit_delays_s=[0.03], promotions=[Promoted("0002", 9, 10), Promoted("0001", 19, 20)],
    )  # fmt: skip


def _missed(seen: Seen, stored: dict[str, str]) -> list[str]:
    return [one["name"] for one in bars_of(figures_of(seen, stored, [5.0])) if not one["ok"]]


def test_run_in_which_all_is_well_meets_every_bar() -> None:
    assert _missed(_good(), {"e-1": "u1", "e-2": "u2"}) == []


@pytest.mark.parametrize(
    ("fault", "bar"),
    [
        ({"events": {"e-9": {"user_id": "u1"}}}, "lost"),
        ({"failures": [Failure(5.5, 503, False, "503, then 503")]}, "heal"),
        ({"failures": [Failure(15.0, 503, True, "503, then 200")]}, "away from a kill"),
        ({"problems": ["PUT items: 400"]}, "heal"),
        ({"event_delays_s": [2.0]}, "events"),
        ({"edit_delays_s": []}, "edits"),
        ({"promotions": [Promoted("0002", 9, 10)]}, "there and back"),
        ({"answers": [_answer(1, "0001", "v", ONE), _answer(12, "0002", "v", ONE)]}, "same adapter"),
        ({"answers": [*_good().answers, _answer(11.5, "0001", "v", ONE)]}, "old adapter"),
        ({"answers": [*_good().answers, _answer(13, "0002", "v", ONE)]}, "same adapter"),
    ],
)
def test_fault_is_seen(fault: dict[str, object], bar: str) -> None:
    seen = _good()
    for name, value in fault.items():
        setattr(seen, name, value)
    assert any(bar in name for name in _missed(seen, {"e-1": "u1"}))


def test_answers_between_a_promotion_and_a_second_later_may_name_either() -> None:
    promotions = [Promoted("0002", 9.0, 10.0), Promoted("0001", 20.0, 21.0)]
    answers = [_answer(sent_s, "0001", "v", ONE) for sent_s in (9.5, 10.9, 11.1, 19.95)]
    assert late(answers, promotions, 1.0) == answers[2:3], "the last one ended after the next change was asked for"


def test_what_is_compared_is_of_one_catalogue() -> None:
    answers = [
        _answer(1, "0001", "v", ONE),
        _answer(2, "0001", "w", OTHER),
        _answer(3, "0002", "x", OTHER),
    ]
    assert spread(answers) == apart(answers) == 0.0
    assert apart([*answers, _answer(4, "0002", "v", OTHER)]) == 0.25


def test_event_of_another_user_is_lost_and_a_kill_explains_what_follows_it() -> None:
    assert lost({"e-1": {"user_id": "u1"}, "e-2": {"user_id": "u1"}}, {"e-1": "u1", "e-2": "u2"}) == ["e-2"]
    failures = [Failure(at_s, 0, True, "") for at_s in (3.0, 5.1, 9.9, 10.1)]
    assert [one.at_s for one in outside_of_kills(failures, [5.0])] == [3.0, 10.1]


def test_haproxy_of_the_example_gets_other_ports(root: Path) -> None:
    text = (root / "examples" / "production" / "haproxy.cfg").read_text()
    assert haproxy_text(text, [8003, 8002, 8001, 8000]).split() == [
        {"127.0.0.1:8000": "127.0.0.1:8003", "127.0.0.1:8001": "127.0.0.1:8002", "127.0.0.1:8002": "127.0.0.1:8001",
         "127.0.0.1:8003": "127.0.0.1:8000"}.get(word, word) for word in text.split()
    ]  # fmt: skip
