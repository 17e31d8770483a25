"""`whereupon priors`: which rankers a run's stack is made of, chosen on the validation split.

Each candidate's settings are those of the highest nDCG@10 (`tuning`), for new items with repeats excluded; rankers and
weights follow by log-loss (`rankers.selection`). The recipe lies in `<run>/priors/recipe.json`, under a key of all that
it depends on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.table import Table

from .. import __version__
from ..console import say, show
from ..errors import DataError
from ..files import read_object, sha256_text, versions, write_json
from ..histories import Histories
from ..histories.candidates import Repeats
from ..histories.questions import evaluated_events
from ..rankers.families import FAMILIES, SEQUENTIAL
from ..rankers.protocol import Dense, Sparse, UnfitDataError
from ..rankers.selection import Selected, select
from ..rankers.settings import BaselineName
from ..rankers.stack import PARTS, Member, Part, StackRecipe
from .tuning import tune

if TYPE_CHECKING:
    from ..config import Config

CANDIDATES: Final[Mapping[Part, tuple[BaselineName, ...]]] = {
    "again": (
        "learnt own events", "context-weighted own events", "own counts by hour of week", "own counts",
        "popularity by hour of week", "transitions", "nearest", "SASRec + time",
    ),
    "new": (
        "learnt new items", "popularity", "popularity by hour of week", "recent popularity", "transitions", "nearest",
        "ItemKNN", "EASE", "SASRec + time", "GRU4Rec",
    ),
}  # fmt: skip
"""What `priors: auto` chooses from. FPMC is no prior: its vectors of users cannot be fitted to other users."""

_Fitted = tuple[Mapping[str, Any], "Dense | Sparse"]


def stack_recipe(config: Config, histories: Histories) -> StackRecipe:
    """The recipe of a run, as it was chosen before for the same data and settings, or chosen now and printed.

    Raises DataError: no ranker of `priors` can be used with these histories.
    """
    path = config.run / "priors" / "recipe.json"
    key = _key(config, histories)
    try:
        found = read_object(path)
        if found.get("key") == key:
            return StackRecipe.of_json(found["recipe"])
    except (DataError, KeyError, TypeError):
        pass
    selected = {part: _choose(config, histories, part) for part in PARTS}
    recipe = StackRecipe(*(_recipe_of(*selected[part]) for part in PARTS))
    write_json(path, {
        "key": key, "recipe": recipe.as_json(), "seed": config.seed, "versions": versions(),
        "selection": {part: _told(selected[part][0]) for part in PARTS},
    })  # fmt: skip
    for part in PARTS:
        show(_table(part, selected[part][0]))
    return recipe


def _key(config: Config, histories: Histories) -> str:
    asked = config.priors if isinstance(config.priors, str) else list(config.priors)
    parts = [__version__, asked, histories.data_hash, config.evaluate.repeats, config.seed]
    return sha256_text(json.dumps(parts, sort_keys=True))


def _choose(config: Config, histories: Histories, part: Part) -> tuple[Selected, dict[BaselineName, Mapping[str, Any]]]:
    """What was chosen for a part, and the settings of all candidates."""
    named: Sequence[BaselineName] = CANDIDATES[part] if isinstance(config.priors, str) else config.priors
    answers: dict[BaselineName, Dense | Sparse] = {}
    settings: dict[BaselineName, Mapping[str, Any]] = {}
    for name in named:
        try:
            settings[name], answers[name] = _candidate(config, histories, part, name)
        except UnfitDataError as error:
            if not isinstance(config.priors, str):
                raise
            say(f"{name} is no candidate: {error}")
    if not answers:
        raise DataError("No ranker of priors can be used with these histories; set priors: none.")
    try:
        row_E = evaluated_events(histories, "valid")
    except DataError:  # nothing to choose by
        row_E = np.zeros(0, np.int64)
    is_list = not isinstance(config.priors, str)
    return select(part, answers, histories, row_E, config.seed, all_of_them=is_list), settings


def _candidate(config: Config, histories: Histories, part: Part, name: BaselineName) -> _Fitted:
    """Settings of a candidate, and what it answers for validation events."""
    family, repeats = FAMILIES[name], _repeats(config, part, name)
    protocol = config.evaluate.model_copy(update={"repeats": repeats})
    folder = config.run if repeats == config.evaluate.repeats else config.run / "priors" / "new-items"
    chosen = tune(family, histories, protocol, config.seed, folder).settings
    return chosen, family.ranker(histories, "valid", chosen, config.seed, repeats).on(histories, "valid")


def _repeats(config: Config, part: Part, name: BaselineName) -> Repeats:
    """Networks are trained once for both parts."""
    if part == "again" or any(name == family.name for family in SEQUENTIAL):
        return config.evaluate.repeats
    return "excluded"


def _recipe_of(selected: Selected, settings: Mapping[BaselineName, Mapping[str, Any]]) -> dict[BaselineName, Member]:
    return {name: Member(settings[name], weight) for name, weight in selected.weights.items()}


def _told(selected: Selected) -> dict[str, Any]:
    return {
        "num_events": selected.num_events, "uniform": selected.uniform, "alone": dict(selected.alone),
        "steps": [vars(step) for step in selected.steps],
    }  # fmt: skip


def _table(part: Part, selected: Selected) -> Table:
    """Who joined, in order, and what that brought."""
    what = "items chosen before" if part == "again" else "new items"
    title = f"prior of {what}, {selected.num_events:,} validation events"
    table = Table(title=title, title_justify="left", box=None)
    for name in ("ranker", "weight", "log-loss alone", "of the stack"):
        table.add_column(name, justify="left" if name == "ranker" else "right")
    joined = {step.name: step.log_loss for step in selected.steps}
    rest = sorted(set(selected.alone) - set(joined), key=lambda name: selected.alone[name])
    for name in (*joined, *rest):
        weight, after = selected.weights.get(name), joined.get(name)
        table.add_row(
            name, f"{weight:.3f}" if weight else "–", f"{selected.alone[name]:.3f}", f"{after:.3f}" if after else "–",
            style="" if weight else "dim",
        )  # fmt: skip
    return table
