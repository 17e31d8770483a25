"""`whereupon fuse`: finished rankings of a split fused into one, with weights fitted on the validation split."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..console import say, show
from ..errors import DataError
from ..files import sha256_text
from ..histories import read_histories
from ..histories.questions import caveat_of
from .facts import facts_of
from .fusion import Fusion, FusionMethod, fit_fusion, fuse_rankings
from .protocol import Task, read_task
from .rankers import free_slug, named_rankings
from .rankings import evaluation_folder, write_rankings
from .run import result_of, write_summary
from .table import RankerResult, as_table
from .wording import ON_VALIDATION

if TYPE_CHECKING:
    from ..config import Config
    from ..histories.candidates import EvaluatedSplit

__all__ = ["fuse"]


def fuse(
    config: Config, names: Sequence[str], *, method: FusionMethod, split: EvaluatedSplit, limit: int | None = None,
    as_name: str | None = None,
) -> list[RankerResult]:  # fmt: skip
    """Fit the fusion on validation, write it beside the rankings of `split`, print all parts and the fusion.

    Args:
        config: of the run.
        names: of the rankers, as shown or as their files are called; complete on `split` and on validation.
        method: see `fusion`.
        split, limit: of the events that are ranked; weights are fitted on all events of the validation split.
        as_name: of the fusion; None: its parts joined by "+", and the method.

    Raises:
        DataError: a ranker is missing on one of the splits, is of other events, or is not the same one on both (other
            settings, adapter, calibration or evaluate.k); see `fit_fusion` as well.
    """
    histories, began = read_histories(config.run), time.perf_counter()
    task = read_task(histories, split, config.evaluate, limit, config.seed)
    if caveat := caveat_of(histories):
        say(caveat)
    folder = evaluation_folder(config.run, split, limit)
    parts = [named_rankings(folder, name, task) for name in names]
    slugs = [facts["slug"] for _, facts in parts]
    if len(set(slugs)) < len(slugs):
        raise DataError(f"A fusion should be of different rankers, found {', '.join(slugs)}; name each once.")
    fusion, tuned = _fitted(config, [facts for _, facts in parts], method, task)
    rankings = fuse_rankings([one for one, _ in parts], task.true_item_E, fusion, config.evaluate.k)
    name = as_name or f"{' + '.join(facts['name'] for _, facts in parts)}, {method}"
    slug = free_slug(folder, name, "fusion")
    known_s = [float(facts["wall_s"] or 0.0) for _, facts in parts]
    wall_s = time.perf_counter() - began + sum(known_s)
    of_keys = [facts.get("key") for _, facts in parts]
    key = None if None in of_keys else sha256_text(json.dumps([task.hash, asdict(fusion), of_keys, rankings.k]))
    facts = facts_of(config, task, name=name, kind="fusion", wall_s=wall_s, settings=asdict(fusion), tuned=tuned,
                     of=slugs, of_keys=of_keys, key=key)  # fmt: skip
    write_rankings(folder, slug, rankings, facts, histories.events)
    write_summary(config, task, folder)
    results = [result_of(one, told) for one, told in [*parts, (rankings, facts)]]
    title = f"{split} split, weights fitted on {tuned['num_events']:,} events"
    show(as_table(results, title))
    weights = ", ".join(f"{weight:g} {told['name']}" for weight, (_, told) in zip(fusion.weights, parts, strict=True))
    say(f"{method}, constant {fusion.constant:g}: {weights}")
    if split == "valid":
        say(ON_VALIDATION)
    say(f"written to {folder / slug}.parquet")
    return results


def _fitted(
    config: Config, parts: list[dict[str, Any]], method: FusionMethod, task: Task
) -> tuple[Fusion, dict[str, Any]]:  # fmt: skip
    """What is best on validation, and the facts of how it was found; `parts` are the facts of the rankers."""
    valid = read_task(task.histories, "valid", config.evaluate, seed=config.seed)
    folder, lists = evaluation_folder(config.run, "valid"), []
    for part in parts:
        rankings, facts = named_rankings(folder, part["slug"], valid)
        if other := _differing(facts, part):
            raise DataError(
                f"The rankings {part['slug']!r} should be by one ranker on both splits but differ in "
                f"{', '.join(other)}; run `whereupon evaluate` again on valid and on {task.split}."
            )
        lists.append(rankings)
    fusion, trials = fit_fusion(lists, valid.true_item_E, method)
    return fusion, {"trials": trials, "num_events": len(valid.row_E), "note": ""}


def _differing(valid: Mapping[str, Any], part: Mapping[str, Any]) -> list[str]:
    """In what the rankings of a slug on two splits are by different rankers, by their facts; nothing: by the same one.

    What only one of them tells is not compared: the other is of an earlier version. Nor are names and settings of run
    files, which are called otherwise on each split, and of fusions.
    """
    other = [name for name in ("kind", "k", "adapter") if valid.get(name) != part.get(name)]
    if part.get("kind") in ("run file", "fusion"):
        return other
    one, another = _deciding(valid), _deciding(part)
    return other + [name for name in one if name in another and one[name] != another[name]]


def _deciding(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A ranker's name and the settings that its answers depend on, a model's by section and name."""
    found: dict[str, Any] = {"name": facts.get("name")}
    for name, value in facts.get("settings", {}).items():
        is_section = name in ("model", "decode", "prompts") and isinstance(value, dict)
        found |= {f"{name}.{inner}": one for inner, one in value.items()} if is_section else {name: value}
    # Where a model runs, how many items `recommend` shows, and what is set and not asked for, may be another.
    unread = {"model.device", "decode.k"}
    calibration = found.get("decode.calibration", "none") if facts.get("adapter") else "none"
    if calibration == "none":
        unread.add("decode.calibration")
    elif facts.get("calibration"):
        found["calibration"] = facts["calibration"]
    if calibration in ("none", "temperature"):
        unread.add("decode.prior")
    if not found.get("prompts.leave_out"):
        unread.add("prompts.column_kinds")
    return {name: value for name, value in found.items() if name not in unread}
