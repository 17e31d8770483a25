"""`whereupon evaluate`: the model and the tuned baselines on the same events, from the same candidates.

A ranker whose rankings are complete is not run again, so a killed run continues where it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .. import __version__
from ..console import say, show
from ..decode.adapter_card import read_card
from ..decode.adapters import current_adapter
from ..files import one_at_a_time, sha256_text, versions, write_json
from ..histories import CAVEATS, Histories, read_histories
from ..histories.candidates import EvaluatedSplit
from ..histories.questions import caveat_of
from ..rankers.blend import ALONE
from ..rankers.families import FAMILIES, Family, UnfitDataError
from ..rankers.saved import FORMAT
from ..rankers.stack import PARTS, WHOLE, Stack, StackRanker, StackRecipe
from .answers import evaluate_model
from .metrics import by_visit, summarise
from .protocol import Task, read_task
from .ranked import rank
from .rankings import (
    SUMMARY,
    Kind,
    Rankings,
    evaluation_folder,
    facts_of,
    finished,
    of_earlier_rankers,
    of_task,
    read_rankings,
    refuse_other_kind,
    replaced,
    slug_of,
    write_rankings,
)  # fmt: skip
from .slices import first_visits
from .stacking import is_chosen, run_stack
from .table import RankerResult, as_json, as_table
from .tuning import tune
from .wording import ON_VALIDATION

if TYPE_CHECKING:
    from ..config import Config

STACK: Final = "stack of priors"
_FINE_TUNED: Final = "fine-tuned"
_ON_TOP: Final = ", on top"  # added to the name of a model's rankings where a stack has a part in them; so is the next
_POOLED: Final = ", pooled"


def evaluate(
    config: Config, *, split: EvaluatedSplit, use_adapter: bool = True, limit: int | None = None,
    baselines_only: bool = False,
) -> list[RankerResult]:  # fmt: skip
    """Rank the events of `split`, print the table, write rankings and `summary.json`; returns the table's rows.

    With a limit there are only so many events, the same for every ranker. Without adapter the base model ranks.
    With `baselines_only` no model is; the stack of priors is ranked if it was chosen before.

    Raises:
        DataError: nothing to predict, an adapter of other data, or rankings of another kind that would be replaced.
        ModelError, PromptError, ConfigError: see `evaluate_model`.
    """
    if not baselines_only:
        from ..decode.architecture import searchable_model

        searchable_model(config.model)
    task = _announced(config, read_histories(config.run), split, limit)
    histories = task.histories
    folder = evaluation_folder(config.run, split, limit)
    with one_at_a_time(folder / ".lock", lambda: say(f"waiting for another evaluation in {folder}")):
        found = _evaluate_all(config, task, folder, use_adapter, baselines_only)
        write_summary(config, task, folder)
    results = [result_of(*one, histories) for one in found]
    show(as_table(results, f"{split} split, {histories.items.height:,} items in the catalogue"))
    say(f"written to {folder}")
    return results


def _evaluate_all(
    config: Config, task: Task, folder: Path, use_adapter: bool, baselines_only: bool
) -> list[tuple[Rankings, dict[str, Any]]]:
    """The rankings of the stack, the baselines and the model, each with its facts; see `evaluate`."""
    histories, split = task.histories, task.split
    for name in config.evaluate.baselines:  # before the model ranks, which may take hours
        refuse_other_kind(folder, slug_of(name), "baseline")
    # The model first: what is wrong with it should be known before a baseline is tuned for minutes.
    wanted = not baselines_only or (config.priors != "none" and is_chosen(config, histories))
    stack = run_stack(config, histories, split) if wanted else None
    evaluated = [slug_of(name) for name in config.evaluate.baselines]
    if stack is not None:
        by_model = () if baselines_only or not use_adapter else (_ON_TOP, _POOLED)
        evaluated += map(slug_of, (STACK, *(_FINE_TUNED + more for more in by_model)))
    _say_earlier(folder, evaluated)
    model = None if baselines_only else evaluate_run_model(config, task, use_adapter, folder, stack)
    found = []
    if stack is not None and (alone := evaluate_stack(config, task, stack, folder)):
        found.append(alone)
    for name in config.evaluate.baselines:
        try:
            found.append(evaluate_baseline(config, task, FAMILIES[name], folder))
        except UnfitDataError as error:
            say(f"{name} is left out: {error}")
    if split == "valid":
        say(ON_VALIDATION)
    if model:
        found.append(model)
        if (share := model[1]["exact_share"]) < 1:
            say(f"{share:.1%} of the rankings are proven exact; raise decode.max_expansions for more")
    return found


def _announced(config: Config, histories: Histories, split: EvaluatedSplit, limit: int | None) -> Task:
    """The task; says what limits its figures."""
    task = read_task(histories, split, config.evaluate, limit, config.seed)
    if caveat := caveat_of(histories):
        say(caveat)
    if task.num_without:
        say(f"{task.num_without:,} events are left out: their item is no candidate")
    if not task.candidates.everything:
        say("log-losses are those over the whole catalogue: leaving candidates out changes no probability")
    return task


def _say_earlier(folder: Path, evaluated: Iterable[str]) -> None:
    """Name the rankings that are made again only because rankers have changed; `evaluated` are slugs."""
    if before := of_earlier_rankers(folder, evaluated):
        say(f"{len(before)} rankings in {folder} are by an earlier version of the rankers and are made again: "
            f"{', '.join(before)}")  # fmt: skip


def evaluate_baseline(
    config: Config, task: Task, family: Family, folder: Path
) -> tuple[Rankings, dict[str, Any]]:  # fmt: skip
    """Tune a family on validation, rank the task with what was chosen, write it, and return it with its facts.

    What is complete and of the same key (data, events, settings, seed, k, and the version of what rankers learn) is
    read and not ranked again.

    Raises:
        UnfitDataError: the histories lack what the family needs. DataError: rankings of another kind are there.
    """
    slug = slug_of(family.name)
    refuse_other_kind(folder, slug, "baseline")
    tuned = tune(family, task.histories, config.evaluate, config.seed, config.run)
    settings = dict(tuned.settings)
    key_parts = [__version__, FORMAT, family.name, settings, task.hash, config.seed, config.evaluate.k]
    key = sha256_text(json.dumps(key_parts, sort_keys=True))
    chosen = {"trials": tuned.trials, "num_events": tuned.num_events, "note": tuned.note}
    if finished(folder, slug, key):
        rankings, facts = read_rankings(folder, slug)
        if facts.get("tuned") == chosen:
            return rankings, facts
        facts |= {"tuned": chosen}  # the same settings, out of another grid
    else:
        if sentence := replaced(folder, slug, task):
            say(sentence)
        if tuned.note and not tuned.trials:
            say(f"{family.name}: {tuned.note}")
        rankings, facts = rank_baseline(
            config, task, family, settings, name=family.name, kind="baseline", tuned=chosen, key=key
        )
    write_rankings(folder, slug, rankings, facts, task.histories.events)
    return read_rankings(folder, slug)


def rank_baseline(
    config: Config, task: Task, family: Family, settings: Mapping[str, Any], *, name: str, kind: Kind, **more: Any
) -> tuple[Rankings, dict[str, Any]]:
    """Fit a family with these settings and rank the task: rankings, and facts with `more` of them."""
    began = time.perf_counter()
    ranker = family.ranker(task.histories, task.split, settings, config.seed, task.candidates.repeats)
    rankings, wall_s = rank(ranker, task, config.evaluate.k), time.perf_counter() - began
    return rankings, facts_of(config, task, name=name, kind=kind, wall_s=wall_s, settings=settings, **more)


def evaluate_stack(
    config: Config, task: Task, stack: Stack, folder: Path
) -> tuple[Rankings, dict[str, Any]] | None:  # fmt: skip
    """Rank the task with the rankers of `priors` alone, fitted for its split; None where the catalogue is too large.

    What is complete and of the same key is read. Raises DataError: rankings of another kind are there.
    """
    if task.histories.items.height > WHOLE:
        return None
    name, recipe = STACK, stack.recipe
    slug = slug_of(name)
    refuse_other_kind(folder, slug, "stack")
    key_parts = [__version__, FORMAT, recipe.identity, task.hash, config.seed, config.evaluate.k]
    key = sha256_text(json.dumps(key_parts, sort_keys=True))
    if not finished(folder, slug, key):
        if sentence := replaced(folder, slug, task):
            say(sentence)
        began = time.perf_counter()
        rankings, wall_s = rank(StackRanker(stack), task, config.evaluate.k), time.perf_counter() - began
        facts = facts_of(
            config, task, name=name, kind="stack", wall_s=wall_s, settings=_weights(recipe), key=key,
            probabilities="of the whole catalogue", priors=recipe.as_json(),
        )  # fmt: skip
        write_rankings(folder, slug, rankings, facts, task.histories.events)
    return read_rankings(folder, slug)


def _weights(recipe: StackRecipe) -> dict[str, str]:
    """Each part's rankers with their weights, as text."""
    members = {part: recipe.members(part) for part in PARTS}
    return {
        part: ", ".join(f"{name} {member.weight:.2f}" for name, member in found.items())
        for part, found in members.items() if found
    }  # fmt: skip


def write_summary(config: Config, task: Task, folder: Path) -> None:
    """Write `summary.json`: all complete rankings in the folder that are of this task, in one table.

    Rankings of other data, events or candidates than the task's cannot be compared: they are left out and named.
    """
    results = []
    slugs, others = of_task(folder, task)
    for slug in slugs:
        rankings, facts = read_rankings(folder, slug)
        [result] = as_json([result_of(rankings, facts, task.histories)])
        results.append({**result, "slug": slug, "kind": facts["kind"], "exact_share": facts.get("exact_share")})
    if others:
        say(f"{', '.join(others)}: rankings of other data or events, left out of {SUMMARY}.json; evaluate them again")
    write_json(folder / f"{SUMMARY}.json", {
        "split": task.split, "seed": config.seed, "task": task.hash, "num_events": len(task.row_E),
        "num_without_candidate": task.num_without, "repeats": task.candidates.repeats,
        "protocol": task.histories.protocol, "caveat": CAVEATS[task.histories.protocol],
        "num_items": task.histories.items.height,
        "results": results,
        "data_hash": task.histories.data_hash, "catalogue_hash": task.histories.catalogue_hash,
        "versions": versions(), "config": config.shown(),
    })  # fmt: skip


def evaluate_run_model(
    config: Config, task: Task, use_adapter: bool, folder: Path, stack: Stack | None = None
) -> tuple[Rankings, dict[str, Any]]:  # fmt: skip
    """The fine-tuned model, with the stack of `priors` if there is one, or the base model as it is.

    `stack`: see `evaluate_model`.
    """
    adapter = current_adapter(config.run) if use_adapter else None
    more = ""
    if adapter is not None and config.priors != "none":
        more = _ON_TOP if read_card(adapter).get("priors", ALONE) != ALONE else _POOLED
    kind = _FINE_TUNED if adapter else "zero-shot"
    name, slug = f"{kind} {Path(config.model.base).name}{more}", slug_of(kind + more)
    return evaluate_model(config, task.histories, task, name, slug, folder, adapter=adapter, stack=stack)


def result_of(rankings: Rankings, facts: dict[str, Any], histories: Histories) -> RankerResult:
    """The row of a table: finished rankings, measured; where there are both, first visits and repeats apart, too."""
    metrics = summarise(rankings.rank_E, rankings.log_prob_E)
    metrics |= by_visit(rankings.rank_E, first_visits(histories)[rankings.row_E])
    return RankerResult(facts["name"], metrics, len(rankings.row_E), facts["wall_s"])
