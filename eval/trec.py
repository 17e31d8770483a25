"""Rankings in the format of TREC, for judging elsewhere and for letting external models in.

A run file has six columns, one line an item: `query Q0 item rank score tag`; a file of relevance judgements (qrels) has
four: `query 0 item 1`, one line an event, the item that was really chosen. That is the format of trec_eval and all that
reads its files (https://trec.nist.gov/data/qrels_eng/, "What is the format of ...").

A query is called `<user_id>@<unix seconds>`, and `.1`, `.2`, ... behind that for further events of the user in the same
second: names depend on the events alone, not on splits or row numbers. In names of users and items, white space,
control characters and `%` are written as in a URL, UTF-8 bytes in hexadecimal behind a `%`.

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
_GZIP: Final = b"\x1f\x8b"
_LINE: Final = r"^\s*(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s*$"


def escaped(names: pl.Series) -> pl.Series:
    """Names as one word each: see the module's text. Different names stay different."""
    distinct = names.unique().to_list()
    changed = {name: _UNSAFE.sub(_percent, name) for name in distinct if _UNSAFE.search(name)}
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

    Scores strictly decrease within a query, as readers order items by nothing else and each breaks ties its own way. A
    score that does not is lowered to the next number that float32 has, which is what trec_eval reads scores as.
    """
    held_EK = rankings.item_EK >= 0
    event_L, at_L = np.nonzero(held_EK)
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
    events = task.histories.events[task.row_E].select("user_id", "time", "item_id")
    query = query_ids(task.histories, task.row_E)
    return events.select(
        query, pl.Series("row", task.row_E), "user_id", "time", "item_id", pl.lit(1, pl.Int32).alias("relevance")
    )


def write_lines(path: Path, columns: Iterable[pl.Series | str]) -> None:
    """Columns (texts stand for themselves in every line) as lines with a space between, UTF-8.

    Floats are written with as many digits as tell them from their neighbours.
    """
    parts = [pl.lit(one) if isinstance(one, str) else pl.lit(one.cast(pl.String)) for one in columns]
    lines = pl.select(pl.concat_str(parts, separator=" ").alias("line"))
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for part in lines.iter_slices(100_000):
            file.write("\n".join(part["line"].to_list()) + "\n")


@dataclass(frozen=True)
class ImportedRun:
    """A run file as rankings of a task, and what was found on the way.

    Attributes:
        rankings: an event of which the file says nothing has an empty list and rank 0; ranks are those in the file's
            own lists, 0 where the true item is not there.
        tag: the last column, of the first line.
        counts: of `lines`, `missing queries`, `items that are no candidates` (left out) and `equal scores` (lines whose
            score another line of the query has; the rank column decides between them).
    """

    rankings: Rankings
    tag: str
    counts: Counter[str]


def read_run(path: Path, task: Task, k: int) -> ImportedRun:
    """Read the run file of an external model.

    Items are ordered by score, as trec_eval does; equal scores by the rank column, then as they stand in the file.

    Args:
        path: of the file, or of one compressed by gzip; white space between columns, empty lines do not count.
        task: whose events and candidates are meant.
        k: how many items of each list to keep; the rank of the true item is looked for in all of them.

    Raises:
        DataError: the file is missing, is not UTF-8, or holds a line that is none of a run, a query that is no event
            of the task, an unknown item, or an item twice in a query; names the line.
    """
    lines = _parsed(path)
    lines = _with_events(path, lines, task)
    lines = _with_items(path, lines, task.histories)
    twice = lines.filter(pl.struct("event", "item_idx").is_first_distinct().not_())
    if twice.height:
        found = f"item {twice['item'][0]!r} of query {twice['query'][0]!r} again"
        raise _wrong(path, twice, f"each item should stand once in a query but there is {found}; remove one of them")
    counts = Counter({"lines": lines.height, "missing queries": len(task.row_E) - lines["event"].n_unique()})
    allowed_L = task.candidates.holds(task.row_E[lines["event"].to_numpy()], lines["item_idx"].to_numpy())
    counts["items that are no candidates"] = int((~allowed_L).sum())
    counts["equal scores"] = int(lines.select(pl.struct("event", "score").is_duplicated().sum()).item())
    return ImportedRun(_rankings(lines.filter(pl.Series(allowed_L)), task, k), lines["tag"][0], counts)


def _parsed(path: Path) -> pl.DataFrame:
    """The columns of a run file, score as float64, rank as float64 (some write 1.0), and `line` from 1."""
    try:
        raw_bytes = path.read_bytes()
        text = (gzip.decompress(raw_bytes) if raw_bytes[:2] == _GZIP else raw_bytes).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} is missing; name a run file.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is compressed by gzip but cannot be read ({error}); compress it again.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    raw = pl.DataFrame({"text": pl.Series(text.split("\n"), dtype=pl.String)}).with_row_index("line", offset=1)
    raw = raw.filter(pl.col("text").str.strip_chars() != "")
    if not raw.height:
        raise DataError(f"{path} should hold lines `query Q0 item rank score tag` but is empty; name another file.")
    groups = pl.col("text").str.extract_groups(_LINE).struct.rename_fields(list(_COLUMNS))
    lines = raw.with_columns(groups.alias("groups")).unnest("groups")
    if (bad := lines.filter(pl.col("query").is_null())).height:
        num = len(bad["text"][0].split())
        raise _wrong(path, bad, f"expected six columns `query Q0 item rank score tag`, found {num}; mend that line")
    numbers = lines.with_columns(
        pl.col(name).cast(pl.Float64, strict=False).fill_nan(None) for name in ("rank", "score")
    )
    for name in ("rank", "score"):
        if (bad := lines.filter(numbers[name].is_null() | numbers[name].is_infinite())).height:
            raise _wrong(path, bad, f"the {name} should be a finite number, found {bad[name][0]!r}; mend that line")
    return numbers.drop("text")


def _with_events(path: Path, lines: pl.DataFrame, task: Task) -> pl.DataFrame:
    """Add `event`, the position in the task."""
    known = pl.DataFrame({"query": query_ids(task.histories, task.row_E)}).with_row_index("event")
    joined = lines.join(known, on="query", how="left", maintain_order="left")
    if (bad := joined.filter(pl.col("event").is_null())).height:
        expected = f"one of {len(task.row_E):,} events of the {task.split} split, such as {known['query'][0]!r}"
        found = f"{bad['query'][0]!r} ({bad['query'].n_unique():,} such queries in all)"
        raise _wrong(path, bad, f"the query should be {expected}, found {found}; `whereupon export` writes their names")
    return joined.with_columns(pl.col("event").cast(pl.Int64))


def _with_items(path: Path, lines: pl.DataFrame, histories: Histories) -> pl.DataFrame:
    """Add `item_idx`."""
    known = pl.DataFrame({"item": escaped(histories.items["item_id"])}).with_row_index("item_idx")
    joined = lines.join(known, on="item", how="left", maintain_order="left")
    if (bad := joined.filter(pl.col("item_idx").is_null())).height:
        found = f"{bad['item'][0]!r} ({bad['item'].n_unique():,} such items in all)"
        expected = f"one of the {histories.items.height:,} items of the histories"
        raise _wrong(path, bad, f"the item should be {expected}, found {found}; leave it out or mend its id")
    return joined.with_columns(pl.col("item_idx").cast(pl.Int64))


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


def _percent(found: re.Match[str]) -> str:
    return quote(found[0], safe="")


def _wrong(path: Path, lines: pl.DataFrame, sentence: str) -> DataError:
    return DataError(f"{path}, line {lines['line'][0]}: {sentence}.")
