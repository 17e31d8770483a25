import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from accelerate.state import AcceleratorState
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    get_cosine_schedule_with_warmup,
)

from whereupon.config import Config, load_config
from whereupon.decode.adapters import adapter_versions, current_adapter
from whereupon.decode.hardware import choose_device
from whereupon.decode.models import adapter_identity, load_base_model, load_engine, load_tokenizer
from whereupon.errors import ConfigError, DataError, ModelError
from whereupon.finetune import FinetuneSettings, launch, train
from whereupon.finetune.adapter import CheckpointManager, only_training
from whereupon.finetune.model import add_lora
from whereupon.finetune.progress import TrainingProgress
from whereupon.finetune.schedule import Schedule
from whereupon.finetune.train import finetune
from whereupon.finetune.validation import Validator
from whereupon.histories import read_histories

pytestmark = pytest.mark.slow  # all together

Town = Callable[..., Config]


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "adapter_model.safetensors"))


def _log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def _interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Stop training, as Ctrl-C would, in that step; every step before it has left a checkpoint."""
    original = TrainingProgress.step

    def stepping(self: TrainingProgress, now: int, *numbers: Any) -> None:
        if now == step:
            raise KeyboardInterrupt
        original(self, now, *numbers)

    monkeypatch.setattr(TrainingProgress, "step", stepping)
    monkeypatch.setattr(train, "CHECKPOINT_EVERY_S", -1.0)


def _interrupted(config: Config, step: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _interrupt_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            finetune(config)


SHORT = ("finetune.epochs=2", "finetune.validations_per_epoch=1", "finetune.log_every=1")


def test_adapter_is_a_peft_folder_with_a_card(town: Town) -> None:
    config = town(*SHORT, "finetune.temperature=0.5")
    folder = finetune(config)
    assert folder == current_adapter(config.run) == config.run / "adapters" / "0001"
    card = json.loads((folder / "whereupon.json").read_text())
    histories = read_histories(config.run)
    _, encoder, read = load_engine(
        config.model,
        config.prompts,
        histories.items,
        histories.events,
        "outcome",
        folder,
        title_recipe=histories.title_recipe,
    )
    bound = adapter_identity(config.model, encoder, load_tokenizer(config.model), histories.title_recipe)
    assert bound.items() <= card.items()
    assert bound["title_recipe"] == {"title": None, "title_attributes": []}
    assert card | {"adapter_hash": read["adapter_hash"]} == read
    assert card["complete"] is True
    assert card["data_hash"] == read_histories(config.run).data_hash
    assert (card["seed"], card["temperature"]) == (7, 0.5)
    assert card["finetune"] == config.finetune.model_dump(mode="json")
    assert {"torch", "peft", "whereupon"} <= card["versions"].keys()
    assert {"recall@1", "recall@10", "nDCG@10", "log-loss"} <= card["validation"].keys()
    assert card["step"] in [entry["step"] for entry in _log(folder)]
    readme = (folder / "README.md").read_text()
    assert readme.startswith(f"---\nbase_model: {config.model.base}\nlibrary_name: peft\n")
    assert f"| nDCG@10 | {card['validation']['nDCG@10']:.4f} |" in readme
    peft = PeftModel.from_pretrained(load_base_model(config.model), str(folder)).peft_config["default"]
    assert (peft.r, peft.peft_type.value) == (16, "LORA")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "curve.svg", "log.jsonl", "pools.json",
        "steps.jsonl", "whereupon.json",
    ]  # fmt: skip


def _items(config: Config) -> pl.DataFrame:
    return read_histories(config.run).items


def test_mixed_precision_no_is_a_word_in_yaml(tmp_path: Path) -> None:
    """YAML itself reads it as false."""
    file = tmp_path / "one.yaml"
    file.write_text(
        "run: run\nhistories: {events: {path: e.csv}, items: {path: i.csv}}\nfinetune: {mixed_precision: no}\n"
    )
    assert load_config(file).finetune.mixed_precision == "no"
    assert load_config(file, ["finetune.mixed_precision=no"]).finetune.mixed_precision == "no"


@pytest.mark.parametrize(
    ("capability", "setting", "expected"),
    [((9, 0), "auto", "bf16"), ((8, 0), "auto", "bf16"), ((7, 5), "auto", "fp16"), ((7, 0), "auto", "fp16"),
     ((6, 1), "auto", "no"), ((7, 5), "bf16", "bf16"), ((9, 0), "fp16", "fp16"), ((9, 0), "no", "no")],
)  # fmt: skip
def test_mixed_precision_of_a_gpu_is_never_emulated(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], setting: Any, expected: str
) -> None:
    gpu = SimpleNamespace(major=capability[0], minor=capability[1])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: gpu)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    assert launch._precision(FinetuneSettings(mixed_precision=setting), torch.device("cuda")) == expected


@pytest.mark.parametrize(("capabilities", "expected"), [({"amx_bf16": True}, "bf16"), ({"avx2": True}, "no")])
def test_mixed_precision_of_a_cpu_is_bf16_where_it_is_native(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert launch._precision(FinetuneSettings(), torch.device("cpu")) == expected
    with pytest.raises(ConfigError, match=r"^finetune\.mixed_precision is fp16 but training runs on a CPU: set it to"):
        launch._precision(FinetuneSettings(mixed_precision="fp16"), torch.device("cpu"))


def test_training_runs_on_the_device_of_evaluation_on_a_mac_too(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def accelerator(mixed_precision: str, cpu: bool) -> None:
        asked.append(cpu)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(launch, "Accelerator", accelerator)
    config = town("model.device=auto")
    with pytest.raises(KeyboardInterrupt):
        finetune(config)
    assert asked == [choose_device(config.model).type == "cpu"] == [True]


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_training_keeps_base_weights_in_the_format_of_evaluation(
    town: Town, tmp_path: Path, stored: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = town(*SHORT)
    base = Path(shutil.copytree(config.model.base, tmp_path / "half"))
    load_base_model(config.model).to(stored).save_pretrained(base)
    added: list[torch.dtype] = []
    original = train.add_lora

    def add_lora(model: PreTrainedModel, settings: FinetuneSettings) -> PeftModel:
        added.append(model.dtype)
        return original(model, settings)

    monkeypatch.setattr(train, "add_lora", add_lora)
    finetune(town("finetune.epochs=0.1", f"model.base={base}"))
    assert added == [torch.float32]


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_base_weights_in_bfloat16_are_trained_on_in_float32(town: Town, precision: str) -> None:
    """As `model.dtype: auto` has it on a GPU: only the base is rounded, not what learns."""
    settings = ("model.dtype=bfloat16", f"finetune.mixed_precision='{precision}'")
    AcceleratorState._reset_state(reset_partial_state=True)  # accelerate allows one precision a process
    try:
        folder = finetune(town("finetune.epochs=0.1", *settings))
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert {weight.dtype for weight in _weights(folder).values()} == {torch.float32}


def test_log_shows_each_validation(town: Town) -> None:
    entries = _log(finetune(town(*SHORT)))
    assert [entry["step"] for entry in entries] == sorted({entry["step"] for entry in entries})
    assert all(entry["train_loss"] > 0 and 0 <= entry["nDCG@10"] <= 1 for entry in entries)
    assert entries[-1]["learning_rate"] == pytest.approx(0.0, abs=1e-9)  # the cosine has come down
    assert len(entries) == 2


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_interrupted_and_resumed_run_ends_as_an_uninterrupted_one(
    town: Town, capsys: pytest.CaptureFixture[str], dropout: float
) -> None:
    settings = (*SHORT, f"finetune.dropout={dropout}", "finetune.batch_tokens=400")
    whole = finetune(town(*settings, run="whole"))
    last = _log(whole)[-1]["step"]
    config = town(*settings, run="cut")
    for step in (3, last - 1):
        _interrupted(config, step)
    cut = finetune(config)
    said = capsys.readouterr().err
    assert f"resuming at step {last - 2}" in said
    assert _log(cut) == _log(whole)
    one, other = _weights(whole), _weights(cut)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_checkpoint_of_other_settings_is_not_used_and_stays(town: Town, capsys: pytest.CaptureFixture[str]) -> None:
    config, other = town(*SHORT), "finetune.learning_rate=0.01"
    _interrupted(config, 2)
    folder = finetune(town(*SHORT, other))
    assert "0001/checkpoint.pt belongs to other settings or data" in capsys.readouterr().err.replace("\n", "")
    assert folder == current_adapter(config.run) == config.run / "adapters" / "0002"
    assert _log(folder) == _log(finetune(town(*SHORT, other, run="fresh")))
    assert finetune(config) == config.run / "adapters" / "0001"  # the killed one goes on
    assert "resuming at step 1" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_checkpoint_that_cannot_be_read_is_said_and_left_alone(
    town: Town, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    config = town("finetune.epochs=0.1")
    path = config.run / "adapters" / "0001" / "checkpoint.pt"
    path.parent.mkdir(parents=True)
    torch.save(torch.zeros(3), path) if content is None else path.write_bytes(content)
    assert finetune(config) == config.run / "adapters" / "0002"
    assert "checkpoint.pt cannot be read" in capsys.readouterr().err
    assert path.is_file()


def test_log_is_written_while_training_runs(town: Town) -> None:
    config = town(*SHORT)
    _interrupted(config, _last_step(town(*SHORT, run="whole")))
    assert len(_log(config.run / "adapters" / "0001")) == 1


def _last_step(config: Config) -> int:
    return int(_log(finetune(config))[-1]["step"])


def test_checkpoints_begin_to_be_due_anew_after_each_validation(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every checkpoint comes from a validation here, twice: before and after it."""
    written: list[int] = []
    original = CheckpointManager.checkpoint

    def checkpoint(self: CheckpointManager, optimizer: Any) -> None:
        written.append(self.standing.step)
        original(self, optimizer)

    monkeypatch.setattr(CheckpointManager, "checkpoint", checkpoint)
    steps = [entry["step"] for entry in _log(finetune(town(*SHORT)))]
    assert written == [step for step in steps for _ in range(2)]


# Which adapter is used


def _scored(monkeypatch: pytest.MonkeyPatch, score: float) -> None:
    monkeypatch.setattr(Validator, "validate", lambda *_: {"nDCG@10": score})


def test_worse_adapter_does_not_replace_a_better_one(
    town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = town("finetune.epochs=0.1")
    _scored(monkeypatch, 0.72)
    best = finetune(config)
    _scored(monkeypatch, 0.01)
    worse = finetune(town("finetune.epochs=0.1", "finetune.learning_rate=0.5"))
    assert current_adapter(config.run) == best != worse
    said = " ".join(capsys.readouterr().err.split())
    assert "0001 stays in use" in said
    assert "0.7200" in said
    assert "0.0100" in said
    assert "--use 0002" in said
    _scored(monkeypatch, 0.72)
    assert current_adapter(config.run) != finetune(config) == current_adapter(config.run)  # as good: the new one


def test_adapter_of_other_validation_events_is_not_compared(
    town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = town("finetune.epochs=0.1")
    _scored(monkeypatch, 0.5)
    best = finetune(config)
    monkeypatch.setattr(Validator, "hash", "another")
    _scored(monkeypatch, 0.9)
    finetune(config)
    assert current_adapter(config.run) == best
    assert "not validated on the same events" in " ".join(capsys.readouterr().err.split())


def test_adapter_that_does_not_fit_the_run_any_more_is_replaced(
    town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _scored(monkeypatch, 0.9)
    config = town("finetune.epochs=0.1")
    finetune(config)
    _scored(monkeypatch, 0.1)
    newer = finetune(town("finetune.epochs=0.1", "prompts.budget_tokens=150"))
    assert current_adapter(config.run) == newer
    assert "0001 was trained for other data, prompts or another base model" in " ".join(capsys.readouterr().err.split())


def test_training_that_is_killed_at_its_very_end_ends_when_run_again(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = town("finetune.epochs=0.1")
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointManager, "_choose", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            finetune(config)
    with pytest.raises(ModelError, match="whereupon finetune"):
        current_adapter(config.run)
    monkeypatch.setattr(TrainingProgress, "step", lambda *_: pytest.fail("a step was taken again"))
    assert finetune(config) == current_adapter(config.run) == config.run / "adapters" / "0001"


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_training_that_was_killed_leaves_the_adapter_in_use_alone(town: Town) -> None:
    config = town(*SHORT, "finetune.batch_tokens=400")
    whole = finetune(config)
    before = _weights(whole)
    _interrupted(config, 3)
    assert current_adapter(config.run) == whole
    assert all(torch.equal(weight, before[name]) for name, weight in _weights(whole).items())
    assert [version.complete for version in adapter_versions(config.run)] == [True, False]


def test_training_stops_when_patience_runs_out_and_keeps_the_best(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.2, 0.5, 0.4, 0.5, 0.9])
    monkeypatch.setattr(Validator, "validate", lambda *_: {"nDCG@10": next(scores)})
    folder = finetune(town("finetune.epochs=9", "finetune.patience=2"))
    assert [entry["nDCG@10"] for entry in _log(folder)] == [0.2, 0.5, 0.4, 0.5]
    card = json.loads((folder / "whereupon.json").read_text())
    assert (card["validation"], card["step"]) == ({"nDCG@10": 0.5}, _log(folder)[1]["step"])


def test_without_validation_events_the_training_loss_decides(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Validator, "validate", lambda *_: {})
    folder = finetune(town(*SHORT))
    assert all(entry.keys() == {"step", "train_loss", "learning_rate"} for entry in _log(folder))
    assert json.loads((folder / "whereupon.json").read_text())["step"] == _log(folder)[-1]["step"]


@pytest.mark.parametrize(
    ("validations", "how"), [(1, "(weights|scores) are no numbers any more"), (0, "the loss is nan")]
)
def test_diverging_training_is_one_sentence_and_keeps_no_ruin(town: Town, validations: int, how: str) -> None:
    steep = ("finetune.learning_rate=1.0e30", "finetune.warmup_fraction=0")
    config = town(*steep, f"finetune.validations_per_epoch={validations}")
    with pytest.raises(ModelError, match=rf"diverged at step \d \({how}\): lower finetune\.learning_rate; the best"):
        finetune(config)
    assert not any(version.card for version in adapter_versions(config.run))


def test_unknown_target_modules_name_what_the_model_has(town: Town) -> None:
    with pytest.raises(ConfigError, match=r"finetune\.target_modules .* \(.*q_proj.*\), not \['quer'\]\.$"):
        finetune(town("finetune.target_modules=[quer]"))


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")  # peft's; what follows is the sentence
@pytest.mark.parametrize("tied", [False, True])
def test_output_layer_is_no_target(tied: bool) -> None:
    """Scores come from the base model's: an adapter on it, or on the input layer that shares it, would do nothing."""
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=11, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=tied,
    ))  # fmt: skip
    names = ["q_proj", "embed_tokens" if tied else "lm_head"]
    with pytest.raises(ConfigError, match=r"^finetune\.target_modules .*output layer"):
        add_lora(model, FinetuneSettings(target_modules=names))


def test_input_layer_of_its_own_may_be_a_target() -> None:
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=11, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
    ))  # fmt: skip
    add_lora(model, FinetuneSettings(target_modules=["embed_tokens"]))


@pytest.mark.parametrize(
    ("variable", "value", "setting"),
    [
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "gradient_accumulation_steps"),  # and 2 in the settings
        ("ACCELERATE_MIXED_PRECISION", "fp16", "mixed_precision"),
        ("ACCELERATE_MIXED_PRECISION", "bf16", "mixed_precision"),  # the town's own is "no"
    ],
)
def test_flag_of_accelerate_that_would_be_ignored_is_refused(
    town: Town, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, setting: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=rf"^accelerate was launched with {setting} {value}"):
        finetune(town("finetune.accumulate=2"))


def test_model_that_cannot_be_searched_is_refused_before_the_first_step(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingProgress, "step", lambda *_: pytest.fail("a step was taken"))
    config = town(*SHORT)
    bloom = BloomConfig(vocab_size=1000, hidden_size=32, n_layer=1, n_head=4)
    monkeypatch.setattr(train, "load_base_model", lambda _: AutoModelForCausalLM.from_config(bloom))
    with pytest.raises(ModelError, match=r"cannot continue a text along several branches") as caught:
        finetune(config)
    assert "diverged" not in str(caught.value)
    assert not (config.run / "adapters").exists()


def test_error_in_a_validation_that_is_no_divergence_is_not_called_one(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> None:
        raise ModelError("sees at most 5 tokens")

    monkeypatch.setattr(Validator, "validate", failing)
    with pytest.raises(ModelError, match=r"^sees at most 5 tokens$"):
        finetune(town(*SHORT))


def test_budget_beyond_what_the_model_sees_is_reported_before_training(town: Town) -> None:
    message = r"^prompts\.budget_tokens is 100000 but the model .* at most (\d+) tokens: set it to at most \1\.$"
    with pytest.raises(ConfigError, match=message):
        finetune(town("prompts.budget_tokens=100000"))


def test_no_training_events_are_one_sentence(town: Town) -> None:
    config = town()
    path = config.run / "histories" / "events.parquet"
    pl.read_parquet(path).with_columns(split=pl.lit("test")).write_parquet(path)
    with pytest.raises(DataError, match=r"^There are no training events"):
        finetune(config)


def _schedule(epochs: float, num_processes: int = 1) -> Schedule:
    length_W = np.random.default_rng(0).integers(50, 400, 40)
    return Schedule(length_W, FinetuneSettings(epochs=epochs, batch_tokens=1000), 7, num_processes)


def test_steps_are_those_of_whole_epochs_and_a_share_of_the_last() -> None:
    per_epoch = [len(_schedule(1).batches(epoch)) for epoch in range(2)]
    assert _schedule(1).num_steps() == per_epoch[0]
    assert _schedule(1.5).num_steps() == per_epoch[0] + round(per_epoch[1] / 2)
    assert _schedule(0.001).num_steps() == 1


def test_steps_name_the_batches_of_each_process_and_the_validations() -> None:
    schedule = Schedule(
        np.full(5, 1000), FinetuneSettings(epochs=1.5, batch_tokens=1000, validations_per_epoch=1), 7, 2
    )
    steps = list(schedule.steps())
    assert [is_mark for _, is_mark in steps] == [False, False, True, False, True]  # after the epoch, and at the end
    assert [[len(batch) for batch in batches] for batches, _ in steps] == [[1, 1], [1, 1], [1, 0], [1, 1], [1, 1]]


@pytest.mark.parametrize(("step", "there", "here", "expected"), [
    (0, 2, 1, 0), (2, 2, 1, 4), (3, 2, 1, 5), (4, 2, 1, 7), (5, 1, 2, 3), (4, 1, 2, 2), (3, 1, 3, 1), (10, 1, 2, 6),
])  # fmt: skip
def test_step_of_other_processes_is_found_by_the_batches_done(step: int, there: int, here: int, expected: int) -> None:
    """Five batches an epoch, two epochs."""
    schedule = Schedule(np.full(5, 1000), FinetuneSettings(epochs=2, batch_tokens=1000), 7, here)
    assert schedule.step_after(step, there) == expected


def test_learning_rate_is_that_of_transformers() -> None:
    schedule = _schedule(1)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=schedule.settings.learning_rate)
    reference = get_cosine_schedule_with_warmup(optimizer, int(0.05 * 97), 97)
    found, expected = [], []
    for step in range(98):
        found.append(schedule.learning_rate(step, 97))
        expected.append(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()
    assert found == expected


@pytest.mark.parametrize("num_processes", [2, 3])
def test_processes_share_an_epoch_evenly_and_miss_no_window(num_processes: int) -> None:
    batches = _schedule(1, num_processes).batches(0)
    assert len(batches) % num_processes == 0
    assert sorted(np.concatenate(batches).tolist()) == list(range(40))  # none twice
    assert _schedule(1, num_processes).num_steps() == len(batches) // num_processes


@pytest.mark.slow
def test_accelerate_launch_runs_the_command_line(town: Town, prepared: Path) -> None:
    config = town("finetune.epochs=0.1")
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "1",
        "--num_machines",
        "1",
    ]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "whereupon.cli", "finetune", str(prepared)]
    command += ["--set", f"run={config.run}", "--set", "finetune.epochs=0.1"]
    result = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert current_adapter(config.run).is_dir()
    assert "finetune" in json.loads((config.run / "run.json").read_text())


def test_second_training_of_a_run_is_refused_while_one_is_under_way(town: Town) -> None:
    config = town(*SHORT)
    with only_training(config.run, True), pytest.raises(ModelError, match="Another training of"):
        finetune(config)
    assert finetune(config).name == "0001"


def test_worse_adapter_of_a_model_in_another_folder_does_not_replace_a_better_one(town: Town, tmp_path: Path) -> None:
    config = town(*SHORT)
    first = finetune(config)
    card = json.loads((first / "whereupon.json").read_text())
    card["validation"] = card["validation"] | {"nDCG@10": 2.0}
    (first / "whereupon.json").write_text(json.dumps(card))
    shutil.copytree(config.model.base, tmp_path / "moved")
    moved = config.model_copy(update={"model": config.model.model_copy(update={"base": str(tmp_path / "moved")})})
    assert finetune(moved).name == "0002"
    assert current_adapter(config.run) == first
