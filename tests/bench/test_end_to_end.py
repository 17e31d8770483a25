"""Figures of answered prompts, and a file of them that may be cut off anywhere."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from end_to_end import rank_of, read_rows, summary


def _row(row: int, **changes: Any) -> dict[str, Any]:
    return {
        "row": row, "num_tokens": 100, "item": 7, "read_s": 2.0, "search_s": 1.0, "exact": True, "expansions": 30,
        "rank": 1, "items": list(range(10)), "beams_s": 30.0, "beams_rank": 2, "beams_items": list(range(1, 11)),
        "beams_invalid": 0, "beams_duplicates": 0, "brute_force_s": None, "brute_force_items": None, "is_same": None,
        "code": "b", "beams_code": "b",
    } | changes  # fmt: skip


def test_rank_is_one_based_and_zero_for_an_item_that_was_not_found() -> None:
    assert [rank_of(item, np.array([5, 3, 9])) for item in (5, 9, 4)] == [1, 3, 0]


def test_summary_counts_times_ranks_and_what_is_in_common() -> None:
    checked = {"brute_force_s": 9.0, "brute_force_items": list(range(10)), "is_same": True}
    found = summary(
        [_row(0, **checked), _row(1, read_s=4.0, beams_s=60.0, rank=0, exact=False, beams_invalid=1, beams_code="a")]
    )
    assert (found["num_prompts"], found["num_answered_in_turns"]) == (2, 1)
    assert found["speed_up_total"] == pytest.approx(90 / 8)
    assert found["speed_up_median"] == pytest.approx((30 / 3 + 60 / 5) / 2)
    assert found["search_over_read_median"] == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert found["ndcg"]["ours"] == pytest.approx(0.5)
    assert found["ndcg"]["beam_search"] == pytest.approx(1 / np.log2(3))
    assert found["exact_share"] == 0.5
    assert (found["same_as_brute_force"], found["num_brute_force"]) == (1, 1)
    assert found["beam_search_invalid_share"] == 1 / 20
    assert found["beam_search_shares_with_ours"] == pytest.approx(0.9)
    assert found["seconds"]["brute_force"]["total"] == 9.0


def test_summary_without_brute_force_has_no_times_of_it() -> None:
    found = summary([_row(0)])
    assert "brute_force" not in found["seconds"]
    assert found["beam_search_shares_with_brute_force"] is None


def test_rows_of_a_file_that_was_cut_off_are_those_that_are_whole(tmp_path: Path) -> None:
    partial = tmp_path / "part.jsonl"
    partial.write_text(f"{json.dumps(_row(1))}\n{json.dumps(_row(2))[:40]}", encoding="utf-8")
    assert read_rows(partial) == {1: _row(1)}
    with partial.open("a", encoding="utf-8") as file:
        file.write(json.dumps(_row(3)) + "\n")
    assert read_rows(partial).keys() == {1, 3}, "what is appended begins a line of its own"


def test_event_answered_twice_counts_once_and_the_last_time(tmp_path: Path) -> None:
    partial = tmp_path / "part.jsonl"
    rows = [_row(1), _row(1, brute_force_s=9.0)]
    partial.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    assert read_rows(partial) == {1: rows[1]}


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "none.jsonl") == {}
