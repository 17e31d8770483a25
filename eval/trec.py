"""Rankings in the format of TREC, for judging elsewhere and for letting external models in.

A run file has one line an item: `query Q0 item rank score tag`. A file of relevance judgements (qrels) has one line an
event, with the item that was chosen: `query 0 item 1`. That is the format of trec_eval
(https://trec.nist.gov/data/qrels_eng/, "What is the format of ...").

A query is called `<user_id>@<unix seconds>`, with `.1`, `.2`, ... for further events of the user in the same second. In
names of users and items, white space, control characters and `%` are written as in a URL.

Shapes: E = events of a task, K = items of a ranking, L = lines of a file.
"""

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ..arrays import Int64
from ..errors import DataError
from ..files import atomic_path
from ..histories import Histories
from .protocol import Task
from .rankings import Rankings

__all__ = ["ImportedRun", "escaped", "qrels_frame", "query_ids", "read_run", "run_frame", "write_lines"]


_UNSAFE: Final = re.compile(r"[\s%\x00-\x1f\x7f-\x9f]")
_COLUMNS: Final = ("query", "iteration", "item", "rank", "score", "tag")


def escaped(names: pl.Series) -> pl.Series:
    """Names as one word each: see the module's text. Different names stay different."""
    distinct = names.unique().to_list()
    changed = {name: new for name in distinct if (new := _UNSAFE.sub(lambda one: quote(one[0], safe=""), name)) != name}
    return names.replace(changed) if changed else names


def query_ids(histories: Histories, row_E: Int64) -> pl.Series:
    """What the events in rows `row_E` (int64 [E]) are called, each by another name."""
    second = pl.col("time").dt.epoch("s")
    events = histories.events.select("user_id", second.alias("second"), "user_idx")
    number = events.select(pl.int_range(pl.len()).over("user_idx", "second").alias("number"))["number"]
    chosen = events.with_columns(number.alias("number"))[row_E]
    suffix = pl.when(pl.col("number") > 0).then(pl.format(".{}", "number")).otherwise(pl.lit(""))
    named = chosen.with_columns(escaped(chosen["user_id"]).alias("user_id"))
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


def qrels_frame(task: Task) -> pl.DataFrame:
    """One row an event: query, row, user_id, time, item_id (of the item chosen), relevance (1)."""
    query, relevance = query_ids(task.histories, task.row_E), pl.lit(1, pl.Int32).alias("relevance")
    events = task.histories.events[task.row_E]
    return events.select(query, pl.Series("row", task.row_E), "user_id", "time", "item_id", relevance)


def write_lines(path: Path, columns: Iterable[pl.Series | str]) -> None:
    """Columns (a text is the same in every line) as lines with a space between, UTF-8."""
    parts = [pl.lit(one) if isinstance(one, str) else pl.lit(one.cast(pl.String)) for one in columns]
    lines = pl.select(pl.concat_str(parts, separator=" ").alias("line"))
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for part in lines.iter_slices(100_000):
            file.write("\n".join(part["line"].to_list()) + "\n")


@dataclass(frozen=True)
class ImportedRun:
    """A run file as rankings of a task; an event that it says nothing of has an empty list and rank 0.

    `tag` is the last column of the first line. `counts` are those of `lines`, `missing queries`, `items that are no
    candidates` (left out) and `equal scores` (lines whose score another line of the query has).
    """

    rankings: Rankings
    tag: str
    counts: Counter[str]


def read_run(path: Path, task: Task, k: int) -> ImportedRun:
    """Read the run file of an external model, plain or compressed by gzip, and keep the first k items of each list.

    Items are ordered by score, as trec_eval does; equal scores by the rank column, then as they stand in the file.

    Raises:
        DataError: the file cannot be read, or a line is not one of a run of this task; names the line.
    """
    lines, items = _parsed(path), task.histories.items
    queries = pl.DataFrame({"query": query_ids(task.histories, task.row_E)})
    expected = f"one of {queries.height:,} events of the {task.split} split, such as {queries['query'][0]!r}"
    lines = _indexed(path, lines, queries, "event", expected, "`whereupon export` writes their names")
    known = pl.DataFrame({"item": escaped(items["item_id"])})
    expected = f"one of the {items.height:,} items of the histories"
    lines = _indexed(path, lines, known, "item_idx", expected, "leave it out or fix its id")
    twice = lines.filter(pl.struct("event", "item_idx").is_first_distinct().not_())
    if twice.height:
        found = f"item {twice['item'][0]!r} of query {twice['query'][0]!r} again"
        raise _wrong(path, twice, f"each item should stand once in a query but there is {found}; remove one of them")
    counts = Counter({"lines": lines.height, "missing queries": queries.height - lines["event"].n_unique()})
    allowed_L = task.candidates.holds(task.row_E[lines["event"].to_numpy()], lines["item_idx"].to_numpy())
    counts["items that are no candidates"] = int((~allowed_L).sum())
    counts["equal scores"] = int(lines.select(pl.struct("event", "score").is_duplicated().sum()).item())
    return ImportedRun(_rankings(lines.filter(pl.Series(allowed_L)), task, k), lines["tag"][0], counts)


def _parsed(path: Path) -> pl.DataFrame:
    """The columns of a run file, rank and score as float64, and `line` from 1."""
    try:
        raw_bytes = path.read_bytes()
        text = (gzip.decompress(raw_bytes) if raw_bytes[:2] == b"\x1f\x8b" else raw_bytes).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} is missing; name a run file.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is compressed by gzip but cannot be read ({error}); compress it again.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from None
    words = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not words:
        raise DataError(f"{path} should hold lines `query Q0 item rank score tag` but is empty; name another file.")
    if bad := next(((number, line) for number, line in words if len(line) != len(_COLUMNS)), None):
        found = f"expected six columns `query Q0 item rank score tag`, found {len(bad[1])}; fix that line"
        raise DataError(f"{path}, line {bad[0]}: {found}.")
    schema = {"line": pl.Int64, **dict.fromkeys(_COLUMNS, pl.String)}
    lines = pl.DataFrame([(number, *line) for number, line in words], schema, orient="row")
    for name in ("rank", "score"):
        number = lines[name].cast(pl.Float64, strict=False)
        if (wrong := lines.filter(number.is_finite().fill_null(False).not_())).height:
            raise _wrong(path, wrong, f"the {name} should be a finite number, found {wrong[name][0]!r}; fix that line")
        lines = lines.with_columns(number)
    return lines


def _indexed(
    path: Path, lines: pl.DataFrame, known: pl.DataFrame, index: str, expected: str, advice: str
) -> pl.DataFrame:
    """Add where the names in the one column of `known` stand there; a name that is not there is refused."""
    [name] = known.columns
    joined = lines.join(known.with_row_index(index), on=name, how="left", maintain_order="left")
    if (bad := joined.filter(pl.col(index).is_null())).height:
        found = f"{bad[name][0]!r} ({bad[name].n_unique():,} such {'queries' if name == 'query' else 'items'} in all)"
        raise _wrong(path, bad, f"the {name} should be {expected}, found {found}; {advice}")
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


def _strictly_decreasing(rankings: Rankings) -> NDArray[np.float32]:
    """Scores float32 [E, K], each below the one before; -inf means nothing."""
    lowest, highest = np.finfo(np.float32).min / 2, np.finfo(np.float32).max / 2  # with room for lowering below
    score_EK = np.clip(rankings.score_EK, lowest, highest).astype(np.float32)
    for at in range(1, score_EK.shape[1]):
        below_E = np.nextafter(score_EK[:, at - 1], np.float32(-np.inf))
        score_EK[:, at] = np.minimum(score_EK[:, at], below_E)
    return score_EK


def _wrong(path: Path, lines: pl.DataFrame, sentence: str) -> DataError:
    return DataError(f"{path}, line {lines['line'][0]}: {sentence}.")
