"""`whereupon evaluate`: the model and the baselines on the same events, over the full catalogue."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from ..decode.settings import CalibrationName
from ..files import atomic_path, sha256_text, versions, write_json
from ..histories import Histories, read_histories
from .baselines import BASELINES
from .metrics import per_event, summarise
from .protocol import evaluated_events, sample_events
from .reweighter import Reweighter, read_reweighter
from .table import RankerResult, as_json, as_table

if TYPE_CHECKING:
    from ..config import Config
    from ..decode.transformers_engine import TransformersEngine
    from ..prompts import HistoryText
    from .settings import EvaluatedSplit

Int64 = NDArray[np.int64]
SAVE_EVERY_S = 60.0

_talk = Console(stderr=True, highlight=False)


def _say(text: str) -> None:
    _talk.print(text, markup=False, soft_wrap=True)


@dataclass(frozen=True)
class ModelAnswers:
    """What the model said of E events: ranks (0 = not among the k), log-probabilities, whether the top-k was exact."""

    rank_E: Int64
    log_prob_E: NDArray[np.float32]
    exact_E: NDArray[np.bool_]
    wall_s: float


def evaluate(
    config: Config,
    *,
    split: EvaluatedSplit,
    use_adapter: bool = True,
    limit: int | None = None,
    baselines_only: bool = False,
) -> list[RankerResult]:
    """Rank the events of `split`, print the table, write `summary.json` and `events.parquet`; returns the table's rows.

    Files land in `<run>/evaluation`, with the ranker in their folder's name where it is not the fine-tuned model.
    """
    histories = read_histories(config.run)
    row_E = evaluated_events(histories, split)
    row_E = row_E[(chosen := sample_events(len(row_E), limit, config.seed))]
    columns: dict[str, Any] = {"row": row_E}
    columns |= {name: histories.events[name].gather(row_E) for name in ("user_id", "item_id", "time")}
    results = []
    for baseline in config.evaluate.baselines:
        began = time.perf_counter()
        rank_E = BASELINES[baseline].rank(histories, split)[chosen]
        results.append(RankerResult(baseline, summarise(rank_E), len(row_E), time.perf_counter() - began))
        columns |= _columns(baseline, per_event(rank_E), rank_E)
    if not use_adapter and config.decode.calibration != "none":
        _say(f"decode.calibration: {config.decode.calibration} is left out, having been fitted to the fine-tuned model")
    calibration: CalibrationName = config.decode.calibration if use_adapter else "none"
    folder = config.run / "evaluation" / _folder(split, use_adapter, calibration, limit, baselines_only)
    facts: dict[str, Any] = {}
    partial: Path | None = None
    if not baselines_only:
        name = "fine-tuned" if use_adapter else "zero-shot"
        answers, facts, partial = _ask_model(config, histories, row_E, use_adapter, folder)
        scores = per_event(answers.rank_E, answers.log_prob_E)
        summary = summarise(answers.rank_E, answers.log_prob_E)
        label = f"{name} {Path(config.model.base).name}" + (f", {calibration}" if calibration != "none" else "")
        results.append(RankerResult(label, summary, len(row_E), answers.wall_s))
        columns |= _columns(name, scores, answers.rank_E)
    _write(folder, config, histories, split, results, columns, facts)
    if partial:
        partial.unlink(missing_ok=True)
    title = f"{split} split, {histories.items.height:,} items in the catalogue"
    Console(highlight=False).print(as_table(results, title))
    if facts and facts["exact_share"] < 1:
        _say(f"{facts['exact_share']:.1%} of the rankings are proven exact; raise decode.max_expansions for more")
    _say(f"written to {folder}")
    return results


def _ask_model(
    config: Config, histories: Histories, row_E: Int64, use_adapter: bool, folder: Path
) -> tuple[ModelAnswers, dict[str, Any], Path]:
    """The answers, what to note of the model, and the file of partial answers, to be removed once all are written."""
    from ..decode.models import load_engine

    engine, encoder, card = load_engine(config.model, config.prompts, histories.items, histories.location,
                                        config.run / "adapter" if use_adapter else None)  # fmt: skip
    text = encoder.text(histories.events, len(histories.user_ids))
    reweighter = read_reweighter(config, histories, engine.trie, card) if use_adapter else None
    k, max_expansions = config.evaluate.k, config.decode.max_expansions
    # All that an answer depends on: partial answers of another model, text or search are not gone on with.
    asked = [card, config.model.model_dump(mode="json"), encoder.identity, histories.data_hash, k, max_expansions]
    if reweighter:
        asked += [
            reweighter.name,
            reweighter.temperature,
            reweighter.weight,
            config.decode.prior.model_dump(mode="json"),
        ]
    key = sha256_text(json.dumps([*asked, row_E.tolist()], sort_keys=True))
    partial = folder / f"partial-{key[:16]}.parquet"
    answers = ask_all(engine, text, row_E, k, max_expansions, partial, reweighter)
    _say(f"answered {len(row_E):,} events in {answers.wall_s:.0f} s: {len(row_E) / answers.wall_s:.1f} events/s")
    return answers, {"adapter": card, "exact_share": float(answers.exact_E.mean())}, partial


def ask_all(
    engine: TransformersEngine, text: HistoryText, row_E: Int64, k: int, max_expansions: int | None, partial: Path,
    reweighter: Reweighter | None = None,
) -> ModelAnswers:  # fmt: skip
    """Answer the events `row_E`, window by window; what is done is kept in `partial`, so that a killed run goes on."""
    from .ranking import answer_windows, ranks, windows_with_targets

    parts = [pl.read_parquet(partial)] if partial.is_file() else []
    wanted_E = np.zeros(len(text.item_idx_E), bool)
    wanted_E[row_E] = True
    for part in parts:
        wanted_E[part["row"].to_numpy()] = False
        _say(f"{part.height:,} events were answered before")
    windows = windows_with_targets(text.windows, wanted_E)
    began = saved = time.perf_counter()
    answered = answer_windows(engine, text, windows, wanted_E, k, max_expansions, reweighter)
    for answer in track(answered, "asking the model", total=len(windows), console=_talk, disable=not _talk.is_terminal):
        now = time.perf_counter()
        columns = {
            "row": answer.event_Q, "rank": ranks(text.item_idx_E[answer.event_Q], answer.results),
            "log_prob": answer.log_prob_Q, "exact": [result.exact for result in answer.results],
            "seconds": np.full(len(answer.event_Q), (now - began) / len(answer.event_Q)),
        }  # fmt: skip
        parts, began = [*parts, pl.DataFrame(columns)], now
        if now - saved > SAVE_EVERY_S:
            parts, saved = [pl.concat(parts)], now
            with atomic_path(partial) as path:
                parts[0].write_parquet(path)
            if not _talk.is_terminal:
                _say(f"{parts[0].height:,} of {len(row_E):,} events answered")
    frame = pl.concat(parts).sort("row")
    rank_E, log_prob_E, exact_E = (frame[name].to_numpy() for name in ("rank", "log_prob", "exact"))
    return ModelAnswers(rank_E, log_prob_E, exact_E, float(frame["seconds"].sum()))


def _columns(name: str, scores: dict[str, NDArray[np.float64]], rank_E: Int64) -> dict[str, Any]:
    return {f"{name}: rank": rank_E} | {f"{name}: {metric}": value for metric, value in scores.items()}


def _folder(
    split: str, use_adapter: bool, calibration: CalibrationName, limit: int | None, baselines_only: bool
) -> str:  # fmt: skip
    kind = "baselines" if baselines_only else "fine-tuned" if use_adapter else "zero-shot"
    if calibration != "none" and not baselines_only:
        kind += "-" + calibration.replace(" ", "-")
    return f"{split}-{kind}" + (f"-{limit}" if limit else "")


def _write(
    folder: Path, config: Config, histories: Histories, split: str, results: list[RankerResult],
    columns: dict[str, Any], facts: dict[str, Any],
) -> None:  # fmt: skip
    with atomic_path(folder / "events.parquet") as path:
        pl.DataFrame(columns).write_parquet(path)
    write_json(folder / "summary.json", {
        "split": split, "seed": config.seed, "num_items": histories.items.height, "results": as_json(results), **facts,
        "data_hash": histories.data_hash, "catalogue_hash": histories.catalogue_hash,
        "versions": versions(), "config": config.shown(),
    })  # fmt: skip
