"""Rankings in memory and on disk."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.errors import DataError
from whereupon.eval.rankings import (
    Rankings,
    evaluation_folder,
    finished,
    read_rankings,
    slug_of,
    slugs_in,
    write_rankings,
)
from whereupon.histories import Histories


def make(**changes: Any) -> Rankings:
    """Two events, up to three items each; the second list ends after one."""
    parts: dict[str, Any] = {
        "row_E": np.array([3, 10]),
        "rank_E": np.array([2, 0]),
        "item_EK": np.array([[1, 0, 4], [2, -1, -1]], np.int32),
        "score_EK": np.array([[0.5, 0.25, 0.25], [-1.0, -np.inf, -np.inf]]),
    }
    return Rankings(**{**parts, **changes})


def same(left: Rankings, right: Rankings) -> bool:
    """In every array, types included; two absent ones are the same."""
    pairs = [(getattr(left, name), getattr(right, name)) for name in vars(left)]
    return all(
        a is b or (a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b)) for a, b in pairs
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row_E": np.array([3])}, r"rank_E should be of shape \(1,\), found \(2,\)"),
        ({"row_E": np.array([10, 3])}, "rows must ascend"),
        ({"row_E": np.array([3, 3])}, "rows must ascend"),
        ({"rank_E": np.array([1])}, "rank_E should be of shape"),
        ({"score_EK": np.zeros((2, 2))}, "score_EK should be of shape"),
        ({"score_EK": np.array([[0.25, 0.5, 0.0], [0.0, -np.inf, -np.inf]])}, "must not increase"),
        ({"score_EK": np.array([[0.25, np.nan, 0.0], [0.0, -np.inf, -np.inf]])}, "nor be NaN"),
        ({"score_EK": np.array([[0.5, 0.25, 0.25], [0.0, 0.0, 0.0]])}, "the score must be -inf"),
        ({"log_prob_E": np.zeros(3, np.float32)}, "log_prob_E should be"),
        ({"exact_E": np.zeros(1, bool)}, "exact_E should be"),
    ],
)
def test_arrays_that_do_not_go_together_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**change)


def test_some_events_of_rankings_are_rankings() -> None:
    whole = make(log_prob_E=np.array([-1, -2], np.float32), exact_E=np.array([True, False]))
    part = whole.take(np.array([False, True]))
    assert (part.row_E.tolist(), part.rank_E.tolist(), part.k) == ([10], [0], 3)
    assert part.log_prob_E is not None
    assert part.exact_E is not None
    assert (part.log_prob_E.tolist(), part.exact_E.tolist()) == ([-2.0], [False])
    assert same(whole.take(np.array([0, 1])), whole)


@st.composite
def any_rankings(draw: st.DrawFn) -> Rankings:
    num_events, k = draw(st.integers(0, 5)), draw(st.integers(1, 4))
    count_E = draw(st.lists(st.integers(0, k), min_size=num_events, max_size=num_events))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    gone_EK = np.arange(k) >= np.array(count_E, int).reshape(-1, 1)
    score_EK = -np.sort(-random.normal(size=(num_events, k)), axis=1)
    with_log_prob, with_exact = draw(st.booleans()), draw(st.booleans())
    return Rankings(
        np.cumsum(random.integers(1, 4, num_events)),
        random.integers(0, 9, num_events),
        np.where(gone_EK, -1, random.integers(0, 1000, (num_events, k))).astype(np.int32),
        np.where(gone_EK, -np.inf, score_EK),
        random.normal(size=num_events).astype(np.float32) if with_log_prob else None,
        random.random(num_events) < 0.5 if with_exact else None,
    )


@given(rankings=any_rankings())
@settings(deadline=None, max_examples=50)
def test_what_is_written_is_read(rankings: Rankings, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("test")
    write_rankings(folder, "some", rankings, {"name": "Some", "key": "k"})
    found, facts = read_rankings(folder, "some")
    assert same(found, rankings)
    assert facts == {"name": "Some", "key": "k", "slug": "some", "num_events": len(rankings.row_E), "k": rankings.k}


def test_file_speaks_for_itself(tmp_path: Path, town: Histories) -> None:
    write_rankings(tmp_path, "some", make(log_prob_E=np.zeros(2, np.float32)), {}, town.events)
    frame = pl.read_parquet(tmp_path / "some.parquet")
    assert frame.drop("time", "log_prob").rows() == [
        (3, "user-0", "item-1", 2, [1, 0, 4], [0.5, 0.25, 0.25]),
        (10, "user-2", "item-3", 0, [2], [-1.0]),
    ]
    assert frame["time"].dt.epoch("s").to_list() == [20, 22]
    assert frame.schema["items"] == pl.List(pl.Int32)


def test_ranking_without_facts_is_none(tmp_path: Path) -> None:
    write_rankings(tmp_path, "some", make(), {"key": "k"})
    write_rankings(tmp_path, "other", make(), {})
    assert slugs_in(tmp_path) == ["other", "some"]
    assert [finished(tmp_path, "some", key) for key in ("k", "another")] == [True, False]
    (tmp_path / "some.json").unlink()
    assert (slugs_in(tmp_path), finished(tmp_path, "some", "k")) == (["other"], False)
    with pytest.raises(DataError, match=r"should hold the rankings 'some' but holds other; run `whereupon evaluate`\."):
        read_rankings(tmp_path, "some")


def test_facts_are_gone_while_a_ranking_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rankings(tmp_path, "some", make(), {})
    with monkeypatch.context() as patch:
        patch.setattr(pl.DataFrame, "write_parquet", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            write_rankings(tmp_path, "some", make(), {})
    assert slugs_in(tmp_path) == []


def test_damaged_ranking_is_one_sentence(tmp_path: Path) -> None:
    write_rankings(tmp_path, "some", make(), {})
    (tmp_path / "some.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"remove both and make them again \(`whereupon evaluate`\)\.$"):
        read_rankings(tmp_path, "some")


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ("[]", r"a\.json should hold the facts of rankings but does not \(.*an object, found a list"),
        ("{", "should be JSON but cannot be read"),
        ("{}", r"a\.json should hold .* \(k should be a number, found None\); remove it and make"),
        ('{"k": "ten", "num_events": 2}', "k should be a number, found 'ten'"),
        ('{"k": 3, "num_events": null}', "num_events should be a number, found None"),
        ('{"k": 1, "num_events": 2}', "remove both and make them again"),
        ('{"k": 3, "num_events": 5}', "2 events, where a.json has 5"),
    ],
)
def test_facts_that_are_none_are_one_sentence(tmp_path: Path, facts: str, sentence: str) -> None:
    write_rankings(tmp_path, "a", make(), {})
    (tmp_path / "a.json").write_text(facts)
    with pytest.raises(DataError, match=sentence):
        read_rankings(tmp_path, "a")


def test_rankings_of_other_columns_order_or_length_are_one_sentence(tmp_path: Path) -> None:
    write_rankings(tmp_path, "a", make(), {"key": "k"})
    frame = pl.read_parquet(tmp_path / "a.parquet")
    for other in (frame.drop("rank"), frame.reverse(), frame.head(1), frame.with_columns(items=pl.lit("x"))):
        other.write_parquet(tmp_path / "a.parquet")
        with pytest.raises(DataError, match="remove both and make them again"):
            read_rankings(tmp_path, "a")
    frame.head(1).write_parquet(tmp_path / "a.parquet")
    assert not finished(tmp_path, "a", "k")
    frame.write_parquet(tmp_path / "a.parquet")
    assert finished(tmp_path, "a", "k")


@pytest.mark.parametrize("left", [None, 0, 7, -9])
def test_ranking_whose_parquet_file_is_gone_or_cut_off_is_not_finished(tmp_path: Path, left: int | None) -> None:
    write_rankings(tmp_path, "some.v1", make(), {"key": "k"})
    path = tmp_path / "some.v1.parquet"
    assert finished(tmp_path, "some.v1", "k")
    whole = path.read_bytes()
    path.unlink() if left is None else path.write_bytes(whole[:left])
    assert not finished(tmp_path, "some.v1", "k")


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("own counts + transitions", "own-counts-transitions"),
        ("fine-tuned smollm2-135m, own counts", "fine-tuned-smollm2-135m-own-counts"),
        ("EASE", "ease"),
        ("a/../b v1.5", "a-..-b-v1.5"),
    ],
)
def test_slug_is_a_file_name(name: str, slug: str) -> None:
    assert slug_of(name) == slug


@pytest.mark.parametrize("name", ["", "+", "..", "Summary", "Ablation"])
def test_name_without_a_file_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        slug_of(name)


def test_sample_has_a_folder_of_its_own(tmp_path: Path) -> None:
    assert evaluation_folder(tmp_path, "test") == tmp_path / "evaluation" / "test"
    assert evaluation_folder(tmp_path, "valid", 50) == tmp_path / "evaluation" / "valid-50"
