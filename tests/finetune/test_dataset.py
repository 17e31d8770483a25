"""Training examples on disk, and the loader that reads them."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal

import datasets
import numpy as np
import pytest
import torch

from whereupon.config import Config
from whereupon.decode.models import adapter_identity, build_encoder, load_tokenizer
from whereupon.finetune import FinetuneSettings, dataset
from whereupon.finetune.dataset import Examples, forget_others, interrupt_deferred, open_examples
from whereupon.finetune.training_examples import Batch, TrainingExample, collate, make_examples, training_windows
from whereupon.histories import Histories, read_histories
from whereupon.prompts import PromptEncoder

Town = Callable[..., Config]


def _read(config: Config) -> tuple[Histories, PromptEncoder, dict[str, Any]]:
    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)
    return histories, encoder, adapter_identity(config.model, encoder, tokenizer, histories.title_recipe)


def _open(config: Config, teach: Literal["once", "every_window"] = "every_window") -> Examples:
    histories, encoder, identity = _read(config)
    return open_examples(config.run, histories, encoder, identity, FinetuneSettings(teach=teach))


def _same(one: TrainingExample, other: TrainingExample) -> bool:
    names = ("tokens_L", "position_P", "node_P", "edge_P")
    equal = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)
    return equal and one.num_titles == other.num_titles


def _equal(one: Batch, other: Batch) -> bool:
    assert one.branches is not None
    assert other.branches is not None
    names = ("at_Y", "row_J", "column_J", "token_U", "taken_Y")
    branches = all(torch.equal(getattr(one.branches, name), getattr(other.branches, name)) for name in names)
    return torch.equal(one.tokens_RL, other.tokens_RL) and torch.equal(one.position_P, other.position_P) and branches


@pytest.fixture
def small(town: Town) -> Config:
    """Histories of several windows a person."""
    return town("prompts.budget_tokens=110")


def test_examples_read_from_disk_are_those_made_in_any_order(small: Config) -> None:
    histories, encoder, _ = _read(small)
    examples, found = list(make_examples(histories, encoder)), _open(small)
    order = np.random.default_rng(0).permutation(len(examples))
    assert all(_same(examples[i], one) for i, one in zip(order, found.read(order), strict=True))
    assert found.length_W.tolist() == [len(one.tokens_L) for one in examples]
    assert found.titles_W.tolist() == [one.num_titles for one in examples]
    assert found.decisions_W.tolist() == [len(one.position_P) for one in examples]


def test_examples_can_be_looked_at_with_datasets(small: Config) -> None:
    length_W = _open(small).length_W
    [folder] = (small.run / "examples").iterdir()
    seen = datasets.load_from_disk(str(folder))
    assert seen.column_names == [
        "tokens", "position", "node", "edge", "decision", "weight", "num_tokens", "num_decisions", "titles", "end",
    ]  # fmt: skip
    assert len(seen[0]["tokens"]) == seen[0]["num_tokens"] == length_W[0]


def test_examples_are_written_once_and_anew_where_they_are_damaged(
    small: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _open(small)
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "make_examples", lambda *_: pytest.fail("the examples are there"))
        assert np.array_equal(_open(small).length_W, first.length_W)
    [folder] = (small.run / "examples").iterdir()
    (folder / "state.json").write_text("{")
    assert np.array_equal(_open(small).length_W, first.length_W)


def test_examples_of_other_settings_lie_beside_until_a_training_removes_them(small: Config) -> None:
    _open(small)
    other = _open(small, teach="once")
    assert len(list((small.run / "examples").iterdir())) == 2
    forget_others(other)
    assert len(list((small.run / "examples").iterdir())) == 1
    assert len(_open(small, teach="once").read(np.arange(1))) == 1


def test_writer_that_fails_leaves_nothing(small: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> Any:
        yield from list(make_examples(*_read(small)[:2]))[:2]
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "make_examples", failing)
    with pytest.raises(KeyboardInterrupt):
        _open(small)
    assert list((small.run / "examples").iterdir()) == []


def test_event_is_taught_once_or_in_every_window_that_holds_it(small: Config) -> None:
    histories, encoder, _ = _read(small)
    _, windows = training_windows(histories, encoder)
    bounds = [(one.start, one.target, one.end) for one in windows]
    once, often = _open(small, teach="once"), _open(small, teach="every_window")
    num_events = int((histories.split_N == 0).sum())
    assert once.titles_W.tolist() == [end - target for _, target, end in bounds]
    assert often.titles_W.tolist() == [end - start for start, _, end in bounds]
    assert once.titles_W.sum() == num_events < often.titles_W.sum()
    assert np.array_equal(once.length_W, often.length_W), "what is not taught is still read"


def test_example_of_an_event_taught_once_is_its_part_of_the_whole_one(small: Config) -> None:
    histories, encoder, _ = _read(small)
    often, once = (
        list(make_examples(histories, encoder, settings=FinetuneSettings(teach=how)))
        for how in ("every_window", "once")
    )
    _, windows = training_windows(histories, encoder)
    for window, whole, part in zip(windows, often, once, strict=True):
        first = window.text.title_start_V[window.target - window.start] - 1
        kept_P = whole.position_P >= first
        assert sorted(whole.position_P[kept_P].tolist()) == sorted(part.position_P.tolist())


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_loader_gives_the_batches_in_their_order_and_takes_no_random_number(small: Config, workers: int) -> None:
    found = _open(small)
    batches = [np.array([2, 0]), np.array([1]), np.array([0, 1, 2])]
    before = torch.get_rng_state()
    read = list(found.stream(batches, workers, pinned=False))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(_equal(one, collate(found.read(b), found.trie)) for one, b in zip(read, batches, strict=True))


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Ctrl-C as a shell's foreground has it; a command that was started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_interrupt_of_a_fork_comes_after_it() -> None:
    def block() -> None:
        with interrupt_deferred():
            signal.raise_signal(signal.SIGINT)
            done.append("the whole block")

    handler, done = signal.getsignal(signal.SIGINT), list[str]()
    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["the whole block"]
    assert signal.getsignal(signal.SIGINT) is handler
    with interrupt_deferred():
        done.append("nothing came")
    assert len(done) == 2


def test_interrupt_is_not_deferred_in_another_thread() -> None:
    def block() -> None:
        with interrupt_deferred():
            done.append(signal.getsignal(signal.SIGINT))

    done, before = list[Any](), signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert done == [before]


@pytest.mark.slow
@pytest.mark.usefixtures("_interruptible")
def test_interrupt_reaches_no_process_that_reads_ahead(small: Config) -> None:
    stream = _open(small).stream([np.array([0]), np.array([1])], 1, pinned=False)
    [worker] = stream._workers  # type: ignore[attr-defined]
    signal.pidfd_send_signal(os.pidfd_open(worker.pid), signal.SIGINT)
    assert len(list(stream)) == 2
