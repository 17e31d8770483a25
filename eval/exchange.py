"""`whereupon export` and `whereupon import-run`: rankings out to other tools, and rankings of other tools in.

A TREC run file has one line an item: `query Q0 item rank score tag`. Its relevance judgements (qrels) have one line an
event, with the item that was chosen: `query 0 item 1` (https://trec.nist.gov/data/qrels_eng/).

A query is called `<user_id>@<unix seconds>`, with `.1`, `.2`, ... for further events of the user in the same second. In
names of users and items, white space, control characters and `%` are written as in a URL.

Shapes: E = events of a task, K = items of a ranking, L = lines of a file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..arrays import Int64
from ..console import say, show
from ..errors import DataError, first_line
from ..files import atomic_path, sha256_file, sha256_text
from ..histories import Histories, read_histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import caveat_of
from .protocol import Task, read_task
from .rankings import Rankings, evaluation_folder, facts_of, free_slug, named_rankings, of_task, write_rankings
from .run import result_of, write_summary
from .table import RankerResult, as_table
from .wording import ON_VALIDATION

if TYPE_CHECKING:
    from ..config import Config

_COLUMNS: Final = ("query", "iteration", "item", "rank", "score", "tag")
_CONSEQUENCES: Final = {
    "missing queries": "counted as answered by nothing",
    "items that are no candidates": "left out",
    "equal scores": "ordered by the rank column, which trec_eval ignores",
}


def export(
    config: Config, out: Path, *, format: Literal["trec", "parquet"], split: EvaluatedSplit, limit: int | None = None,
    names: Sequence[str] = (),
) -> list[Path]:  # fmt: skip
    """Write what was to be predicted, and rankings of it, to the folder `out`; prints and returns the files.

    As TREC: `qrels.txt`, `queries.tsv` (with a heading: query, row, user_id, time in ISO 8601) and `<slug>.run`, tagged
    with the slug. As Parquet: `qrels.parquet` and `<slug>.parquet`, with the columns of `qrels_frame` and `run_frame`.
    `names` are those of rankers, as shown or as slugs; none: all that are complete and of this task, if any.

    Raises:
        DataError: no such ranking, or one of other events; `out` is a file.
    """
    task, folder = _task(config, split, limit)
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} should be a folder but is a file; name another one.")
    if not names:
        names, others = of_task(folder, task)
        if others:
            say(f"{', '.join(others)}: rankings of other data or events, left out")
    found = [named_rankings(folder, name, task) for name in names]
    frames = {str(facts["slug"]): run_frame(task.histories, rankings) for rankings, facts in found}
    if format == "parquet":
        tables = {"qrels": qrels_frame(task), **frames}
        files = [_write_parquet(out / f"{name}.parquet", frame) for name, frame in tables.items()]
    else:
        files = [*write_truth(out, task), *(write_run(out, slug, frame) for slug, frame in frames.items())]
    for file in files:
        print(file)
    return files


def import_run(
    config: Config, file: Path, *, name: str, split: EvaluatedSplit, limit: int | None = None
) -> list[RankerResult]:
    """Let the rankings of an external model into the leaderboard, from a TREC run file; prints and returns its row.

    Raises:
        DataError: the file breaks its contract (see `read_run`), or the name is that of another ranker.
    """
    task, folder = _task(config, split, limit)
    slug = free_slug(folder, name, "run file")
    rankings, tag, counts = read_run(file, task, config.evaluate.k)
    for what, consequence in _CONSEQUENCES.items():
        if counts[what]:
            say(f"{what}: {counts[what]:,}, {consequence}")
    settings = {"file": file.name, "sha256": sha256_file(file), "tag": tag, "counts": counts}
    key = sha256_text(f"{task.hash} {config.evaluate.k} {settings['sha256']}")
    facts = facts_of(config, task, name=name, kind="run file", wall_s=None, settings=settings, key=key)
    write_rankings(folder, slug, rankings, facts, task.histories.events)
    write_summary(config, task, folder)
    results = [result_of(rankings, facts, task.histories)]
    show(as_table(results, f"{split} split, {counts['lines']:,} lines"))
    say(f"written to {folder / slug}.parquet")
    if split == "valid":
        say(ON_VALIDATION)
    return results


def _task(config: Config, split: EvaluatedSplit, limit: int | None) -> tuple[Task, Path]:
    """What is predicted, and the folder of its rankings."""
    task = read_task(read_histories(config.run), split, config.evaluate, limit, config.seed)
    if caveat := caveat_of(task.histories):
        say(caveat)
    return task, evaluation_folder(config.run, split, limit)


def escaped(names: pl.Series) -> pl.Series:
    """Names as one word each: see the module's text. Different names stay different."""
    changed = {
        name: re.sub(r"[\s%\x00-\x1f\x7f-\x9f]", lambda one: quote(one[0], safe=""), name) for name in names.unique()
    }
    return names.replace(changed)


def query_ids(histories: Histories, row_E: Int64) -> pl.Series:
    """What the events in rows `row_E` (int64 [E]) are called, each by another name."""
    events = histories.events.select("user_id", pl.col("time").dt.epoch("s").alias("second"), "user_idx")
    chosen = events.with_columns(pl.int_range(pl.len()).over("user_idx", "second").alias("number"))[row_E]
    suffix = pl.when(pl.col("number") > 0).then(pl.format(".{}", "number")).otherwise(pl.lit(""))
    named = chosen.with_columns(escaped(chosen["user_id"]))
    return named.select(pl.format("{}@{}{}", "user_id", "second", suffix).alias("query"))["query"]


def run_frame(histories: Histories, rankings: Rankings) -> pl.DataFrame:
    """One row an item of each ranking, best first: query, item_id, item_idx, rank from 1, score (float32).

    Scores strictly decrease within a query, as readers break ties each in their own way: equal ones are lowered to the
    next float32, which is what trec_eval reads scores as.
    """
    event_L, at_L = np.nonzero(rankings.item_EK >= 0)
    item_L = rankings.item_EK[event_L, at_L].astype(np.int64)
    return pl.DataFrame({
        "query": query_ids(histories, rankings.row_E)[event_L],
        "item_id": histories.items["item_id"][item_L],
        "item_idx": pl.Series(item_L, dtype=pl.Int32),
        "rank": pl.Series(at_L + 1, dtype=pl.Int32),
        "score": _strictly_decreasing(rankings)[event_L, at_L],
    })  # fmt: skip


def _strictly_decreasing(rankings: Rankings) -> NDArray[np.float32]:
    """Scores float32 [E, K], each below the one before; -inf means nothing."""
    lowest, highest = np.finfo(np.float32).min / 2, np.finfo(np.float32).max / 2  # with space for lower scores below
    score_EK = np.clip(rankings.score_EK, lowest, highest).astype(np.float32)
    for at in range(1, score_EK.shape[1]):
        below_E = np.nextafter(score_EK[:, at - 1], np.float32(-np.inf))
        score_EK[:, at] = np.minimum(score_EK[:, at], below_E)
    return score_EK


def qrels_frame(task: Task) -> pl.DataFrame:
    """One row an event: query, row, user_id, time, item_id (of the item chosen), relevance (1)."""
    query, relevance = query_ids(task.histories, task.row_E), pl.lit(1, pl.Int32).alias("relevance")
    events = task.histories.events[task.row_E]
    return events.select(query, pl.Series("row", task.row_E), "user_id", "time", "item_id", relevance)


def write_run(folder: Path, slug: str, frame: pl.DataFrame) -> Path:
    """Write `<slug>.run` from the columns of `run_frame`."""
    tag, score = pl.lit(slug).alias("tag"), pl.col("score").cast(pl.String)
    lines = frame.select("query", pl.lit("Q0"), escaped(frame["item_id"]), "rank", score, tag)
    return _write_lines(folder / f"{slug}.run", lines)


def write_truth(folder: Path, task: Task) -> list[Path]:
    """Write `qrels.txt` and `queries.tsv`, see `export`."""
    qrels = qrels_frame(task)
    judged = qrels.select("query", pl.lit("0"), escaped(qrels["item_id"]), "relevance")
    queries = qrels.select("query", "row", "user_id", pl.col("time").dt.to_string("iso:strict"))
    with atomic_path(folder / "queries.tsv") as path:
        queries.write_csv(path, separator="\t")
    return [_write_lines(folder / "qrels.txt", judged), folder / "queries.tsv"]


def _write_lines(path: Path, frame: pl.DataFrame) -> Path:
    with atomic_path(path) as temporary:
        frame.write_csv(temporary, separator=" ", include_header=False, quote_style="never")
    return path


def _write_parquet(path: Path, frame: pl.DataFrame) -> Path:
    with atomic_path(path) as temporary:
        frame.write_parquet(temporary)
    return path


def read_run(path: Path, task: Task, k: int) -> tuple[Rankings, str, dict[str, int]]:
    """The run file of an external model, plain or compressed: the first k items of each list, the tag, and counts.

    Items are ordered by score, as trec_eval does; equal scores by the rank column, then as they stand in the file. An
    event that the file says nothing of has an empty list and rank 0. The tag is that of the first line. Counts are of
    `lines` and of what `import_run` prints.

    Raises:
        DataError: the file cannot be read, or a line is not one of a run of this task; names the line.
    """
    queries = query_ids(task.histories, task.row_E)
    lines = _indexed(path, _parsed(path), queries, "event")
    lines = _indexed(path, lines, escaped(task.histories.items["item_id"]).alias("item"), "item_idx")
    twice = lines.filter(pl.struct("event", "item_idx").is_first_distinct().not_())
    if twice.height:
        found = f"item {twice['item'][0]!r} of query {twice['query'][0]!r} again"
        raise _wrong(path, twice, f"each item should appear once in a query, but found {found}; remove one of them")
    allowed_L = task.candidates.holds(task.row_E[lines["event"].to_numpy()], lines["item_idx"].to_numpy())
    counts = {
        "lines": lines.height,
        "missing queries": len(queries) - lines["event"].n_unique(),
        "items that are no candidates": int((~allowed_L).sum()),
        "equal scores": int(lines.select(pl.struct("event", "score").is_duplicated().sum()).item()),
    }
    return _rankings(lines.filter(pl.Series(allowed_L)), task, k), lines["tag"][0], counts


def _parsed(path: Path) -> pl.DataFrame:
    """The columns of a run file, rank and score as float64, and `line` from 1."""
    try:
        text = pl.read_lines(path, name="text", row_index_name="line", row_index_offset=1)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; name a run file.") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        what = f"UTF-8 text, plain or compressed by gzip, but cannot be read ({first_line(error)})"
        raise DataError(f"{path} should be {what}; save it again.") from None
    words = pl.col("text").str.strip_chars_start("\ufeff").str.extract_all(r"\S+").alias("words")
    lines = text.select(pl.col("line").cast(pl.Int64), words).filter(pl.col("words").list.len() > 0)
    if not lines.height:
        raise DataError(f"{path} should hold lines `query Q0 item rank score tag` but is empty; name another file.")
    if (wrong := lines.filter(pl.col("words").list.len() != len(_COLUMNS))).height:
        found = f"found {len(wrong['words'][0])}; fix that line"
        raise _wrong(path, wrong, f"expected six columns `query Q0 item rank score tag`, {found}")
    lines = lines.select("line", *(pl.col("words").list.get(at).alias(name) for at, name in enumerate(_COLUMNS)))
    for name in ("rank", "score"):
        number = lines[name].cast(pl.Float64, strict=False)
        if (wrong := lines.filter(number.is_finite().fill_null(False).not_())).height:
            raise _wrong(path, wrong, f"the {name} should be a finite number, found {wrong[name][0]!r}; fix that line")
        lines = lines.with_columns(number)
    return lines


def _indexed(path: Path, lines: pl.DataFrame, known: pl.Series, index: str) -> pl.DataFrame:
    """Add where the names in `known` stand there; a name that is not there is refused."""
    name = known.name
    joined = lines.join(known.to_frame().with_row_index(index), on=name, how="left", maintain_order="left")
    if (bad := joined.filter(pl.col(index).is_null())).height:
        expected = f"the {name} should be one of {len(known):,} that `whereupon export` writes, such as {known[0]!r}"
        found = f"found {bad[name][0]!r} ({bad[name].n_unique():,} unknown ones in all); fix it or leave it out"
        raise _wrong(path, bad, f"{expected}, {found}")
    return joined.with_columns(pl.col(index).cast(pl.Int64))


def _rankings(lines: pl.DataFrame, task: Task, k: int) -> Rankings:
    ordered = lines.sort("event", -pl.col("score"), "rank", "line")
    event_L, item_L = ordered["event"].to_numpy(), ordered["item_idx"].to_numpy()
    at_L = np.arange(len(event_L)) - np.searchsorted(event_L, event_L)
    rank_E = np.zeros(len(task.row_E), np.int64)
    is_truth_L = item_L == task.true_item_E[event_L]
    rank_E[event_L[is_truth_L]] = at_L[is_truth_L] + 1
    first_L = at_L < k
    item_EK = np.full((len(task.row_E), k), -1, np.int32)
    score_EK = np.full(item_EK.shape, -np.inf)
    item_EK[event_L[first_L], at_L[first_L]] = item_L[first_L]
    score_EK[event_L[first_L], at_L[first_L]] = ordered["score"].to_numpy()[first_L]
    return Rankings(task.row_E, rank_E, item_EK, score_EK)


def _wrong(path: Path, lines: pl.DataFrame, sentence: str) -> DataError:
    return DataError(f"{path}, line {lines['line'][0]}: {sentence}.")
