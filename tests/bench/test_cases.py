"""Broken files are broken as they say, and what becomes of them is judged by what they were."""

import gzip

import faults
import numpy as np
import pytest
from cases import judged
from faults import NUM_ROWS, OTHER_FAULTS, TEXT_FAULTS, Broken, broken_files, good_rows, written


def _good(seed: int = 1) -> Broken:
    rows = good_rows(np.random.default_rng(seed))
    return Broken("events.csv", written(rows).encode(), rows)


def test_same_seed_breaks_the_same_files_and_there_are_at_least_sixty() -> None:
    files = list(broken_files(7))
    assert files == list(broken_files(7))
    assert files != list(broken_files(8))
    assert len({name for name, _ in files}) == len(files) >= 60


def test_whole_file_is_read_without_a_fault() -> None:
    assert judged(_good()) == {"outcome": "read", "said": "", "faults": []}


@pytest.mark.parametrize(
    "name",
    [
        "no user",
        "quote never closed",
        "long note",
        "zeros behind",
        "packed and damaged",
        "JSON line cut",
        "random bytes",
    ],
)
def test_damage_is_refused_or_counted_and_loses_no_other_row(name: str) -> None:
    fault = (TEXT_FAULTS | OTHER_FAULTS)[name]
    found = judged(fault(_good(), np.random.default_rng(2)))
    assert found["faults"] == []
    assert found["outcome"] != "traceback"


def test_lost_row_and_row_that_is_not_counted_are_found() -> None:
    good = _good()
    lines = good.data.splitlines(keepends=True)
    found = judged(good.but(b"".join(lines[:5] + lines[6:])))
    assert [fault.split(":")[0] for fault in found["faults"]] == ["good rows lost", "rows not counted"]
    assert "[5]" in found["faults"][0]
    assert f"{NUM_ROWS - 1} kept" in found["faults"][1]


def test_file_that_is_read_though_it_should_not_be_is_found() -> None:
    good = _good()
    assert judged(good.but(good.data, verdict="refused"))["faults"] == ["verdict: read"]
    cut = faults.replace(good, name="events.csv.gz", data=gzip.compress(good.data)[:-20])
    assert judged(cut)["faults"] == ["verdict: refused"]
