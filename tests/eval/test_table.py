import io
import json
import math
import re

import pytest
from rich.console import Console

from whereupon.eval import RankerResult, as_json, as_markdown, as_table

COUNTING = RankerResult("own [counts]", {"recall@1": 0.25, "nDCG@10": 0.43004}, num_events=4113, wall_s=0.04)
MODEL = RankerResult("model", {"recall@1": 0.125, "nDCG@10": 0.42996, "log-loss": 3.5}, num_events=4113, wall_s=62.4)


def test_markdown_marks_the_best_as_shown() -> None:
    assert as_markdown([COUNTING, MODEL]) == (
        "| ranker | recall@1 | nDCG@10 | log-loss | events | time |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| own [counts] | **0.250** | **0.430** | – | 4,113 | 0.04 s |\n"  # noqa: RUF001
        "| model | 0.125 | **0.430** | 3.500 | 4,113 | 62 s |\n"
    )


def test_lowest_log_loss_is_the_best() -> None:
    worse = RankerResult("worse", {"log-loss": 4.0}, num_events=1, wall_s=3720.0)
    better = RankerResult("better", {"log-loss": 3.5}, num_events=1)
    text = as_markdown([worse, better])
    assert "| worse | 4.000 | 1 | 62 min |" in text
    assert "| better | **3.500** | 1 | – |" in text  # noqa: RUF001


def test_terminal_table_shows_names_in_brackets_and_bold_winners() -> None:
    console = Console(width=120, file=io.StringIO(), force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(as_table([COUNTING, MODEL], title="nyc"))
    styled = capture.get()
    assert "own [counts]" in styled
    assert re.search(r"\x1b\[1m *0\.250", styled)
    assert not re.search(r"\x1b\[1m *0\.125", styled)


def test_nan_never_wins() -> None:
    empty = RankerResult("empty", {"recall@1": math.nan}, num_events=0)
    assert "**" not in as_markdown([empty, MODEL])


def test_infinite_loss_loses_and_becomes_null_in_json() -> None:
    impossible = RankerResult("impossible", {"log-loss": math.inf}, num_events=1)
    assert "| inf |" in as_markdown([impossible, MODEL])
    assert json.loads(json.dumps(as_json([impossible]), allow_nan=False))[0]["metrics"] == {"log-loss": None}


def test_json_keeps_full_precision() -> None:
    assert as_json([COUNTING]) == [
        {
            "name": "own [counts]",
            "metrics": {"recall@1": 0.25, "nDCG@10": 0.43004},
            "num_events": 4113,
            "wall_s": 0.04,
        }
    ]


def test_two_rankers_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="different names"):
        as_markdown([MODEL, MODEL])
