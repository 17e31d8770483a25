"""`whereupon priors`: which rankers a run's stack is made of, chosen on the validation split.

Each candidate's settings are those of the highest nDCG@10 (`tuning`), for new items with repeats excluded. Networks
have the first settings of their grid, since each costs a training. Rankers and weights follow by log-loss
(`rankers.selection`). The recipe lies in `<run>/priors/recipe.json`, under a key of all that it depends on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from rich.table import Table

from .. import __version__
from ..console import say, show
from ..decode.adapters import current_adapter
from ..errors import ConfigError, DataError, ModelError
from ..files import read_object, sha256_text, versions, write_json
from ..histories import Histories, read_histories
from ..histories.candidates import EvaluatedSplit, Repeats
from ..histories.questions import SPLIT_CODES, evaluated_events
from ..rankers.blend import known_priors
from ..rankers.boosted_features import SMALL
from ..rankers.calibrate import calibrate
from ..rankers.families import FAMILIES, NETWORKS
from ..rankers.fitting import Calibration
from ..rankers.gate import fit_gate
from ..rankers.protocol import Dense, Sparse, UnfitDataError
from ..rankers.saved import FORMAT, read_stack, save_stack
from ..rankers.selection import MAX_EVENTS, Pool, Selected, select, select_gate
from ..rankers.settings import BaselineName
from ..rankers.stack import Member, Stack, StackRecipe, fit_stack, past_items
from .tuning import tune

if TYPE_CHECKING:
    from ..config import Config

T = TypeVar("T")

_NAMES: Final[Mapping[Pool, tuple[BaselineName, ...]]] = {
    "again": (
        "boosted two-stage", "boosted own events", "learnt own events", "context-weighted own events",
        "own counts by hour of week", "own counts", "popularity by hour of week", "transitions", "nearest",
        "SASRec + time",
    ),
    "new": (
        "boosted two-stage", "learnt new items", "popularity", "popularity by hour of week", "recent popularity",
        "transitions", "nearest", "ItemKNN", "EASE", "SASRec + time", "GRU4Rec",
    ),
}  # fmt: skip
"""What `priors: auto` chooses from. FPMC is no prior: its vectors of users cannot be fitted to other users."""

SLOW: Final[BaselineName] = "boosted two-stage"
"""A candidate for catalogues of at most `SMALL` items, all of which it learns from. A fit takes minutes with more."""

GATE_GAIN: Final = 0.05
"""Nats per event by which a gate and two pools must be better than one pool of all items."""


def stack_recipe(config: Config, histories: Histories, *, for_training: bool = False) -> StackRecipe:
    """The recipe of a run, as it was chosen before for the same data and settings, or chosen now and printed.

    One of other data stays, too, where the adapter in use was trained on top of it or pooled with it, unless the recipe
    is `for_training`: histories may be prepared every night, and a model trained now and then. Raises DataError: no
    ranker of `priors` can be used with these histories.
    """
    path, key = config.run / "priors" / "recipe.json", _key(config, histories)
    try:
        found = read_object(path)
        recipe = StackRecipe.of_json(found["recipe"])
        if found.get("key") == key:
            return recipe
        same = found.get("asked", _parts(config))[0] == _parts(config)[0]  # whatever candidates are evaluated
        if not for_training and same and _is_in_use(config, recipe):
            say("the adapter's rankers are kept and fitted to the histories; `whereupon finetune` chooses anew")
            return recipe
    except (DataError, KeyError, TypeError):
        pass
    candidates = _Candidates.of(config, histories)
    selected = candidates.select()
    recipe = candidates.recipe(selected)
    write_json(path, {
        "key": key, "asked": _parts(config), "recipe": recipe.as_json(), "seed": config.seed, "versions": versions(),
        "selection": {name: _as_json(one) for name, one in selected.items()},
    })  # fmt: skip
    for name, one in selected.items():
        if one.num_events:
            show(_table(name, one))
    say(_verdict(selected, recipe))
    return recipe


def is_chosen(config: Config, histories: Histories) -> bool:
    """Whether a recipe was chosen for these histories and settings, so that no minutes pass until there is one."""
    try:
        return read_object(config.run / "priors" / "recipe.json").get("key") == _key(config, histories)
    except DataError:
        return False


def _key(config: Config, histories: Histories) -> str:
    priors, repeats = _parts(config)
    parts = [__version__, FORMAT, priors, histories.data_hash, repeats, config.seed]
    return sha256_text(json.dumps(parts, sort_keys=True))


def _parts(config: Config) -> list[Any]:
    """What the configuration wants of a stack."""
    return [config.priors if isinstance(config.priors, str) else list(config.priors), config.evaluate.repeats]


def _is_in_use(config: Config, recipe: StackRecipe) -> bool:
    """Whether the adapter in use belongs to a recipe."""
    try:
        return recipe.identity in known_priors(current_adapter(config.run))
    except ModelError:  # there is no adapter
        return False


def run_stack(config: Config, histories: Histories, split: EvaluatedSplit) -> Stack | None:
    """The stack of a run for events of a split; None where `priors` is none. That for test, which answers too, is kept.

    What is missing is chosen and fitted.
    """
    if config.priors == "none":
        return None
    recipe, folder = stack_recipe(config, histories), config.run / "priors" / "stack"
    if split == "test":
        try:
            kept = read_stack(folder, histories)
            if kept.recipe == recipe:
                return kept
        except DataError:
            pass
    stack = fit_stack(recipe, histories, split, config.seed, config.evaluate.repeats)
    if split == "test":
        save_stack(folder, stack, histories, config.seed)
    return stack


def calibrate_run(
    config: Config, limit: int | None = None, adapter: Path | None = None, stack: Stack | None = None
) -> dict[str, Calibration]:  # fmt: skip
    """`whereupon calibrate`: see `rankers.calibrate`. Of the stack, what answers need is kept, too.

    `adapter`: the adapter's folder; default: that in use. `stack`: the run's for the valid split, where it is fitted.
    """
    histories = read_histories(config.run)
    stack = stack or run_stack(config, histories, "valid")
    fitted = calibrate(config, histories, stack, adapter or current_adapter(config.run), limit)
    run_stack(config, histories, "test")
    return fitted


def choose_priors(config: Config) -> None:
    """`whereupon priors`: choose and fit what is missing.

    Raises ConfigError: `priors` is none.
    """
    if config.priors == "none":
        raise ConfigError("priors is none, so there is nothing to choose: set priors: auto, or a list of rankers.")
    stack = run_stack(config, read_histories(config.run), "test")
    assert stack is not None
    say(f"written to {config.run / 'priors'}; `whereupon finetune` trains on top of it")


@dataclass(frozen=True)
class _Candidates:
    """Rankers that may join, with tuned settings, and what they answer for validation events."""

    config: Config
    histories: Histories
    settings: Mapping[tuple[Pool, BaselineName], Mapping[str, Any]]
    answers: Mapping[tuple[Pool, BaselineName], Dense | Sparse]

    @classmethod
    def of(cls, config: Config, histories: Histories) -> _Candidates:
        settings: dict[tuple[Pool, BaselineName], Mapping[str, Any]] = {}
        answers: dict[tuple[Pool, BaselineName], Dense | Sparse] = {}
        fitted: dict[str, Dense | Sparse] = {}
        for pool, names in _names(config, histories).items():
            for name in names:
                repeats = _repeats(config, pool, name)
                try:
                    one = _tuned(config, histories, name, repeats)
                    key = json.dumps([name, dict(one)], sort_keys=True)
                    if key not in fitted:
                        ranker = FAMILIES[name].ranker(histories, "valid", one, config.seed, repeats)
                        fitted[key] = ranker.on(histories, "valid")
                except UnfitDataError as error:
                    if not isinstance(config.priors, str):
                        raise
                    if pool == "new":
                        say(f"{name} is no candidate: {error}")
                    continue
                settings[pool, name], answers[pool, name] = one, fitted[key]
        if not answers:
            raise DataError("No ranker of priors can be used with these histories; set priors: none.")
        return cls(config, histories, settings, answers)

    def of_pool(self, pool: Pool) -> dict[BaselineName, Dense | Sparse]:
        """What the candidates of one pool answer."""
        return {name: one for (_, name), one in self._of(pool, self.answers).items()}

    def select(self) -> dict[str, Selected]:
        """Choose for each pool, and for the gate."""
        try:
            row_E = evaluated_events(self.histories, "valid")
        except DataError:  # nothing to choose by
            row_E = np.zeros(0, np.int64)
        fixed, seed = not isinstance(self.config.priors, str), self.config.seed
        pools: tuple[Pool, ...] = ("all", "again", "new")
        selected: dict[str, Selected] = {
            pool: select(pool, self.of_pool(pool), self.histories, row_E, seed, all_of_them=fixed) for pool in pools
        }
        gate = fit_gate(self.histories, "valid", seed)
        return {**selected, "gate": select_gate(gate, self.of_pool("all"), self.histories, row_E)}

    def recipe(self, selected: Mapping[str, Selected]) -> StackRecipe:
        """With a gate where that is better."""
        if not _gated(selected):
            return StackRecipe({}, self._members("all", selected["all"]), {})
        gate = selected["gate"].weights
        return StackRecipe(
            self._members("again", selected["again"]), self._members("new", selected["new"]),
            self._members("all", selected["gate"]), gate.get("history", 0.0), gate.get("bias", 0.0),
        )  # fmt: skip

    def _members(self, pool: Pool, selected: Selected) -> dict[BaselineName, Member]:
        return {
            name: Member(settings, selected.weights[name])
            for (_, name), settings in self._of(pool, self.settings).items()
            if name in selected.weights
        }

    @staticmethod
    def _of(pool: Pool, given: Mapping[tuple[Pool, BaselineName], T]) -> dict[tuple[Pool, BaselineName], T]:
        """Those of one pool. For all items and for the gate, a ranker as it is tuned on all events, if there is one:
        what is tuned on first visits alone may know nothing of other items."""
        if pool != "all":
            return {key: one for key, one in given.items() if key[0] == pool}
        again = {name for where, name in given if where == "again"}
        return {key: one for key, one in given.items() if key[0] == "again" or key[1] not in again}


def _names(config: Config, histories: Histories) -> Mapping[Pool, Sequence[BaselineName]]:
    """Names of candidates. Where no validation event repeats an item, nothing is worth to be chosen for repeats."""
    if not isinstance(config.priors, str):
        return {"again": config.priors, "new": config.priors}
    row_E = np.flatnonzero(histories.split_N == SPLIT_CODES["valid"])
    query_X, item_X = past_items(histories, row_E)
    repeats = len(row_E) > 0 and (histories.item_idx_N[row_E][query_X] == item_X).any()
    names = _NAMES if repeats or not len(row_E) else {**_NAMES, "again": ("own counts",)}
    if histories.items.height <= SMALL:
        return names
    say(f"{SLOW!r} is no candidate, as it takes long with more than {SMALL} items; name it in priors to have it")
    return {pool: tuple(name for name in some if name != SLOW) for pool, some in names.items()}


def _gated(selected: Mapping[str, Selected]) -> bool:
    """Whether two pools and a gate have a clearly lower log-loss: behind a gate, the model has no say in the matter."""
    return selected["all"].num_events == 0 or _two_parts(selected) < selected["all"].log_loss - GATE_GAIN


def _two_parts(selected: Mapping[str, Selected]) -> float:
    """Log-loss of a gate and two pools, in nats per event."""
    again, new = selected["again"], selected["new"]
    events = again.num_events + new.num_events
    share = selected["gate"].share_new if events else 0.0
    return selected["gate"].log_loss + (1 - share) * again.log_loss + share * new.log_loss


def _verdict(selected: Mapping[str, Selected], recipe: StackRecipe) -> str:
    if not selected["all"].num_events:
        return ("there is no validation event to choose rankers by: each part has its first candidate, and a gate; "
                "raise histories.split.valid and run `whereupon prepare` again")  # fmt: skip
    if recipe.gated:
        return (f"a gate and two pools: log-loss {_two_parts(selected):.3f}; one pool of all items: "
                f"{selected['all'].log_loss:.3f}")  # fmt: skip
    return (f"one pool of all items: log-loss {selected['all'].log_loss:.3f}; a gate and two pools: "
            f"{_two_parts(selected):.3f}")  # fmt: skip


def _tuned(config: Config, histories: Histories, name: BaselineName, repeats: Repeats) -> Mapping[str, Any]:
    """Settings of the highest nDCG@10 on validation; of networks the first of the grid, since each costs a training."""
    if any(name == family.name for family in NETWORKS):
        return FAMILIES[name].grid()[0]
    protocol = config.evaluate.model_copy(update={"repeats": repeats})
    sampled = int((histories.split_N == SPLIT_CODES["valid"]).sum()) > MAX_EVENTS
    as_evaluated = repeats == config.evaluate.repeats and not sampled
    folder = config.run if as_evaluated else config.run / "priors" / ("tuned-" + repeats)
    return tune(FAMILIES[name], histories, protocol, config.seed, folder, MAX_EVENTS).settings


def _repeats(config: Config, pool: Pool, name: BaselineName) -> Repeats:
    """Networks are trained once for both parts."""
    if pool == "again" or any(name == family.name for family in NETWORKS):
        return config.evaluate.repeats
    return "excluded"


def _as_json(selected: Selected) -> dict[str, Any]:
    return {
        "num_events": selected.num_events, "uniform": selected.uniform, "alone": dict(selected.alone),
        "log_loss": selected.log_loss,
        "steps": [vars(step) for step in selected.steps],
    }  # fmt: skip


_NONE = "\N{EN DASH}"
_TITLES: Final = {
    "all": "one pool of all items", "again": "items chosen before", "new": "new items", "gate": "gate: is it new?",
}  # fmt: skip


def _table(name: str, selected: Selected) -> Table:
    """Who joined, in order, and what that brought."""
    title = f"{_TITLES[name]}, {selected.num_events:,} validation events"
    table = Table(title=title, title_justify="left", box=None)
    for heading in ("ranker", "weight", "log-loss alone", "with those above"):
        table.add_column(heading, justify="left" if heading == "ranker" else "right")
    joined = {step.name: step.log_loss for step in selected.steps}
    first = [one for one in selected.weights if one not in joined]
    rest = sorted({*selected.alone} - {*joined, *first}, key=lambda one: selected.alone[one])
    for one in (*first, *joined, *rest):
        weight, after = selected.weights.get(one), joined.get(one)
        table.add_row(
            one, f"{weight:.3f}" if weight else _NONE, f"{selected.alone.get(one, np.nan):.3f}",
            f"{after:.3f}" if after else _NONE, style="" if weight else "dim",
        )  # fmt: skip
    return table
