import io
import json
import math
import re

from rich.console import Console

from whereupon.eval import METRICS, RankerResult, as_json, as_table

COUNTING = RankerResult("own [counts]", {"recall@1": 0.25, "nDCG@10": 0.43004}, num_events=4113, wall_s=0.04)
MODEL = RankerResult("model", {"recall@1": 0.125, "nDCG@10": 0.42996, "log-loss": 3.5}, num_events=4113, wall_s=62.4)


def shown(*results: RankerResult) -> str:
    """The table as a terminal shows it, bold cells in asterisks."""
    console = Console(width=120, file=io.StringIO(), force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(as_table(results))
    bold = re.sub(r"\x1b\[1m( *)([\d.]+)\x1b\[0m", r"\1**\2**", capture.get())
    return re.sub(r" +", " ", re.sub(r"\x1b\[\d*m", "", bold))


def test_all_that_show_the_best_are_marked() -> None:
    text = shown(COUNTING, MODEL)
    assert "own [counts] **0.250** **0.430** – 4,113 0.04 s" in text  # noqa: RUF001
    assert "model 0.125 **0.430** 3.500 4,113 62 s" in text


def test_lowest_log_loss_is_the_best() -> None:
    worse = RankerResult("worse", {"log-loss": 4.0}, num_events=1, wall_s=3720.0)
    better = RankerResult("better", {"log-loss": 3.5}, num_events=1)
    text = shown(worse, better)
    assert "worse 4.000 1 62 min" in text
    assert "better **3.500** 1 –" in text  # noqa: RUF001


def test_nan_never_wins() -> None:
    empty = RankerResult("empty", {"recall@1": math.nan}, num_events=0)
    assert "**" not in shown(empty, MODEL)


def test_infinite_loss_loses_and_becomes_null_in_json() -> None:
    impossible = RankerResult("impossible", {"log-loss": math.inf}, num_events=1)
    assert "impossible – inf 1 –" in re.sub(r"( –)+ inf", " – inf", shown(impossible, MODEL))  # noqa: RUF001
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


def test_eight_metrics_and_the_name_fit_into_80_columns() -> None:
    names = (*METRICS, "nDCG@10 first visits", "nDCG@10 repeats")
    result = RankerResult("fine-tuned SmolLM2-135M, on top", dict.fromkeys(names, 0.5), num_events=41133, wall_s=62.0)
    console = Console(width=80, file=io.StringIO())
    with console.capture() as capture:
        console.print(as_table([result, result]))
    text = capture.get()
    assert "…" not in text
    assert "SmolLM2-135M," in text
    assert text.split().count("0.500") == 16
