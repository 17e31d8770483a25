"""`whereupon ablate`: what time, place and weather are worth to a model, each taken away while all else stays.

- *removed*: prompts leave the kind out. Cheap, and harsh: the model has never seen such lines.
- *shuffled*: each event tells that of a random one (`shuffling.exchange`). Lines look as in training, and mean nothing.
- *retrained*: a model that was trained without the kind, which could learn to make up for it. The fairest figure.

Titles are no context: they stay, also where they name a neighbourhood, and so does the order of events. Where lines are
shorter without a kind, a window may tell more of the past; that is part of the answer. Where the time is taken away,
the prior of `decode.calibration: context` asks for no hour and no kind of day either; it keeps the age of events, and
so does the baseline.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from ..console import say
from ..decode.adapter_card import check_card, check_data, read_card
from ..decode.settings import WITHOUT_CLOCK
from ..errors import ConfigError, DataError, ModelError
from ..files import atomic_path, versions, write_json
from ..histories import Histories, read_histories
from ..histories.questions import caveat_of
from ..prompts import CONTEXT_KINDS, ContextKind, HistoryText, PromptEncoder, columns_of
from ..rankers.families import FAMILIES
from ..rankers.reweighter import read_calibration
from .ablation_table import Ablation, Comparison, How, as_markdown, as_tables, compare_ablations
from .answers import evaluate_model
from .facts import facts_of
from .protocol import Task, read_task
from .ranked import rank
from .rankers import refuse_other_kind
from .rankings import ABLATION, evaluation_folder, read_rankings, slug_of, write_rankings
from .run import evaluate_baseline, evaluate_run_model, write_summary
from .shuffling import exchange
from .wording import ON_VALIDATION

if TYPE_CHECKING:
    from ..config import Config
    from ..histories.candidates import EvaluatedSplit

__all__ = ["ablate", "retrained_runs", "told_kinds"]

BASELINE: Final = "context-weighted own events"


@dataclass(frozen=True)
class _Pass:
    """One pass over the events: which kind is taken away and how, what prompts are made of, and who answers."""

    kind: ContextKind
    how: How
    config: Config
    histories: Histories
    leave_out: tuple[ContextKind, ...] = ()
    changed_share: float | None = None

    @property
    def trained_as(self) -> str:
        """The name of the run whose adapter answers, where it is another one than that of the whole model."""
        return self.config.run.name if self.how == "retrained" else ""


def ablate(
    config: Config, *, split: EvaluatedSplit, limit: int | None = None, retrained: Sequence[str] = ()
) -> Comparison:  # fmt: skip
    """Ask the run's model, and the same without each kind of context, about the same events; print and write the table.

    All rankings land beside those of `evaluate`, with the kind "ablation" among their facts; what is complete there,
    by `evaluate` too, is not asked again, so that a killed run goes on. A sample is taken from a whole split where that
    is complete.

    Args:
        config: of the run whose adapter is ablated.
        split: whose events are predicted.
        limit: only so many events, the same for all, see `protocol.sample_stretches`.
        retrained: KIND=RUN each, a run folder whose adapter was trained with `prompts.leave_out: [KIND]`; several of a
            kind, of other seeds say, are a row each.

    Raises:
        See `retrained_runs`, `evaluate_model` and `evaluate_baseline`.
    """
    from ..decode.models import build_encoder, load_tokenizer

    histories = read_histories(config.run)
    task = read_task(histories, split, config.evaluate, limit, config.seed)
    card = read_card(config.run / "adapter")
    check_data(card, config.run / "adapter", histories.data_hash)  # before texts are made, and before the other runs
    encoder = build_encoder(histories.items, histories.location, config.prompts, load_tokenizer(config.model))
    others = retrained_runs(config, histories, encoder, retrained)
    folder = evaluation_folder(config.run, split, limit)
    if BASELINE in config.evaluate.baselines:  # before the model is asked, which may take hours
        refuse_other_kind(folder, slug_of(BASELINE), "baseline")
    asked, notes = _asked(config, task, encoder, others)
    say(f"{len(asked) + 1} passes over {len(task.row_E):,} events; each starts where it was stopped")
    notes += [note for kind, there in others for note in _differences(kind, there.run, card)]
    whole = evaluate_run_model(config, task, True, folder)
    ablations = [_answered(one, task, whole[1], folder) for one in asked]
    groups = [(Ablation.of(*whole), ablations), *_baseline(config, task, folder)]
    compared = compare_ablations(groups, histories.user_idx_E[task.row_E], config.seed)
    _write(config, task, folder, compared, notes)
    return compared


def retrained_runs(
    config: Config, histories: Histories, encoder: PromptEncoder, given: Sequence[str]
) -> list[tuple[ContextKind, Config]]:  # fmt: skip
    """The kind of each KIND=RUN and how that run is asked, all checked before anything long is begun.

    Raises:
        ConfigError: not of that form, not a kind of context, two runs whose rankings would be files of one name, or a
            calibration that is asked for and was not fitted there. ModelError: no adapter, or one trained with other
            kinds left out, or for another base model, template or catalogue. DataError: it was trained on other data.
    """
    runs: list[tuple[ContextKind, Config]] = []
    for text in given:
        name, equals, path = text.partition("=")
        kind = next((kind for kind in CONTEXT_KINDS if kind == name.strip()), None)
        if kind is None or not equals or not path.strip():
            expected = f"KIND=RUN, such as weather=runs/without-weather, with a kind among {', '.join(CONTEXT_KINDS)}"
            raise ConfigError(f"--retrained {text}: expected {expected}.")
        run = Path(path.strip()).expanduser().absolute()
        slug = _slug("", kind, "retrained", run.name)
        same = [there.run.name for other, there in runs if _slug("", other, "retrained", there.run.name) == slug]
        if same:
            called = " and ".join(dict.fromkeys([*same, run.name]))
            raise ConfigError(
                f"--retrained {text}: two runs for {kind} are called {called}; rename one of them. Their rankings' "
                "files are called after the letters a-z and digits of it."
            )
        card, without = read_card(run / "adapter"), encoder.without([kind])
        wanted, found = list(without.settings.leave_out), card["prompts"].get("leave_out", [])
        if found != wanted:
            raise ModelError(
                f"The adapter in {run / 'adapter'} was trained with prompts.leave_out: [{', '.join(found)}], "
                f"not [{', '.join(wanted)}]: name one that was, or train it by `whereupon finetune`."
            )
        if card["data_hash"] != histories.data_hash:
            raise DataError(
                f"The adapter in {run / 'adapter'} was trained on other data than {config.run} holds; "
                "prepare both runs from the same data with the same settings, and train again."
            )
        check_card(card, run / "adapter", {"base_model": config.model.base, **without.identity})
        asked = config.model_copy(update={"run": run, "prompts": without.settings})
        if config.decode.calibration != "none":
            read_calibration(asked, histories, card)
        runs.append((kind, asked))
    return runs


def _asked(
    config: Config, task: Task, encoder: PromptEncoder, retrained: list[tuple[ContextKind, Config]]
) -> tuple[list[_Pass], list[str]]:
    """What to ask, kind by kind, and notes on the protocol and on what cannot be taken away."""
    histories, plain = task.histories, _text(encoder, task.histories)
    told = told_kinds(encoder, histories)
    asked: list[_Pass] = []
    notes = [ON_VALIDATION] if task.split == "valid" else []
    notes += [caveat for caveat in [caveat_of(histories)] if caveat]
    notes += _of_no_kind(encoder, histories)
    for kind in CONTEXT_KINDS:
        if kind in told:
            asked += _at_test_time(config, task, encoder, kind, plain)
        else:
            notes.append(f"{kind}: these prompts tell nothing of it, so there is nothing to take away; titles stay")
        asked += [_Pass(kind, "retrained", there, histories) for one, there in retrained if one == kind]
    return asked, notes


def _of_no_kind(encoder: PromptEncoder, histories: Histories) -> Iterator[str]:
    """A note on context columns that prompts tell and that stay, whatever is taken away."""
    columns, further = histories.events.columns, encoder.settings.column_kinds
    known = {name for kind in CONTEXT_KINDS for name in columns_of(kind, columns, further)}
    stay = [name for name in encoder.templates.variables("context.j2") if name in columns and name not in known]
    if stay:
        yield f"{', '.join(stay)}: context of no kind, never taken away; prompts.column_kinds can say of which kind"


def _at_test_time(
    config: Config, task: Task, encoder: PromptEncoder, kind: ContextKind, plain: HistoryText
) -> Iterator[_Pass]:
    """The kind removed and shuffled, each with the share of the questions whose own line it changes."""
    histories, without = task.histories, encoder.without([kind])
    removed_N = _changed(plain, _text(without, histories))
    exchanged = exchange(histories, task.split, kind, config.prompts.column_kinds, config.seed)
    shuffled_N = _changed(plain, _text(encoder, exchanged))
    yield _Pass(kind, "removed", config, histories, (kind,), float(removed_N[task.row_E].mean()))
    yield _Pass(kind, "shuffled", config, exchanged, (), float(shuffled_N[task.row_E].mean()))


def told_kinds(encoder: PromptEncoder, histories: Histories) -> list[ContextKind]:
    """The kinds of context without which some prompt would be another."""
    plain, left_out = _text(encoder, histories), encoder.settings.leave_out
    in_profile = ["time"] if {"days", "hours"} & {*encoder.templates.variables("profile.j2")} else []
    return [
        kind
        for kind in CONTEXT_KINDS
        if kind not in left_out
        and (kind in in_profile or _changed(plain, _text(encoder.without([kind]), histories)).any())
    ]


def _text(encoder: PromptEncoder, histories: Histories) -> HistoryText:
    return encoder.text(histories.events, len(histories.user_ids))


def _changed(one: HistoryText, other: HistoryText) -> NDArray[np.bool_]:
    """Which events' own lines differ between two texts of the same events: bool [N]."""
    lines = [
        np.array([piece.tobytes() for piece in np.split(t.contexts.tokens, t.contexts.ptr[1:-1])], object)[t.context_E]
        for t in (one, other)
    ]
    changed_N: NDArray[np.bool_] = lines[0] != lines[1]
    return changed_N


def _answered(one: _Pass, task: Task, whole: dict[str, Any], folder: Path) -> Ablation:
    """The rankings of one ablation, asked for or taken from the folder; `whole` are the facts of the whole model."""
    name = f"{whole['name']}, {one.kind} {one.how}" + (f" ({one.trained_as})" if one.trained_as else "")
    slug = _slug(str(whole["slug"]), one.kind, one.how, one.trained_as)
    facts = {"of": whole["slug"], "of_key": whole.get("key"), "ablated": one.kind, "how": one.how,
             "changed_share": one.changed_share,
             "retrained_run": str(one.config.run) if one.trained_as else None}  # fmt: skip
    adapter = one.config.run / "adapter"
    say(f"{name}:")
    return Ablation.of(*evaluate_model(
        one.config, one.histories, task, name, slug, folder, adapter=adapter, kind="ablation", facts=facts,
        leave_out=one.leave_out,
    ))  # fmt: skip


def _slug(whole: str, kind: ContextKind, how: How, trained_as: str = "") -> str:
    return slug_of(f"{whole} {kind} {how} {trained_as}")


def _differences(kind: ContextKind, run: Path, card: dict[str, Any]) -> Iterator[str]:
    """What the training without a kind had otherwise too, so that nobody takes that for the worth of the kind."""
    theirs = read_card(run / "adapter")
    both = [{"seed": one["seed"], **one["finetune"]} for one in (card, theirs)]
    other = [f"{name} {both[1].get(name)} for {value}" for name, value in both[0].items() if both[1].get(name) != value]
    if other:
        yield f"{kind}: {run.name} was trained with other settings too: {', '.join(other)}"


def _baseline(config: Config, task: Task, folder: Path) -> list[tuple[Ablation, list[Ablation]]]:
    """The strongest ranker by counting without its terms of time: what they are worth to twenty lines of counting."""
    if BASELINE not in config.evaluate.baselines:
        return []
    rankings, whole = evaluate_baseline(config, task, FAMILIES[BASELINE], folder)
    settings = {**whole["settings"], **WITHOUT_CLOCK}  # its other constants stay as tuned
    began, slug = time.perf_counter(), _slug(str(whole["slug"]), "time", "removed")
    refuse_other_kind(folder, slug, "ablation")
    ranker = FAMILIES[BASELINE].ranker(task.histories, task.split, settings, config.seed)
    without = rank(ranker, task, config.evaluate.k)
    facts = facts_of(
        config, task, name=f"{whole['name']}, time removed", kind="ablation", wall_s=time.perf_counter() - began,
        settings=settings, of=whole["slug"], of_key=whole.get("key"), ablated="time", how="removed",
    )  # fmt: skip
    write_rankings(folder, slug, without, facts, task.histories.events)
    return [(Ablation.of(rankings, whole), [Ablation.of(*read_rankings(folder, slug))])]


def _write(config: Config, task: Task, folder: Path, compared: Comparison, notes: Sequence[str]) -> None:
    num_users = len(np.unique(task.histories.user_idx_E[task.row_E]))
    title = f"{task.split} split, {len(task.row_E):,} events of {num_users:,} users"
    write_summary(config, task, folder)
    text = as_markdown(compared, title, notes)
    with atomic_path(folder / f"{ABLATION}.md") as path:
        path.write_text(text, encoding="utf-8")
    write_json(folder / f"{ABLATION}.json", {
        "split": task.split, "task": task.hash, "seed": config.seed, "notes": list(notes), **compared.as_json(),
        "data_hash": task.histories.data_hash, "catalogue_hash": task.histories.catalogue_hash,
        "versions": versions(), "config": config.shown(),
    })  # fmt: skip
    console = Console(highlight=False)
    for table in as_tables(compared, title):
        console.print(table)
    for note in notes:
        say(note)
    say(f"written to {folder / ABLATION}.md")
