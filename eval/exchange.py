"""`whereupon export` and `whereupon import-run`: rankings out to other tools, and rankings of other tools in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl

from ..console import say, show
from ..errors import DataError
from ..files import atomic_path, sha256_file, sha256_text
from ..histories import read_histories
from ..histories.questions import caveat_of
from .facts import facts_of
from .protocol import Task, read_task
from .rankers import free_slug, named_rankings, of_task
from .rankings import evaluation_folder, write_rankings
from .run import result_of, write_summary
from .table import RankerResult, as_table
from .trec import escaped, qrels_frame, read_run, run_frame, write_lines
from .wording import ON_VALIDATION

if TYPE_CHECKING:
    from ..config import Config
    from ..histories.candidates import EvaluatedSplit

__all__ = ["ExportFormat", "export", "import_run"]

ExportFormat = Literal["trec", "parquet"]


def export(
    config: Config, out: Path, *, format: ExportFormat, split: EvaluatedSplit, limit: int | None = None,
    names: Sequence[str] = (),
) -> list[Path]:  # fmt: skip
    """Write what was to be predicted, and rankings of it, to the folder `out`; prints and returns the files.

    As TREC: `qrels.txt`, `queries.tsv` (with a heading: query, row, user_id, time in ISO 8601) and `<slug>.run`, tagged
    with the slug; see `trec`. As Parquet: `qrels.parquet` and `<slug>.parquet`, columns as in `qrels_frame`
    and `run_frame`. Without any ranking there is still what was to be predicted, for an external model to begin with.

    `names` are those of rankers, as shown or as slugs; none: all that are complete and of this task.

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
    files = _write_truth(out, task, format)
    for rankings, facts in found:
        slug, frame = str(facts["slug"]), run_frame(task.histories, rankings)
        files.append(out / f"{slug}.{'parquet' if format == 'parquet' else 'run'}")
        if format == "parquet":
            _write_parquet(files[-1], frame)
        else:
            columns = frame["query"], "Q0", escaped(frame["item_id"]), frame["rank"], frame["score"], slug
            write_lines(files[-1], columns)
    for file in files:
        print(file)
    return files


def import_run(
    config: Config, file: Path, *, name: str, split: EvaluatedSplit, limit: int | None = None
) -> list[RankerResult]:
    """Let the rankings of an external model into the leaderboard, from a TREC run file; prints and returns its row.

    Raises:
        DataError: the file breaks its contract (see `trec.read_run`), or the name is that of another ranker.
    """
    task, folder = _task(config, split, limit)
    slug = free_slug(folder, name, "run file")
    run = read_run(file, task, config.evaluate.k)
    for what, consequence in _CONSEQUENCES.items():
        if run.counts[what]:
            say(f"{what}: {run.counts[what]:,}, {consequence}")
    settings = {"file": file.name, "sha256": sha256_file(file), "tag": run.tag, "counts": dict(run.counts)}
    key = sha256_text(f"{task.hash} {config.evaluate.k} {settings['sha256']}")
    facts = facts_of(config, task, name=name, kind="run file", wall_s=None, settings=settings, key=key)
    write_rankings(folder, slug, run.rankings, facts, task.histories.events)
    write_summary(config, task, folder)
    results = [result_of(run.rankings, facts)]
    show(as_table(results, f"{split} split, {run.counts['lines']:,} lines"))
    say(f"written to {folder / slug}.parquet")
    if split == "valid":
        say(ON_VALIDATION)
    return results


_CONSEQUENCES = {
    "missing queries": "counted as answered by nothing",
    "items that are no candidates": "left out",
    "equal scores": "ordered by the rank column, which trec_eval ignores",
}


def _task(config: Config, split: EvaluatedSplit, limit: int | None) -> tuple[Task, Path]:
    """What is predicted, and the folder of its rankings."""
    task = read_task(read_histories(config.run), split, config.evaluate, limit, config.seed)
    if caveat := caveat_of(task.histories):
        say(caveat)
    return task, evaluation_folder(config.run, split, limit)


def _write_truth(out: Path, task: Task, format: ExportFormat) -> list[Path]:
    qrels = qrels_frame(task)
    if format == "parquet":
        _write_parquet(out / "qrels.parquet", qrels)
        return [out / "qrels.parquet"]
    write_lines(out / "qrels.txt", (qrels["query"], "0", escaped(qrels["item_id"]), "1"))
    queries = qrels.select("query", "row", "user_id", pl.col("time").dt.to_string("iso:strict"))
    with atomic_path(out / "queries.tsv") as path:
        queries.write_csv(path, separator="\t")
    return [out / "qrels.txt", out / "queries.tsv"]


def _write_parquet(path: Path, frame: pl.DataFrame) -> None:
    with atomic_path(path) as temporary:
        frame.write_parquet(temporary)
