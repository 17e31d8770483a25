"""Bars, overlap and tables of the server bench, and its comparison with the in-process engine, from figures made up."""

from copy import deepcopy
from typing import Any

import pytest
from serve_agreement import is_same, summary
from serve_online import plans
from serve_tables import as_markdown

from serve import bars, with_overlap

ABOUT = {"date": "2026-01-02T03:04:05+00:00", "machine": {"cpu": "an abacus", "cpu_count": "2"},
         "versions": {"whereupon": "0.1.0", "vllm": "0.32.0"}}  # fmt: skip


def _contestant(p50_s: float, requests_per_s: float, num_results: int = 10) -> dict[str, Any]:
    times = {"num_prompts": 8, "p50_s": p50_s, "p99_s": p50_s, "wall_s": 8.0, "requests_per_s": requests_per_s}
    return {
        "at": {"1": times, "8": times}, "num_answers": 1, "num_results": num_results, "invalid_rate": 0.0,
        "duplicate_rate": 0.0, "share_with_ten": 1.0, "calls_mean": 1.0, "lost_mean": 0.0,
        "answers": {"5": ["a", "b", None]},
    }  # fmt: skip


def _sections() -> dict[str, Any]:
    return {
        "online": {**ABOUT, "contestants": {
            "one_token": _contestant(2.0, 0.5, 0), "ours": _contestant(5.0, 3.0), "a_stock": _contestant(9.0, 1.0),
        }},
        "offline": {**ABOUT, "contestants": {"b": _contestant(50.0, 0.6)}, "not_measured": {"32": "it takes ages"},
                    "ways": [{"backend": "auto", "form": "choice", "refused": "ValueError: no"},
                             {"backend": "guidance", "form": "choice", "seconds": 9.5, "num_results": 10,
                              "num_titles": 3}],
                    "whole": [{"width": 20, "concurrency": 8, "requests_per_s": 0.9, "share_with_ten": 0.5,
                               "titles_mean": 8.5},
                              {"width": 40, "concurrency": 8, "requests_per_s": 0.6, "share_with_ten": 1.0,
                               "titles_mean": 18.0}]},
        "agreement": {**ABOUT, "num_prompts": 200, "same_top_ten": 200, "largest_difference": 1e-3,
                      "invalid_rate": 0.0, "duplicate_rate": 0.0, "engine_as_brute_force": 20,
                      "brute_force": {"5": ["a", "c"]}},
    }  # fmt: skip


def test_figures_right_at_their_bounds_keep_every_bar() -> None:
    found = bars(_sections())
    assert len(found) == 8
    assert [one["name"] for one in found if not one["ok"]] == []


@pytest.mark.parametrize(
    ("place", "value", "missed"),
    [
        (("online", "contestants", "ours", "invalid_rate"), 0.01, "invalid rate of ours"),
        (("agreement", "duplicate_rate"), 0.01, "distinct rate of ours"),
        (("agreement", "same_top_ten"), 199, "prompts with the same top-10 as in-process"),
        (("agreement", "num_prompts"), 199, "prompts with the same top-10 as in-process"),
        (("agreement", "largest_difference"), 1.1e-3, "largest difference of log-probabilities"),
        (("online", "contestants", "a_stock", "at", "8", "requests_per_s"), 1.01,
         "requests/s at concurrency 8 over those of (a_stock)"),
        (("offline", "contestants", "b", "at", "8", "requests_per_s"), 0.61,
         "requests/s at concurrency 8 over those of (b) at the beam width 10, where 100% have ten titles"),
        (("offline", "whole", 1, "requests_per_s"), 0.61,
         "requests/s at concurrency 8 over those of (b) at the beam width 40, where 100% have ten titles"),
        (("online", "contestants", "one_token", "at", "1", "p50_s"), 1.9,
         "p50 at concurrency 1 over a one-token completion"),
    ],
)  # fmt: skip
def test_figure_beyond_its_bound_misses_its_bar(place: tuple[str | int, ...], value: float, missed: str) -> None:
    sections = deepcopy(_sections())
    *path, last = place
    part: Any = sections
    for key in path:
        part = part[key]
    part[last] = value
    assert [one["name"] for one in bars(sections) if not one["ok"]] == [missed]


def test_parts_that_were_not_run_have_no_bars() -> None:
    assert bars({}) == []
    assert len(bars({"agreement": _sections()["agreement"]})) == 4
    sections = _sections()
    del sections["offline"]["contestants"]["b"]["at"]["8"], sections["offline"]["whole"]
    assert len(bars(sections)) == 6


def test_overlap_is_that_with_brute_force_of_the_agreement() -> None:
    sections = _sections()
    with_overlap(sections)
    assert sections["online"]["contestants"]["ours"]["overlap"] == 0.5
    assert "overlap" not in sections["online"]["contestants"]["one_token"]
    del sections["agreement"]
    with_overlap(sections)
    assert sections["offline"]["contestants"]["b"]["overlap"] is None


def test_markdown_has_speed_quality_refusals_and_machine() -> None:
    sections = _sections()
    with_overlap(sections)
    text = as_markdown(sections)
    assert "| whereupon | 5.00 / 5.00, 3.000 (8 prompts) | 5.00 / 5.00, 3.000 (8 prompts) |  |" in text
    assert "| whereupon | 0.0% | 0.0% | 100.0% | 50.0% (1 prompts) | 1.0 | 0.0 |" in text
    assert "- backend auto, choice: refused: ValueError: no" in text
    assert "- backend guidance, choice: 9.5 s for one prompt, 3 of 10 results are titles" in text
    assert "- width 40, 8 at once: 0.600 requests/s, 18.0 titles an answer, ten in 100%" in text
    assert "- 32 at once was not measured: it takes ages" in text
    assert "online: an abacus, 2 cores; whereupon 0.1.0, vllm 0.32.0; 2026-01-02." in text


def test_everybody_has_as_many_prompts_as_are_sent_at_once() -> None:
    for num in (1, 16, 40):
        for plan in plans(num).values():
            assert all(count >= concurrency for concurrency, count in plan.items())


def _row(items: str, log_probs: list[float]) -> dict[str, Any]:
    return {"row": 5, "items": list(items), "log_probs": log_probs, "brute_force": None}


@pytest.mark.parametrize(
    ("items", "log_probs", "same"),
    [
        ("abc", [-1.0, -2.0, -2.00005], True),
        ("acb", [-1.0, -2.0, -2.0], True),
        ("bac", [-1.0, -1.0, -2.0], False),
        ("abd", [-1.0, -2.0, -2.0001], True),
        ("abd", [-1.0, -2.0, -2.1], False),
        ("ab", [-1.0, -2.0], False),
        ("abb", [-1.0, -2.0, -2.0], False),
    ],
)
def test_only_items_that_are_as_probable_may_swap(items: str, log_probs: list[float], same: bool) -> None:
    assert is_same(_row("abc", [-1.0, -2.0, -2.00005]), _row(items, log_probs)) is same


def test_summary_of_agreement_has_the_largest_difference_of_common_items() -> None:
    engine = {**_row("abc", [-1.0, -2.0, -3.0]), "brute_force": ["b", "a", "c"]}
    found = summary([engine, engine], [_row("abc", [-1.0, -2.0, -3.001]), _row("abd", [-1.5, -2.0, -2.1])])
    assert (found["num_prompts"], found["same_top_ten"], found["engine_as_brute_force"]) == (2, 1, 2)
    assert found["largest_difference"] == pytest.approx(0.5)
    assert found["brute_force"] == {"5": ["b", "a", "c"]}


def test_answers_to_other_questions_are_found_out() -> None:
    with pytest.raises(RuntimeError, match="not one item in common"):
        summary([_row("abc", [-1.0, -2.0, -3.0])], [_row("xyz", [-1.0, -2.0, -3.0])])
