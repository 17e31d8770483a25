"""Training by two processes, started as a user does, and trainings that are killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from whereupon.config import Config
from whereupon.decode.adapters import adapter_versions, current_adapter
from whereupon.decode.models import build_encoder, load_tokenizer
from whereupon.errors import ModelError
from whereupon.finetune.schedule import Schedule
from whereupon.finetune.train import finetune
from whereupon.finetune.training_examples import make_examples
from whereupon.histories import read_histories

Town = Callable[..., Config]
SCRIPT = Path(__file__).with_name("recorded_training.py")
FILE = Path(__file__).resolve().parents[2] / "examples" / "accelerate" / "cpu.yaml"
SETTINGS = ("finetune.epochs=2", "finetune.batch_tokens=350", "finetune.validations_per_epoch=1",
            "finetune.log_every=1")  # fmt: skip


def _train(prepared: Path, config: Config, *overrides: str, processes: int = 1, **asked: Any) -> Any:
    """Train in other processes; the finished process."""
    losses = config.run / "losses.json"
    sets = [f"run={config.run}", *SETTINGS, *overrides]
    words = json.dumps({"config": str(prepared), "overrides": sets, "losses": str(losses), **asked})
    command = [sys.executable, str(SCRIPT), words]
    if processes > 1:  # by the file that is shipped, as `accelerate launch --cpu` starts one process only
        launch = ["-m", "accelerate.commands.launch", "--config_file", str(FILE), "--num_processes", str(processes)]
        command = [sys.executable, *launch, str(SCRIPT), words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=1500)


def _losses(config: Config) -> list[float]:
    found: list[float] = json.loads((config.run / "losses.json").read_text())
    return found


def _log(config: Config) -> list[dict[str, float]]:
    lines = (current_adapter(config.run) / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_two_processes_learn_in_fifty_steps_what_one_learns_from_their_batches_together(
    town: Town, prepared: Path
) -> None:
    more = ("finetune.epochs=30", "finetune.validations_per_epoch=0")
    two, one = town(*SETTINGS, *more, run="two"), town(*SETTINGS, *more, run="one")
    histories = read_histories(two.run)
    encoder = build_encoder(
        histories.items, histories.events, histories.location, two.prompts, load_tokenizer(two.model)
    )
    examples = list(make_examples(histories, encoder))
    schedule = Schedule(np.array([len(x.tokens_L) for x in examples]), two.finetune, two.seed, 2)
    titles = [[sum(examples[i].num_titles for i in b) for b in step] for step, _ in schedule.steps()]
    assert len(titles) >= 50
    assert sum(a != b for a, b in titles) > 10
    assert any(0 in step for step in titles), "one process is left without a batch"

    result = _train(prepared, two, *more, processes=2)
    assert result.returncode == 0, result.stderr
    result = _train(prepared, one, *more, together=True)
    assert result.returncode == 0, result.stderr
    assert len(_losses(two)) == len(titles)
    assert _losses(two)[-1] < 0.8 * _losses(two)[0], "it learns, so that steps depend on those before"
    assert _losses(two) == pytest.approx(_losses(one), abs=1e-5)
    assert [entry["step"] for entry in _log(two)] == [entry["step"] for entry in _log(one)]
    for mine, theirs in zip(_log(two), _log(one), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)


PREFERENCE = "finetune.preference={events: 40, negatives: 3, orders: 4}"
STAGES: dict[str, tuple[str, ...]] = {
    "learnt temperature": ("finetune.temperature=learnt",),
    "softmax_dpo": ("finetune.objective=softmax_dpo", PREFERENCE),
    "policy_gradient": ("finetune.objective=policy_gradient", PREFERENCE),
    "student": (),
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_stage_is_shared_by_two_processes_spread_over_them_and_resumed(
    town: Town, prepared: Path, deep_model: Path, stage: str
) -> None:
    """All as one process does it, FSDP2 (over gloo) included; the student's is killed inside a validation once."""
    more = [f"model.base={deep_model}", "finetune.rank=4", "finetune.epochs=4", "finetune.validation_events=8"]
    first = ""
    if stage != "learnt temperature":
        first = str(finetune(town(*SETTINGS, *more, "finetune.epochs=1", run="first")))
    runs = {name: town(*SETTINGS, *more, *STAGES[stage], run=name) for name in ("one", "two", "spread")}

    def folder(name: str) -> Path:
        return runs[name].run.with_name(f"{name}-student") if stage == "student" else runs[name].run

    def trained(name: str, **how: Any) -> Any:
        student: dict[str, Any] = {"student": {"layers": 2, "run": str(folder(name))}} if stage == "student" else {}
        return _train(prepared, runs[name], *more, *STAGES[stage], start=first or None, **student, **how)

    ways: dict[str, dict[str, Any]] = {"one": {"together": True}, "two": {"processes": 2}}
    for name, how in ways.items():
        result = trained(name, **how)
        assert result.returncode == 0, result.stderr
    assert len(_losses(runs["one"])) > 4
    assert _losses(runs["two"]) == pytest.approx(_losses(runs["one"]), abs=1e-5)
    if stage != "student":  # one kill is enough: what resumes is the same for all
        result = trained("spread", processes=2, sharded=True)
        assert result.returncode == 0, result.stderr
        assert _losses(runs["spread"]) == pytest.approx(_losses(runs["one"]), abs=1e-5)
        return
    log = (current_adapter(folder("two")) / "log.jsonl").read_text().splitlines()
    at = next(step for line in log if (step := int(json.loads(line)["step"])))
    assert trained("spread", processes=2, sharded=True, kill="inside", at=at).returncode != 0
    result = trained("spread", processes=2, sharded=True)
    assert result.returncode == 0, result.stderr
    assert f"resuming at step {at}" in result.stderr
    assert _losses(runs["spread"]) == pytest.approx(_losses(runs["one"])[at:], abs=1e-5)


def _weights(config: Config) -> dict[str, torch.Tensor]:
    return dict(load_file(current_adapter(config.run) / "adapter_model.safetensors"))


@pytest.mark.slow
def test_training_that_is_killed_around_any_validation_ends_as_an_unbroken_one(town: Town, prepared: Path) -> None:
    more = ("finetune.dropout=0.2",)
    whole, cut = town(*SETTINGS, *more, run="whole"), town(*SETTINGS, *more, run="cut")
    assert _train(prepared, whole, *more).returncode == 0
    first, last = [int(entry["step"]) for entry in _log(whole)]
    for at, when in ((first, "before"), (first, "inside"), (last, "inside"), (last, "unwritten"), (last, "after")):
        result = _train(prepared, cut, *more, kill=when, at=at)
        assert result.returncode == -signal.SIGKILL, (when, at, result.stderr)
        [version] = adapter_versions(cut.run)
        assert not version.complete
        with pytest.raises(ModelError, match="unfinished"):
            current_adapter(cut.run)
    assert _train(prepared, cut, *more).returncode == 0
    assert _log(cut) == _log(whole)
    assert all(torch.equal(weight, _weights(cut)[name]) for name, weight in _weights(whole).items())


@pytest.mark.slow
def test_two_processes_draw_dropout_of_their_own_and_resume_it(town: Town, prepared: Path) -> None:
    more = ("finetune.dropout=0.3",)
    whole, cut = town(*SETTINGS, *more, run="whole"), town(*SETTINGS, *more, run="cut")
    assert _train(prepared, whole, *more, processes=2).returncode == 0
    middle = int(_log(whole)[0]["step"])
    assert _train(prepared, cut, *more, processes=2, kill="inside", at=middle).returncode != 0
    state = torch.load(cut.run / "adapters" / "0001" / "checkpoint.pt", weights_only=True)
    first, second = (rng["cpu"] for rng in state["rngs"])
    assert not torch.equal(first, second)
    assert _train(prepared, cut, *more, processes=2).returncode == 0
    assert all(torch.equal(weight, _weights(cut)[name]) for name, weight in _weights(whole).items())


@pytest.mark.slow
def test_resuming_by_fewer_processes_says_what_changes(town: Town, prepared: Path) -> None:
    config = town(*SETTINGS)
    assert _train(prepared, config, processes=2, kill="after", at=2).returncode != 0
    result = _train(prepared, config)
    assert result.returncode == 0
    said = " ".join(result.stderr.split())
    assert "written by 2 processes, now there are 1: its step 2 is step 3 of 6 here" in said
    assert "learning rates and dropout change" in said
    assert [int(entry["step"]) for entry in _log(config)] == [2, 6]


@pytest.mark.slow
def test_weights_spread_by_fsdp_are_trained_kept_and_resumed(town: Town, prepared: Path) -> None:
    """FSDP2 over gloo, which accelerate itself offers for GPUs only."""
    more = ("finetune.accumulate=2", "finetune.batch_tokens=200")
    whole, cut, copies = (town(*SETTINGS, *more, run=name) for name in ("whole", "cut", "copies"))
    result = _train(prepared, whole, *more, processes=2, sharded=True)
    assert result.returncode == 0, result.stderr
    assert _train(prepared, copies, *more, processes=2).returncode == 0
    assert _losses(whole) == pytest.approx(_losses(copies), abs=1e-5)
    for mine, theirs in zip(_log(whole), _log(copies), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)
    first = int(_log(whole)[0]["step"])
    assert _train(prepared, cut, *more, processes=2, sharded=True, kill="inside", at=first).returncode != 0
    result = _train(prepared, cut, *more, processes=2, sharded=True)
    assert result.returncode == 0, result.stderr
    assert f"resuming at step {first}" in result.stderr
    assert all(torch.equal(weight, _weights(cut)[name]) for name, weight in _weights(whole).items())
