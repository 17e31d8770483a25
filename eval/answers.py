"""The answers of a model to a task, as rankings on disk: window by window; a killed run continues.

The items of an answer are those of an exact search (`decode.search`) among the event's candidates. Log-probabilities
are those over the whole catalogue: a filter leaves items out and changes nothing else, so the log-loss of a task
without repeats judges a distribution that still knows repeats.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from .. import __version__
from ..arrays import Int64
from ..console import say, talk, tracked
from ..decode import Change
from ..decode.identity import model_identity
from ..files import atomic_path, sha256_text, write_json
from ..histories import Histories
from ..rankers.blend import Blend, read_pools
from ..rankers.saved import FORMAT
from ..rankers.stack import Stack
from .parts import parts_of, write_parts
from .protocol import Task, read_task
from .rankings import (
    Kind,
    Rankings,
    facts_of,
    finished,
    parts_file,
    read_rankings,
    refuse_other_kind,
    replaced,
    write_rankings,
)  # fmt: skip
from .shuffling import without_context
from .stacking import run_stack

if TYPE_CHECKING:
    from ..config import Config
    from ..decode.transformers_engine import TransformersEngine
    from ..decode.windows import WindowAnswers
    from ..prompts import ContextKind, HistoryText

SAVE_EVERY_S = 60.0


@dataclass(frozen=True)
class _Questions:
    """A model, the text of its prompts, and all that its answers depend on beside the events: `depends`, `searched`."""

    config: Config
    engine: TransformersEngine
    text: HistoryText
    blend: Blend | None
    change_of: Callable[[Int64], Change] | None
    card: Mapping[str, Any] | None
    model: Mapping[str, Any]
    depends: Sequence[Any]
    searched: Sequence[Any]

    @classmethod
    def load(
        cls, config: Config, histories: Histories, task: Task, adapter: Path | None,
        leave_out: Collection[ContextKind], stack: Stack | None,
    ) -> _Questions:  # fmt: skip
        """See `evaluate_model`."""
        from ..decode.models import load_engine

        engine, encoder, card = load_engine(
            config.model, config.prompts, histories.items, task.histories.events, histories.location, adapter,
            title_recipe=task.histories.title_recipe, data_hash=task.histories.data_hash,
        )  # fmt: skip
        encoder = encoder.without(leave_out) if leave_out else encoder
        text = encoder.text(histories.events, len(histories.user_ids))
        blend = _blend(config, task, card, adapter, stack) if adapter and card else None
        model = model_identity(config.model, card)
        depends = [__version__, card, model, encoder.identity]
        perturbed = None if histories is task.histories else sha256_text(histories.events.write_csv())
        searched = [config.evaluate.k, config.decode.max_expansions, perturbed, blend.identity if blend else None]
        searched += [FORMAT] if blend and blend.stack else []
        change = blend.on(without_context(histories, leave_out), engine.trie) if blend else None
        return cls(config, engine, text, blend, change, card, model, depends, searched)

    def key(self, task: Task) -> str:
        """Partial answers of another model, text, task or search have another key and are not continued."""
        return sha256_text(json.dumps([*self.depends, task.hash, *self.searched], sort_keys=True))

    def facts(self, task: Task, rankings: Rankings, wall_s: float, more: Mapping[str, Any]) -> dict[str, Any]:
        config, fitted = self.config, self.blend
        settings = {name: getattr(config, name).model_dump(mode="json") for name in ("model", "decode", "prompts")}
        settings["model"] |= {name: self.model[name] for name in ("dtype", "base_hash")}
        return facts_of(
            config, task, wall_s=wall_s, settings=settings, adapter=self.card, key=self.key(task),
            exact_share=_exact_share(rankings), probabilities="of the whole catalogue",
            pools=fitted.pools.as_json() if fitted else None,
            priors=fitted.stack.recipe.as_json() if fitted and fitted.stack else None, **more,
        )  # fmt: skip


def _blend(config: Config, task: Task, card: Mapping[str, Any], adapter: Path, stack: Stack | None) -> Blend:
    """Model and stack as the run has them; for events of the valid split, rankers that have not seen these."""
    stack = stack or run_stack(config, task.histories, task.split)
    return Blend(read_pools(card, adapter, stack), stack)


def evaluate_model(
    config: Config, histories: Histories, task: Task, name: str, slug: str, folder: Path, *, adapter: Path | None,
    kind: Kind = "model", facts: Mapping[str, Any] | None = None, leave_out: Collection[ContextKind] = (),
    stack: Stack | None = None,
) -> tuple[Rankings, dict[str, Any]]:  # fmt: skip
    """Let a model rank the events of a task, write its rankings as `slug` and return them with their facts.

    What is complete and of the same key (model, prompts, data, events, search) is read and not computed again, though
    `facts` are brought up to date; so is a sample of events of which the whole split is complete in the folder beside.

    Prompts are made of `histories`: those of the task, or perturbed ones with the same items row by row. `adapter` is
    the trained adapter's folder; without one, the base model answers alone. `leave_out` are
    kinds of context that an ablation takes out of the prompts that the adapter was trained with, and from the rankers
    of `priors`. `stack` are these, fitted for the task's split; None: as the run has them.

    Raises:
        ValueError: the perturbed histories have other items or rows than the task's.
        DataError: the adapter was trained on other data than the task's, or rankings of another kind are there.
        ModelError, PromptError, ConfigError: see `load_engine` and `read_pools`.
    """
    if not np.array_equal(histories.item_idx_N, task.histories.item_idx_N):
        raise ValueError("perturbed histories must have the items of the task's, row by row")
    refuse_other_kind(folder, slug, kind)
    questions, more = _Questions.load(config, histories, task, adapter, leave_out, stack), dict(facts or {})
    key = questions.key(task)
    partial = folder / f"partial-{slug}-{key[:16]}.parquet"
    if finished(folder, slug, key):
        partial.unlink(missing_ok=True)
        say(f"{name}: answered before, see {folder / slug}.json")
        rankings, known = read_rankings(folder, slug)
        if known != known | more:  # what an ablation was taken from may have been trained again
            write_json(folder / f"{slug}.json", known | more)
        _keep_parts(questions, task, rankings, folder, slug, kind)
        return rankings, known | more
    if sentence := replaced(folder, slug, task):
        say(sentence)
    whole = {"name": name, "kind": kind, **more}
    if not _take_from_whole(config, task, slug, folder, questions.key, whole):
        frame = _ask_all(questions, task, partial)
        rankings, wall_s = Rankings.of_frame(frame, config.evaluate.k), float(frame["seconds"].sum())
        num = len(task.row_E)
        say(f"answered {num:,} events in {wall_s:.0f} s: {num / max(wall_s, 1e-9):.1f} events/s")
        made = questions.facts(task, rankings, wall_s, whole)
        write_rankings(folder, slug, rankings, made, task.histories.events)
        partial.unlink(missing_ok=True)
    rankings, known = read_rankings(folder, slug)
    _keep_parts(questions, task, rankings, folder, slug, kind)
    return rankings, known


def _keep_parts(
    questions: _Questions, task: Task, rankings: Rankings, folder: Path, slug: str, kind: Kind
) -> None:  # fmt: skip
    """Write what each ranker and the model add to the log-odds, if the model has a stack and it is not there yet."""
    stack, change_of = questions.blend.stack if questions.blend else None, questions.change_of
    if kind != "model" or stack is None or change_of is None or parts_file(folder, slug).is_file():
        return
    item_E = task.histories.item_idx_N[rankings.row_E].astype(np.int64)
    write_parts(folder, slug, rankings.row_E, parts_of(stack.on(task.histories), change_of, rankings, item_E))


def _exact_share(rankings: Rankings) -> float:
    return 1.0 if rankings.exact_E is None else float(rankings.exact_E.mean())


def _take_from_whole(
    config: Config, task: Task, slug: str, folder: Path, key_of: Callable[[Task], str], facts: Mapping[str, Any]
) -> bool:
    """Write the rankings of a sample, be it of all events, where the whole split's are complete; whether they were."""
    whole, there = read_task(task.histories, task.split, config.evaluate), folder.parent / task.split
    if there == folder or not finished(there, slug, key_of(whole)):
        return False
    answered, known = read_rankings(there, slug)
    part = answered.take(np.isin(answered.row_E, task.row_E))
    wall_s = known["wall_s"] * len(task.row_E) / len(whole.row_E)
    changed = {"task": task.hash, "key": key_of(task), "wall_s": wall_s, "exact_share": _exact_share(part),
               "num_split_events": len(whole.row_E)}  # fmt: skip
    write_rankings(folder, slug, part, {**known, **facts, **changed}, task.histories.events)
    say(f"{facts['name']}: taken from the whole split, see {there / slug}.json")
    return True


def _ask_all(questions: _Questions, task: Task, partial: Path) -> pl.DataFrame:
    """The answers to all events, by row, with the columns of `_columns`; what is done is kept in `partial`."""
    from ..decode.windows import answer_windows, windows_with_targets

    text, config = questions.text, questions.config
    parts = [pl.read_parquet(partial)] if partial.is_file() else []
    wanted_N = np.zeros(len(text.item_idx_N), bool)
    wanted_N[task.row_E] = True
    for part in parts:
        wanted_N[part["row"].to_numpy()] = False
        say(f"{part.height:,} events were answered before")
    windows = windows_with_targets(text.windows, wanted_N)
    allowed_of = None if task.candidates.everything else task.candidates.allowed
    answered = answer_windows(
        questions.engine, text, windows, wanted_N, config.evaluate.k, config.decode.max_expansions,
        questions.change_of, allowed_of,
    )  # fmt: skip
    began = saved = time.perf_counter()
    for answer in tracked(answered, "reading windows", total=len(windows)):
        now = time.perf_counter()
        parts.append(_columns(answer, text.item_idx_N, now - began))
        began = now
        if now - saved > SAVE_EVERY_S:
            parts, saved = [pl.concat(parts)], now
            with atomic_path(partial) as path:
                parts[0].write_parquet(path)
            if not talk.is_terminal:
                say(f"{parts[0].height:,} of {len(task.row_E):,} events answered")
    return pl.concat(parts).sort("row")


def _columns(answer: WindowAnswers, item_N: Int64, seconds: float) -> pl.DataFrame:
    """One window's answers: row, rank, log_prob, exact, items, scores and the seconds that each took."""
    from ..decode.windows import ranks

    num_events, results = len(answer.event_Q), answer.results
    return pl.DataFrame(
        {
            "row": answer.event_Q,
            "rank": ranks(item_N[answer.event_Q], results),
            "log_prob": answer.log_prob_Q,
            "exact": [result.exact for result in results],
            "items": pl.Series([result.item_idx_K.tolist() for result in results], dtype=pl.List(pl.Int32)),
            "scores": pl.Series([result.log_prob_K.tolist() for result in results], dtype=pl.List(pl.Float64)),
            "seconds": np.full(num_events, seconds / num_events),
        }
    )
