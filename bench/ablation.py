"""What are time, place and weather worth to the model of an example? Goes on where it was stopped.

    python bench/ablation.py nyc-checkins [--seeds 7 8 9] [--limit N] [--without KIND ...]
    python bench/ablation.py flights-demo

For each seed: trains the example (runs/EXAMPLE, another seed in runs/EXAMPLE-seed-SEED), trains it again without each
kind of context that its prompts show (..-without-KIND, on the same prepared data), and runs `whereupon ablate`. Lines
without a kind are shorter, so a batch is given fewer tokens: as many steps, of as many events. Runs that are trained
are not trained again (those that were trained otherwise are refused), and finished rankings are not computed again.
`--without` with no kind trains nothing more: removed and shuffled only. On two cores the training of nyc-checkins takes
70 minutes and a pass half an hour, that of flights-demo a quarter of an hour and a pass some minutes.

Writes bench/results/ablation_EXAMPLE.json: a row a test, with its seed, counts and p-values. No bound is set for the
figures.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from record import record

from whereupon.config import Config, load_config
from whereupon.decode.adapter_card import read_card
from whereupon.decode.adapters import adapter_versions, current_adapter, current_name
from whereupon.decode.models import build_encoder, load_tokenizer
from whereupon.eval.ablation import shown_kinds
from whereupon.eval.rankings import ABLATION, evaluation_folder
from whereupon.files import read_object
from whereupon.finetune.schedule import Schedule
from whereupon.finetune.training_examples import make_examples
from whereupon.histories import Histories, read_histories
from whereupon.prompts import CONTEXT_KINDS, ContextKind, PromptEncoder

ROOT: Final = Path(__file__).parents[1]
SPLIT: Final = "test"

Int64 = NDArray[np.int64]


def main() -> int:
    """Train and ablate for every seed; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("example", metavar="EXAMPLE", help="a configuration in examples/, without its ending")
    parser.add_argument("--seeds", type=int, nargs="+", help="of trainings and samples; default: the example's")
    parser.add_argument("--limit", type=int, metavar="N", help="only N test events")
    parser.add_argument("--without", nargs="*", choices=CONTEXT_KINDS, metavar="KIND", help="train without these alone")
    chosen = parser.parse_args()
    path = ROOT / "examples" / f"{chosen.example}.yaml"
    seeds = chosen.seeds or [load_config(path).seed]
    found = [ablation(path, seed, chosen.limit, chosen.without) for seed in seeds]
    rows = [{"seed": seed, **row} for seed, one in zip(seeds, found, strict=True) for row in one["tests"]]
    notes = {seed: one["notes"] for seed, one in zip(seeds, found, strict=True)}
    return record(f"ablation_{chosen.example}", seeds[0], [], script="ablation", seeds=seeds, rows=rows, notes=notes)


def ablation(path: Path, seed: int, limit: int | None, without: Sequence[ContextKind] | None) -> dict[str, Any]:
    """Whatever is not done yet of one seed, and what `whereupon ablate` wrote."""
    first = load_config(path)
    run = first.run if seed == first.seed else first.run.with_name(f"{first.run.name}-seed-{seed}")
    config = first.model_copy(update={"run": run, "seed": seed})
    prepare_copy(path, first, run)
    train_once(path, run, seed)
    trainings: dict[ContextKind, tuple[Path, list[str]]] = {}
    for kind in _kinds(config) if without is None else without:
        there = run.with_name(f"{run.name}-without-{kind}")
        prepare_copy(path, first, there)
        overrides = [f"prompts.leave_out=[{kind}]", f"finetune.batch_tokens={_batch_tokens(config, kind)}"]
        refuse_other_training(path, there, seed, *overrides)  # before hours are spent on the other kinds
        trainings[kind] = there, overrides
    for there, overrides in trainings.values():
        train_once(path, there, seed, *overrides)
    retrained = [word for kind, (there, _) in trainings.items() for word in ("--retrained", f"{kind}={there}")]
    limited = ["--limit", str(limit)] if limit else []
    whereupon("ablate", path, "--split", SPLIT, *limited, *retrained, "--set", f"run={run}", "--set", f"seed={seed}")
    return read_object(evaluation_folder(run, SPLIT, limit) / f"{ABLATION}.json")


def prepare_copy(path: Path, first: Config, run: Path) -> None:
    """The example's prepared data, the very same in every run folder, whatever its seed.

    Ends the bench where the folder holds other data.
    """
    source = first.run / "histories"
    if not (source / "manifest.json").is_file():
        whereupon("prepare", path)
    if run != first.run and not (run / "histories").is_dir():
        copy = run / "histories.partial"
        shutil.copytree(source, copy, dirs_exist_ok=True)
        copy.rename(run / "histories")
    hashes = [read_object(folder / "manifest.json").get("data_hash") for folder in (source, run / "histories")]
    if len(set(hashes)) > 1:
        sys.exit(f"{run} holds other data than {first.run}; remove it to begin again")


def train_once(path: Path, run: Path, seed: int, *overrides: str) -> None:
    """Train unless that is done; a training that was killed leaves a checkpoint, and goes on."""
    refuse_other_training(path, run, seed, *overrides)
    if _is_trained(run):
        return
    sets = [word for override in (f"run={run}", f"seed={seed}", *overrides) for word in ("--set", override)]
    whereupon("finetune", path, *sets)


def refuse_other_training(path: Path, run: Path, seed: int, *overrides: str) -> None:
    """End the bench where a run was trained otherwise than it would be now."""
    if not _is_trained(run):
        return
    card, wanted = read_card(current_adapter(run)), load_config(path, [f"run={run}", f"seed={seed}", *overrides])
    set_to = {
        "seed": seed,
        **{f"finetune.{name}": one for name, one in wanted.finetune.model_dump(mode="json").items()},
    }
    found = {"seed": card["seed"], **{f"finetune.{name}": one for name, one in card["finetune"].items()}}
    other = [f"{name} {found[name]}, not {one}" for name, one in set_to.items() if found.get(name, one) != one]
    if other:
        sys.exit(f"{run} was trained with {'; '.join(other)}: remove it to train it again")


def _is_trained(run: Path) -> bool:
    return current_name(run) is not None and all(version.complete for version in adapter_versions(run))


def _kinds(config: Config) -> list[ContextKind]:
    """The kinds that the prompts show."""
    histories, encoder = _texts(config)
    return shown_kinds(encoder, histories)


def _batch_tokens(config: Config, kind: ContextKind) -> int:
    """The size of batches with which a training without the kind takes as many steps as the whole one."""
    histories, encoder = _texts(config)

    def lengths(one: PromptEncoder) -> Int64:
        return np.array([len(example.tokens_L) for example in make_examples(histories, one)])

    def num_steps(length_W: Int64, batch_tokens: int) -> int:
        settings = config.finetune.model_copy(update={"batch_tokens": batch_tokens})
        return Schedule(length_W, settings, config.seed, num_processes=1).num_steps()

    whole = config.finetune.batch_tokens
    wanted, without_W = num_steps(lengths(encoder), whole), lengths(encoder.without([kind]))
    return min(range(whole, whole // 4, -8), key=lambda size: abs(num_steps(without_W, size) - wanted))


def _texts(config: Config) -> tuple[Histories, PromptEncoder]:
    """The prepared data, and what separates them."""
    histories = read_histories(config.run)
    return histories, build_encoder(
        histories.items, histories.events, histories.location, config.prompts, load_tokenizer(config.model)
    )


def whereupon(verb: str, path: Path, *words: str) -> None:
    """Run a verb as anybody would, in a process of its own; ends the bench where it fails."""
    command = [verb, str(path), *words]
    print(shlex.join(["whereupon", *command]), file=sys.stderr, flush=True)
    if status := subprocess.run([sys.executable, "-m", "whereupon.cli", *command], check=False).returncode:
        sys.exit(status)


if __name__ == "__main__":
    sys.exit(main())
