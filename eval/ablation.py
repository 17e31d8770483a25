"""`whereupon ablate`: what time, place and weather are worth to a model, each taken away while all else stays.

- *removed*: prompts leave the kind out. Cheap, and harsh: the model has never seen such lines.
- *shuffled*: each event has that of a random one (`shuffling.exchange`). Lines look as in training, and mean nothing.
- *retrained*: a model that was trained without the kind, which could learn to make up for it. The fairest figure.

Titles and the order of events stay. Where lines are shorter without a kind, a window may hold more events. Without
time, the rankers of `priors` and the baseline use no hour and no kind of day, but keep ages. A retrained run has the
rankers that it was trained with, context and all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console

from ..console import say
from ..decode.adapter_card import check_card, check_data, read_card
from ..decode.adapters import current_adapter
from ..decode.identity import base_identity
from ..errors import ConfigError, ModelError
from ..files import atomic_path, versions, write_json
from ..histories import Histories, read_histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import caveat_of
from ..prompts import CONTEXT_KINDS, ContextKind, HistoryText, PromptEncoder, columns_of
from ..rankers.blend import read_blend
from ..rankers.families import FAMILIES
from ..rankers.own import WITHOUT_CLOCK
from ..rankers.stack import Stack
from .ablation_table import Ablation, How, as_json, as_markdown, as_tables, compare_ablations
from .answers import evaluate_model
from .protocol import Task, read_task
from .rankings import ABLATION, evaluation_folder, read_rankings, refuse_other_kind, slug_of, write_rankings
from .run import evaluate_baseline, evaluate_run_model, rank_baseline, write_summary
from .shuffling import exchange
from .stacking import run_stack
from .wording import ON_VALIDATION

if TYPE_CHECKING:
    from ..config import Config

BASELINE: Final = "context-weighted own events"


@dataclass(frozen=True)
class _Pass:
    """One pass over the events: which kind is taken away, how, what prompts are made of, and whose adapter answers.

    `trained_as` is the name of the run whose adapter answers, if it is not the whole model's.
    """

    kind: ContextKind
    how: How
    config: Config
    histories: Histories
    leave_out: tuple[ContextKind, ...] = ()
    changed_share: float | None = None
    trained_as: str = ""


def ablate(
    config: Config, *, split: EvaluatedSplit, limit: int | None = None, retrained: Sequence[str] = ()
) -> pl.DataFrame:  # fmt: skip
    """Evaluate the run's model with and without each kind of context, on the same events; print and write the table.

    Rankings land beside those of `evaluate`, with the kind "ablation"; what is complete there is not computed again.
    `retrained` are KIND=RUN each, a run whose adapter was trained with `prompts.leave_out: [KIND]`; each is a row.

    Raises:
        See `retrained_runs`, `evaluate_model` and `evaluate_baseline`.
    """
    from ..decode.models import build_encoder, load_tokenizer

    histories = read_histories(config.run)
    task = read_task(histories, split, config.evaluate, limit, config.seed)
    adapter = current_adapter(config.run)
    card = read_card(adapter)
    check_data(card, adapter, histories.data_hash)  # before texts are made, and before the other runs
    encoder = build_encoder(
        histories.items, histories.events, histories.location, config.prompts, load_tokenizer(config.model)
    )
    others = retrained_runs(config, histories, encoder, retrained)
    folder = evaluation_folder(config.run, split, limit)
    if BASELINE in config.evaluate.baselines:  # before the model ranks, which may take hours
        refuse_other_kind(folder, slug_of(BASELINE), "baseline")
    passes, notes = _passes(config, task, encoder, others)
    stack = run_stack(config, histories, split)
    say(f"{len(passes) + 1} passes over {len(task.row_E):,} events; each starts where it was stopped")
    notes += [note for kind, there in others for note in _differences(kind, there.run, card)]
    whole = evaluate_run_model(config, task, True, folder, stack)
    ablations = [_answered(one, task, whole[1], folder, None if one.trained_as else stack) for one in passes]
    groups = [(Ablation.of(*whole), ablations), *_baseline(config, task, folder)]
    compared = compare_ablations(groups, histories.user_idx_N[task.row_E], config.seed)
    _write(config, task, folder, compared, notes)
    return compared


def retrained_runs(
    config: Config, histories: Histories, encoder: PromptEncoder, given: Sequence[str]
) -> list[tuple[ContextKind, Config]]:  # fmt: skip
    """The kind of each KIND=RUN and the configuration of that run, all checked before anything long is begun.

    Raises:
        ConfigError: not of that form, not a kind of context, two runs whose rankings would be files of one name, or
            rankers of `priors` that its adapter was not trained or pooled with. ModelError: no adapter, or one trained
            with other kinds left out, or for another base model, template or recipe of titles. DataError: trained on
            other data, or without fitted rankers.
    """
    runs: dict[str, tuple[ContextKind, Config]] = {}
    for text in given:
        name, _, path = text.partition("=")
        kind = next((kind for kind in CONTEXT_KINDS if kind == name.strip()), None)
        if kind is None or not path.strip():
            expected = f"KIND=RUN, such as weather=runs/without-weather, with a kind among {', '.join(CONTEXT_KINDS)}"
            raise ConfigError(f"--retrained {text}: expected {expected}.")
        run = Path(path.strip()).expanduser().absolute()
        slug = slug_of(f"{kind} {run.name}")
        if slug in runs:
            raise ConfigError(f"--retrained {text}: two runs for {kind} would have files called {slug}; rename one.")
        runs[slug] = kind, _checked(config, histories, encoder.without([kind]), run)
    return list(runs.values())


def _checked(config: Config, histories: Histories, without: PromptEncoder, run: Path) -> Config:
    """The configuration by which a retrained run is evaluated."""
    adapter = current_adapter(run)
    card = read_card(adapter)
    wanted, found = list(without.settings.leave_out), card["prompts"].get("leave_out", [])
    if found != wanted:
        raise ModelError(
            f"The adapter in {adapter} was trained with prompts.leave_out: [{', '.join(found)}], "
            f"not [{', '.join(wanted)}]: name one that was, or train it by `whereupon finetune`."
        )
    check_data(card, adapter, histories.data_hash)
    belongs = {**base_identity(config.model), "title_recipe": histories.title_recipe, **without.identity}
    check_card(card, adapter, belongs)
    other = config.model_copy(update={"run": run, "prompts": without.settings})
    read_blend(other, histories, card, adapter)
    return other


def _passes(
    config: Config, task: Task, encoder: PromptEncoder, retrained: list[tuple[ContextKind, Config]]
) -> tuple[list[_Pass], list[str]]:
    """The passes to make, kind by kind, and notes on the protocol and on what cannot be taken away."""
    histories, plain = task.histories, _text(encoder, task.histories)
    kinds, passes = shown_kinds(encoder, histories), list[_Pass]()
    notes = [note for note in (ON_VALIDATION if task.split == "valid" else "", caveat_of(histories)) if note]
    columns, further = histories.events.columns, encoder.settings.column_kinds
    known = {name for kind in CONTEXT_KINDS for name in columns_of(kind, columns, further)}
    stay = [name for name in encoder.templates.variables("context.j2") if name in columns and name not in known]
    if stay:
        which = ", ".join(stay)
        notes.append(f"{which}: context of no kind, never taken away; prompts.column_kinds can say of which kind")
    for kind in CONTEXT_KINDS:
        if kind in kinds:
            passes += _at_test_time(config, task, encoder, kind, plain)
        else:
            notes.append(f"{kind}: these prompts do not show it, so there is nothing to take away; titles stay")
        ours = [there for one, there in retrained if one == kind]
        passes += [_Pass(kind, "retrained", there, histories, trained_as=there.run.name) for there in ours]
        if config.priors != "none":
            notes += [f"{kind}: {there.run.name} keeps the rankers of its priors, context and all" for there in ours]
    return passes, notes


def _at_test_time(
    config: Config, task: Task, encoder: PromptEncoder, kind: ContextKind, plain: HistoryText
) -> Iterator[_Pass]:
    """The kind removed and shuffled, each with the share of the questions whose own line it changes."""
    histories, without = task.histories, encoder.without([kind])
    removed_N = _changed(plain, _text(without, histories))
    exchanged = exchange(histories, task.split, kind, config.prompts.column_kinds, config.seed, encoder.features)
    shuffled_N = _changed(plain, _text(encoder, exchanged))
    yield _Pass(kind, "removed", config, histories, (kind,), float(removed_N[task.row_E].mean()))
    yield _Pass(kind, "shuffled", config, exchanged, (), float(shuffled_N[task.row_E].mean()))


def shown_kinds(encoder: PromptEncoder, histories: Histories) -> list[ContextKind]:
    """The kinds of context without which some prompt would be another."""
    plain = _text(encoder, histories)
    kinds = [kind for kind in CONTEXT_KINDS if _changed(plain, _text(encoder.without([kind]), histories)).any()]
    in_profile = {"days", "hours"} & {*encoder.templates.variables("profile.j2")}
    if in_profile and "time" not in (*kinds, *encoder.settings.leave_out):
        kinds.insert(0, "time")
    return kinds


def _text(encoder: PromptEncoder, histories: Histories) -> HistoryText:
    return encoder.text(histories.events, len(histories.user_ids))


def _changed(one: HistoryText, other: HistoryText) -> NDArray[np.bool_]:
    """Which events' own lines differ between two texts of the same events: bool [N]."""
    pieces = ((text, np.split(text.contexts.tokens, text.contexts.ptr[1:-1])) for text in (one, other))
    lines = [np.array([piece.tobytes() for piece in each], object)[text.context_N] for text, each in pieces]
    return np.asarray(lines[0] != lines[1], bool)


def _answered(one: _Pass, task: Task, whole: dict[str, Any], folder: Path, stack: Stack | None) -> Ablation:
    """The rankings of one ablation; `whole` are the facts of the whole model. `stack`: see `evaluate_model`."""
    name = f"{whole['name']}, {one.kind} {one.how}" + (f" ({one.trained_as})" if one.trained_as else "")
    slug = slug_of(f"{whole['slug']} {one.kind} {one.how} {one.trained_as}")
    facts = {"of": whole["slug"], "of_key": whole.get("key"), "ablated": one.kind, "how": one.how,
             "changed_share": one.changed_share,
             "retrained_run": str(one.config.run) if one.trained_as else None}  # fmt: skip
    say(f"{name}:")
    return Ablation.of(*evaluate_model(
        one.config, one.histories, task, name, slug, folder, adapter=current_adapter(one.config.run), kind="ablation",
        facts=facts, leave_out=one.leave_out, stack=stack,
    ))  # fmt: skip


def _differences(kind: ContextKind, run: Path, card: dict[str, Any]) -> Iterator[str]:
    """A note on what else was different in the training without a kind."""
    theirs = read_card(current_adapter(run))
    both = [{"seed": one["seed"], **one["finetune"]} for one in (card, theirs)]
    other = [f"{name} {both[1].get(name)} for {value}" for name, value in both[0].items() if both[1].get(name) != value]
    if other:
        yield f"{kind}: {run.name} was trained with other settings too: {', '.join(other)}"


def _baseline(config: Config, task: Task, folder: Path) -> list[tuple[Ablation, list[Ablation]]]:
    """The strongest ranker by counting, with and without its terms of time."""
    if BASELINE not in config.evaluate.baselines:
        return []
    rankings, whole = evaluate_baseline(config, task, FAMILIES[BASELINE], folder)
    settings = {**whole["settings"], **WITHOUT_CLOCK}  # its other constants stay as tuned
    slug = slug_of(f"{whole['slug']} time removed")
    refuse_other_kind(folder, slug, "ablation")
    without, facts = rank_baseline(
        config, task, FAMILIES[BASELINE], settings, name=f"{whole['name']}, time removed", kind="ablation",
        of=whole["slug"], of_key=whole.get("key"), ablated="time", how="removed",
    )  # fmt: skip
    write_rankings(folder, slug, without, facts, task.histories.events)
    return [(Ablation.of(rankings, whole), [Ablation.of(*read_rankings(folder, slug))])]


def _write(config: Config, task: Task, folder: Path, compared: pl.DataFrame, notes: Sequence[str]) -> None:
    num_users = len(np.unique(task.histories.user_idx_N[task.row_E]))
    title = f"{task.split} split, {len(task.row_E):,} events of {num_users:,} users"
    write_summary(config, task, folder)
    text = as_markdown(compared, title, notes)
    with atomic_path(folder / f"{ABLATION}.md") as path:
        path.write_text(text, encoding="utf-8")
    write_json(folder / f"{ABLATION}.json", {
        "split": task.split, "task": task.hash, "seed": config.seed, "notes": list(notes), **as_json(compared),
        "data_hash": task.histories.data_hash, "catalogue_hash": task.histories.catalogue_hash,
        "versions": versions(), "config": config.shown(),
    })  # fmt: skip
    console = Console(highlight=False)
    for table in as_tables(compared, title):
        console.print(table)
    for note in notes:
        say(note)
    say(f"written to {folder / ABLATION}.md")
