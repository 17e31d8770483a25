"""Run files out and in: what is written is read back, and what is wrong is named with its line."""

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.errors import DataError
from whereupon.eval.exchange import escaped, qrels_frame, query_ids, read_run, run_frame, write_run, write_truth
from whereupon.eval.protocol import Task, read_task
from whereupon.eval.rankings import Rankings
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories
from whereupon.histories.candidates import Candidates

Build = Callable[..., Histories]
A, B, C, D, E = range(5)


@pytest.fixture
def task(town: Histories) -> Task:
    """Events: Ann to B at 20 s, Bob to C at 21 s, Cyd to D at 22 s, Dan to A at 24 s."""
    return read_task(town, "test", EvaluateSettings())


def _rankings(task: Task, lists: Sequence[Sequence[tuple[int, float]]], k: int = 3) -> Rankings:
    item_EK, score_EK = np.full((len(lists), k), -1, np.int32), np.full((len(lists), k), -np.inf)
    for event, ranked in enumerate(lists):
        for at, (item, score) in enumerate(ranked):
            item_EK[event, at], score_EK[event, at] = item, score
    found_EK = item_EK == task.true_item_E[:, None]
    rank_E = np.where(found_EK.any(axis=1), found_EK.argmax(axis=1) + 1, 0)
    return Rankings(task.row_E, rank_E, item_EK, score_EK)


def _write(folder: Path, histories: Histories, rankings: Rankings) -> Path:
    return write_run(folder, "tag", run_frame(histories, rankings))


def _run(folder: Path, *lines: str) -> Path:
    (folder / "their.run").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "their.run"


def test_queries_are_called_by_user_and_second(task: Task) -> None:
    assert query_ids(task.histories, task.row_E).to_list() == ["user-0@20", "user-1@21", "user-2@22", "user-3@24"]


def test_events_of_a_second_are_distinguished_whatever_rows_are_requested(build: Build) -> None:
    rows = [(0, A, 5, "train"), (0, B, 5, "test"), (0, C, 5, "test"), (1, A, 5, "test"), (0, D, 6, "test")]
    histories = build(rows, 5)
    every = query_ids(histories, np.arange(5)).to_list()
    assert every == ["user-0@5", "user-0@5.1", "user-0@5.2", "user-0@6", "user-1@5"]
    assert query_ids(histories, np.array([2, 4])).to_list() == ["user-0@5.2", "user-1@5"]


def test_names_are_single_words_that_are_distinguished() -> None:
    names = pl.Series(["plain", "two words", "two%20words", "tab\there", "nb\u00a0sp", "café/ß?", "\x1f"])
    found = escaped(names).to_list()
    assert found == ["plain", "two%20words", "two%2520words", "tab%09here", "nb%C2%A0sp", "café/ß?", "%1F"]
    assert all(len(name.split()) == 1 for name in found)


def test_written_lines_are_those_of_a_run_and_of_judgements(task: Task, tmp_path: Path) -> None:
    lists = [[(B, -0.5), (A, -1.25)], [], [(C, 2.0)], [(A, 0.0)]]
    path = _write(tmp_path, task.histories, _rankings(task, lists))
    assert path.read_text().splitlines() == [
        "user-0@20 Q0 item-1 1 -0.5 tag", "user-0@20 Q0 item-0 2 -1.25 tag",
        "user-2@22 Q0 item-2 1 2.0 tag", "user-3@24 Q0 item-0 1 0.0 tag",
    ]  # fmt: skip
    qrels = qrels_frame(task)
    assert qrels["item_id"].to_list() == ["item-1", "item-2", "item-3", "item-0"]
    assert (qrels["row"].to_list(), set(qrels["relevance"])) == (task.row_E.tolist(), {1})


def test_quotes_in_names_stay_as_they_are(tmp_path: Path) -> None:
    score = pl.Series([0.5], dtype=pl.Float32)
    frame = pl.DataFrame({"query": ['"u"@1'], "item_id": ['a"b"'], "rank": [1], "score": score})
    assert write_run(tmp_path, "tag", frame).read_text() == '"u"@1 Q0 a"b" 1 0.5 tag\n'


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=6).map(lambda one: sorted(one, reverse=True)))
@settings(deadline=None)
def test_scores_of_any_size_strictly_decrease_as_trec_eval_reads_them(scores: list[float]) -> None:
    item_EK = np.arange(len(scores), dtype=np.int32)[None]
    rankings = Rankings(np.zeros(1, np.int64), np.ones(1, np.int64), item_EK, np.array([scores]))
    histories = _one_event(len(scores))
    column = run_frame(histories, rankings)["score"]
    read = np.array([float(text) for text in column.cast(pl.String)], np.float32)
    assert np.isfinite(read).all()
    assert (np.diff(read) < 0).all()
    fits = np.abs(scores) < 1e38
    if fits.all() and (np.diff(np.array(scores, np.float32)) < 0).all():
        assert read.tolist() == np.array(scores, np.float32).tolist()


def _one_event(num_items: int) -> Histories:
    from whereupon.histories import build_histories

    events = pl.DataFrame({
        "user_id": ["u"], "item_id": ["i0"], "user_idx": pl.Series([0], dtype=pl.Int32),
        "item_idx": pl.Series([0], dtype=pl.Int32), "time": pl.Series([0], dtype=pl.Datetime("us", "UTC")),
        "local_time": pl.Series([0], dtype=pl.Datetime("us")), "split": ["test"],
    })  # fmt: skip
    ids = [f"i{number}" for number in range(num_items)]
    manifest = {"location": "outcome", "data_hash": "", "catalogue_hash": ""}
    return build_histories(events, pl.DataFrame({"item_id": ids, "title": ids}), manifest)


_LISTS = st.lists(
    st.lists(st.integers(0, 4), unique=True, max_size=4), min_size=4, max_size=4
)  # items of each event, best first


@given(_LISTS, st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50)
def test_rankings_written_and_read_again_are_the_same(
    town_factory: Callable[[], Histories], tmp_path_factory: pytest.TempPathFactory, lists: list[list[int]], seed: int
) -> None:
    task = read_task(town_factory(), "test", EvaluateSettings())
    if not any(lists):
        return
    random = np.random.default_rng(seed)
    scored = [list(zip(items, np.sort(random.normal(size=len(items)))[::-1].tolist(), strict=True)) for items in lists]
    rankings = _rankings(task, scored, k=4)
    path = _write(tmp_path_factory.mktemp("run"), task.histories, rankings)
    found, tag, counts = read_run(path, task, 4)
    assert found.item_EK.tolist() == rankings.item_EK.tolist()
    assert found.rank_E.tolist() == rankings.rank_E.tolist()
    assert found.score_EK == pytest.approx(rankings.score_EK, rel=1e-6)
    assert (tag, counts["missing queries"]) == ("tag", sum(not items for items in lists))


@pytest.fixture(scope="session")
def town_factory(build: Build) -> Callable[[], Histories]:
    rows = [(user, item, time, "train") for user, item, time in [(0, A, 1), (1, B, 2), (2, C, 3), (3, D, 4)]]
    rows += [(user, item, time, "test") for user, item, time in [(0, B, 20), (1, C, 21), (2, D, 22), (3, A, 23)]]
    histories = build(rows, 5)
    return lambda: histories


def test_metrics_of_a_written_run_by_ir_measures_are_ours(task: Task, tmp_path: Path) -> None:
    ir_measures = pytest.importorskip("ir_measures")
    from whereupon.eval.metrics import summarise

    lists = [[(A, 1.0), (B, 1.0)], [(C, 0.5)], [(A, 3.0), (B, 2.0), (D, 1.0)], [(B, 0.1)]]
    rankings = _rankings(task, lists)
    run = list(ir_measures.read_trec_run(str(_write(tmp_path, task.histories, rankings))))
    write_truth(tmp_path, task)
    judged = list(ir_measures.read_trec_qrels(str(tmp_path / "qrels.txt")))
    theirs = ir_measures.calc_aggregate([ir_measures.parse_measure(name) for name in ("nDCG@10", "RR@10")], judged, run)
    ours = summarise(rankings.rank_E)
    assert {str(name): value for name, value in theirs.items()} == pytest.approx(
        {"nDCG@10": ours["nDCG@10"], "RR@10": ours["MRR@10"]}
    )


def test_items_go_by_score_then_rank_then_line(task: Task, tmp_path: Path) -> None:
    path = _run(
        tmp_path, "user-0@20 Q0 item-0 9 1.5 x", "user-0@20 Q0 item-1 1 0.5 x", "  ", "user-0@20\tQ0\titem-2  2 1.5 x",
        "user-3@24 Q0 item-4 1 2e-1 x", "user-3@24 Q0 item-0 1 0.2 x\r",
    )  # fmt: skip
    found, _, counts = read_run(path, task, 2)
    assert found.item_EK.tolist() == [[C, A], [-1, -1], [-1, -1], [E, A]]
    assert found.rank_E.tolist() == [3, 0, 0, 2]  # Ann's B is beyond the two that are kept
    assert counts == {"lines": 5, "missing queries": 2, "items that are no candidates": 0, "equal scores": 4}


def test_file_may_be_compressed_and_begin_with_a_byte_order_mark(task: Task, tmp_path: Path) -> None:
    plain = _run(tmp_path, GOOD, "user-3@24 Q0 item-4 1 2e-1 x")
    expected, _, expected_counts = read_run(plain, task, 2)
    for name, written in (("bom", b"\xef\xbb\xbf" + plain.read_bytes()), ("gz", gzip.compress(plain.read_bytes()))):
        (tmp_path / name).write_bytes(written)
        found, _, counts = read_run(tmp_path / name, task, 2)
        assert (counts, found.rank_E.tolist()) == (expected_counts, expected.rank_E.tolist())
    (tmp_path / "cut.gz").write_bytes(gzip.compress(plain.read_bytes())[:-9])
    with pytest.raises(
        DataError, match=r"cut\.gz should be UTF-8 text, plain or compressed by gzip, but cannot be read"
    ):
        read_run(tmp_path / "cut.gz", task, 2)


def test_items_that_are_no_candidates_are_left_out_and_counted(task: Task, tmp_path: Path) -> None:
    without = Task(task.histories, "test", task.row_E, Candidates.of(task.histories, "excluded"))
    path = _run(tmp_path, "user-2@22 Q0 item-0 1 3 x", "user-2@22 Q0 item-3 2 2 x")
    found, _, counts = read_run(path, without, 2)
    assert found.item_EK[2].tolist() == [D, -1]
    assert (found.rank_E[2], counts["items that are no candidates"]) == (1, 1)


GOOD = "user-0@20 Q0 item-0 1 3 x"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("user-0@21 Q0 item-0 1 1 x", r"the query should be one of 4 that .* such as 'user-0@20', found 'user-0@21'"),
        ("user-0@20 Q0 item-9 2 1 x", r"the item should be one of 5 that .*, found 'item-9' \(1 unknown"),
        (GOOD, r"item 'item-0' of query 'user-0@20' again; remove one"),
        ("user-0@20 Q0 item-1 2 x", r"expected six columns `query Q0 item rank score tag`, found 5; fix that line"),
        ("user-0@20 Q0 item-1 2 1 x y", r"found 7"),
        ("user-0@20 Q0 item-1 2 high x", r"the score should be a finite number, found 'high'"),
        ("user-0@20 Q0 item-1 2 nan x", r"the score should be a finite number, found 'nan'"),
        ("user-0@20 Q0 item-1 2 inf x", r"the score should be a finite number, found 'inf'"),
        ("user-0@20 Q0 item-1 two 1 x", r"the rank should be a finite number, found 'two'"),
    ],
)
def test_line_that_breaks_the_contract_is_named(task: Task, tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"^.*their\.run, line 3: .*{message}"):
        read_run(_run(tmp_path, GOOD, "", line), task, 3)


def test_file_without_lines_without_text_or_without_being_is_one_sentence(task: Task, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="but is empty; name another file"):
        read_run(_run(tmp_path, "", " "), task, 3)
    with pytest.raises(DataError, match=r"missing\.run is missing; name a run file"):
        read_run(tmp_path / "missing.run", task, 3)
    (tmp_path / "latin.run").write_bytes(b"caf\xe9 Q0 item-0 1 3 x\n")
    with pytest.raises(DataError, match=r"latin\.run should be UTF-8 text, .* but cannot be read"):
        read_run(tmp_path / "latin.run", task, 3)
