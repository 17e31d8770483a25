"""`whereupon student`: a smaller model that learns the distribution of a trained one, for the speed of its answers.

RUN/base/              the teacher, merged, with some of its layers: a plain checkpoint
RUN/base/student.json  of which teacher, and how many layers
RUN/histories, priors  those of the teacher's run
RUN/adapters/          the adapter that the student was trained with, as of any other run
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..console import say
from ..decode.adapter_card import check_card, check_data, read_card
from ..decode.adapters import ADAPTERS, current_adapter
from ..decode.export import write_student
from ..decode.layers import kept_layers
from ..decode.layers import num_layers as layers_of
from ..decode.models import adapter_identity, build_encoder, load_base_model, load_tokenizer, merge_adapter
from ..errors import ConfigError, DataError, ModelError
from ..files import atomic_path, read_object, write_json
from ..histories import read_histories
from ..rankers.blend import ALONE
from .launch import accelerator_of, as_launched
from .model import Teacher
from .train import finetune

if TYPE_CHECKING:
    from ..config import Config

_BASE, _NOTE = "base", "student.json"
_SHARED: Final = ("histories", "priors")


def student_config(config: Config, run: Path) -> Config:
    """The settings of a student's run: the same, but for the run folder and the base model."""
    model = config.model.model_copy(update={"base": str(run / _BASE), "revision": None, "quantize": "none"})
    return config.model_copy(update={"run": run, "model": model})


def student(config: Config, num_layers: int, run: Path, start: str | None = None) -> Path:
    """Leave layers of a trained model out, and train what is left to say what the whole one says; the new adapter.

    The teacher is the adapter that the run of `config` uses, or `start`, a version of it or a folder. Called again, it
    goes on where it was killed. Raises ConfigError for another objective than catalogue, ModelError for a teacher that
    does not fit this run, numbers of layers that cannot be kept, or a folder that holds another student, DataError for
    a teacher of other data, and what `finetune` raises.
    """
    if config.finetune.objective != "catalogue":
        raise ConfigError(
            "A student learns a distribution over the catalogue, and finetune.objective is "
            f"{config.finetune.objective}: set it to catalogue."
        )
    accelerator = accelerator_of(as_launched(config))
    version = config.run / ADAPTERS / start if start else current_adapter(config.run)
    folder = version if version.is_dir() or not start else Path(start)
    card = _teacher_card(config, folder)
    model = merge_adapter(load_base_model(config.model), folder)
    with accelerator.main_process_first():
        _make_run(config, run, {"teacher": card["adapter_hash"], "base": card["base_hash"], "layers": num_layers},
                  lambda path: write_student(config.model, model, num_layers, path))  # fmt: skip
    if accelerator.is_main_process:
        kept = ", ".join(map(str, kept_layers(layers_of(model), num_layers)))
        say(f"{run / _BASE} is the teacher with the layers {kept} of its {layers_of(model)}")
    teacher = Teacher(model.eval(), card["temperature"], card, config.finetune.teacher_share)
    found = finetune(student_config(config, run), teacher=teacher)
    if accelerator.is_main_process:
        say(f"the student is used with --set run={run} --set model.base={run / _BASE}")
    return found


def _teacher_card(config: Config, folder: Path) -> dict[str, Any]:
    """Its card, once it is known to fit."""
    histories, tokenizer, card = read_histories(config.run), load_tokenizer(config.model), read_card(folder)
    encoder = build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)
    check_card(card, folder, adapter_identity(config.model, encoder, tokenizer, histories.title_recipe))
    check_data(card, folder, histories.data_hash)
    if (card.get("priors", ALONE) != ALONE) != config.on_top:
        how = "alone, and the student would be trained on top of rankers: set finetune.on_top to false"
        if not config.on_top:
            how = "on top of rankers, and the student would be trained without: set priors as they were then"
        raise ModelError(f"The teacher in {folder} was trained {how}.")
    return card


def _make_run(config: Config, run: Path, note: Mapping[str, Any], write: Callable[[Path], object]) -> None:
    """The student's run folder, before it is trained; what is there already stays."""
    base = run / _BASE
    if base.exists():
        try:
            known = read_object(base / _NOTE)
        except DataError:
            known = {}
        if known != note:
            raise ModelError(f"{run} holds another student, or no student: name another folder for -o, or remove it.")
    for name in _SHARED:
        if (config.run / name).is_dir() and not (run / name).exists():
            with atomic_path(run / name) as path:
                shutil.copytree(config.run / name, path)
    hashes = [read_histories(one).data_hash for one in (config.run, run)]
    if hashes[0] != hashes[1]:
        raise DataError(f"{run} holds other histories than {config.run}: name another folder for -o, or remove it.")
    if not base.exists():
        with atomic_path(base) as path:
            path.mkdir()
            write(path)
            write_json(path / _NOTE, dict(note))
