"""The logits processor inside vLLM's engine, called as its two model runners call it, and the files that it writes."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from whereupon.decode.edge_logits import NAME, PROCESSOR, EdgeFiles, EdgesWanted
from whereupon.errors import ModelError

LOGITS = np.arange(12, dtype=np.float32).reshape(2, 6) / 8


@pytest.fixture
def files() -> Iterator[EdgeFiles]:
    files = EdgeFiles()
    yield files
    assert list(files.folder.iterdir()) == [], "a request leaves no file"


@pytest.fixture
def processor(vllm_imported: None) -> Any:
    from vllm.utils.import_utils import resolve_obj_by_qualname

    return resolve_obj_by_qualname(PROCESSOR.replace(":", "."))(None, None)


def params(extra_args: dict[str, Any] | None) -> Any:
    from vllm import SamplingParams

    return SamplingParams(max_tokens=1, temperature=0.0, extra_args=extra_args)


def tokens(*ids: int) -> Any:
    return np.array(ids, np.int32)


def test_first_runner_writes_edges_of_the_row_that_a_request_was_moved_to(processor: Any, files: EdgeFiles) -> None:
    import torch
    from vllm.v1.sample.logits_processor.interface import BatchUpdate, MoveDirectionality

    with files.wanted(tokens(4, 1)) as (wanted, file), files.wanted(tokens(0, 2, 5)) as (other, other_file):
        each = (other.extra_args, None, wanted.extra_args)
        added = [(row, params(extra_args), None, []) for row, extra_args in enumerate(each)]
        processor.update_state(BatchUpdate(3, removed=[], added=added, moved=[]))
        moved = [(2, 1, MoveDirectionality.UNIDIRECTIONAL)]
        processor.update_state(BatchUpdate(2, removed=[], added=[], moved=moved))
        logits = torch.from_numpy(LOGITS)
        assert processor.apply(logits) is logits
        assert logits.tolist() == LOGITS.tolist()
        assert file.read().tolist() == LOGITS[1, [4, 1]].tolist()
        assert other_file.read().tolist() == LOGITS[0, [0, 2, 5]].tolist()
    assert not processor.is_argmax_invariant(), "else greedy requests would pass it by"


def test_second_runner_writes_edges_of_the_slot_that_a_row_belongs_to(processor: Any, files: EdgeFiles) -> None:
    import torch

    with files.wanted(tokens(3)) as (wanted, file), files.wanted(tokens(5, 0)) as (late, late_file):
        assert processor.add_request(7, params(wanted.extra_args))
        assert not processor.add_request(2, params(None))
        context = SimpleNamespace(idx_mapping_np=np.array([2, 7]))
        processor.apply(torch.from_numpy(LOGITS).bfloat16(), context)
        assert file.read().tolist() == [LOGITS[1, 3]]
        assert processor.add_request(7, params(late.extra_args)), "a slot is used again"
        processor.apply(torch.from_numpy(LOGITS), context)
        assert late_file.read().tolist() == LOGITS[1, [5, 0]].tolist()
        assert file.read().tolist() == [LOGITS[1, 3]]


def test_request_without_edges_costs_nothing_and_no_body_can_name_a_file(processor: Any, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"as it was")
    sent = {NAME: [str(victim), "\x01\x00\x00\x00"]}  # what JSON can hold
    assert EdgesWanted.of(params(sent)) is None
    assert not processor.add_request(0, params(sent))
    processor.apply(None, SimpleNamespace(idx_mapping_np=np.array([0])))
    assert victim.read_bytes() == b"as it was"


def test_last_logits_of_a_prompt_read_in_parts_count(files: EdgeFiles) -> None:
    with files.wanted(tokens(1, 2)) as (wanted, file):
        for row_J in LOGITS[:, 1:3]:
            wanted.write(row_J)
        assert file.read().tolist() == LOGITS[1, 1:3].tolist()


def test_logits_that_come_too_late_are_written_nowhere(files: EdgeFiles) -> None:
    with files.wanted(tokens(1)) as (wanted, _):
        pass
    wanted.write(LOGITS[0, :1])
    assert not os.path.exists(wanted.path)


@pytest.mark.parametrize("written", [None, LOGITS[0, :1], np.array([0.5, np.nan], np.float32)])
def test_scores_that_are_missing_or_no_numbers_are_an_error_with_advice(files: EdgeFiles, written: Any) -> None:
    with files.wanted(tokens(1, 2)) as (wanted, file):
        if written is not None:
            wanted.write(written)
        with pytest.raises(ModelError, match="whereupon serve"):
            file.read()


def test_folder_of_files_is_for_this_user_alone_and_goes_with_its_owner() -> None:
    files = EdgeFiles()
    folder = files.folder
    assert folder.stat().st_mode & 0o077 == 0
    del files
    gc.collect()
    assert not folder.exists()
