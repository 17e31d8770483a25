"""Bars and tables of the search bench, from figures made up."""

from copy import deepcopy
from typing import Any

import pytest
from search import bars
from tables import as_markdown, table

ABOUT = {"date": "2026-01-02T03:04:05+00:00", "machine": {"cpu": "an abacus", "cpu_count": "2"},
         "versions": {"whereupon": "0.1.0", "llguidance": "1.7.6"}}  # fmt: skip


def _size(num: int, step_ms: float) -> dict[str, Any]:
    steps = {"num_steps": 9, "ms_median": step_ms, "ms_p90": step_ms}
    kinds = {kind: {"median_ms": 29.0} for kind in ("radius", "category", "ids")}
    return {
        "num_items": num,
        "build": {"tokenise_s": 60.0, "trie_s": 5.0, "write_s": 25.0, "total_s": 90.0, "peak_added_mib": 1.0,
                  "trie_bytes_per_item": 180.0, "engine_bytes_per_item": 20.0, "file_mib": 1.0,
                  "tokens_per_title": 7.5},
        "load": {"total_s": 0.9}, "load_again": {"total_s": 0.1},
        "change": {"add_s": 2.9, "replace_s": 1.0, "remove_s": 1.0, "write_s": 1.0},
        "filter": {"kinds": kinds},
        "step": {kind: {"root": steps, "nodes_32": steps} for kind in ("best_first", "beam")},
    }  # fmt: skip


def _sections() -> dict[str, Any]:
    seconds = {"median": 1.0, "p90": 2.0, "total": 500.0}
    return {
        "trie": {**ABOUT, "sizes": [_size(10_000, 0.5), _size(1_000_000, 1.0)]},
        "nyc": {
            **ABOUT, "dtype": "float32", "num_prompts": 500, "num_brute_force": 20, "same_as_brute_force": 20,
            "speed_up_total": 8.0,
            "search_over_read_median": 1.0, "exact_share": 1.0, "ndcg": {"ours": 0.5, "beam_search": 0.5},
            "seconds": {name: seconds for name in ("read", "search", "ours", "beam_search")},
            "prompt_tokens_median": 900.0, "beam_search_invalid_share": 0.0, "beam_search_duplicate_share": 0.0,
            "beam_search_shares_with_ours": 0.9,
        },
        "grammars": {**ABOUT, "limit_s": 120.0, "limit_gib": 8.0, "rows": [
            {"backend": "whereupon", "num_titles": 1_000, "compile_s": 0.0278, "peak_added_mib": 13.7},
            {"backend": "llguidance", "num_titles": 1_000, "problem": "did not finish within 120 s"},
        ]},
    }  # fmt: skip


def test_figures_right_at_their_bounds_keep_every_bar() -> None:
    found = bars(_sections())
    assert len(found) == 13
    assert [one["name"] for one in found if not one["ok"]] == []


def test_brute_force_is_no_bar_in_bfloat16() -> None:
    sections = _sections()
    sections["nyc"] |= {"dtype": "bfloat16", "same_as_brute_force": 19}
    found = bars(sections)
    assert len(found) == 12
    assert all(one["ok"] for one in found)


@pytest.mark.parametrize(
    ("place", "value", "missed"),
    [
        (("trie", "sizes", 1, "build", "total_s"), 90.1, "1 M titles: build, tokenisation included, s"),
        (("trie", "sizes", 1, "build", "engine_bytes_per_item"), 20.1, "1 M titles: bytes per item, resident"),
        (("trie", "sizes", 1, "load", "total_s"), 1.0, "1 M titles: load, s"),
        (("trie", "sizes", 1, "change", "add_s"), 3.0, "1 M titles: add 1,000 items, s"),
        (("trie", "sizes", 1, "filter", "kinds", "ids", "median_ms"), 30.0,
         "1 M titles: slowest filter that keeps 10 %, ms"),
        (("trie", "sizes", 1, "step", "beam", "nodes_32", "ms_median"), 1.01,
         "1 M titles: step of 32 nodes beside the model, ms"),
        (("trie", "sizes", 0, "step", "beam", "nodes_32", "ms_median"), 0.49, None),
        (("nyc", "num_prompts"), 499, "prompts of nyc-checkins"),
        (("nyc", "speed_up_total"), 7.9, "times as fast as transformers' beam search"),
        (("nyc", "ndcg", "ours"), 0.49, "nDCG@10 above transformers' beam search"),
        (("nyc", "search_over_read_median"), 1.01, "search over reading the prompt, median"),
        (("nyc", "exact_share"), 0.99, "share of proven exact answers"),
        (("nyc", "same_as_brute_force"), 19, "of those checked by brute force, the same"),
    ],
)  # fmt: skip
def test_figure_beyond_its_bound_misses_its_bar(place: tuple[Any, ...], value: float, missed: str | None) -> None:
    sections = deepcopy(_sections())
    *path, last = place
    part: Any = sections
    for key in path:
        part = part[key]
    part[last] = value
    names = [one["name"] for one in bars(sections) if not one["ok"]]
    ratio = "step of 32 nodes, 1 M over 10 k titles"
    assert [name for name in names if name != ratio] == ([] if missed is None else [missed])


def test_step_that_grows_more_than_twofold_misses_its_bar() -> None:
    sections = _sections()
    sections["trie"]["sizes"][0] = _size(10_000, 0.4)
    assert [one["name"] for one in bars(sections) if not one["ok"]] == ["step of 32 nodes, 1 M over 10 k titles"]


def test_parts_that_were_not_run_have_no_bars_and_no_table() -> None:
    only = {"grammars": _sections()["grammars"]}
    assert bars(only) == []
    assert "## The trie" not in as_markdown(only)


def test_sizes_below_a_million_have_no_bars() -> None:
    sections = _sections()
    sections["trie"]["sizes"].pop()
    assert bars({"trie": sections["trie"]}) == []


def test_markdown_shows_times_problems_and_versions() -> None:
    text = as_markdown(_sections())
    assert "| add 1,000 items, s | 2.90 | 2.90 |" in text
    assert "| whereupon 0.1.0 | 0.0278 s, 14 MiB |" in text
    assert "| llguidance 1.7.6 | did not finish within 120 s |" in text
    assert "| whereupon: both | 1.00 | 2.00 | 500 | 0.5000 |" in text
    assert "an abacus, 2 cores; whereupon 0.1.0; 2026-01-02." in text


def test_table_aligns_all_but_the_first_column_to_the_right() -> None:
    assert table(["", "a"], [["x", "1"]]) == "|  | a |\n| --- | ---: |\n| x | 1 |\n"
