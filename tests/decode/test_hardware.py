"""One device and one number format for training, evaluation and serving."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from whereupon.decode.hardware import Device, choose_device, has_native_bf16, resolve_dtype
from whereupon.decode.settings import ModelSettings
from whereupon.serve.launcher.command import served_dtype


@pytest.fixture(name="gpu")
def _gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend that there is a GPU of some compute capability."""

    def gpu(major: int) -> None:
        class Properties:
            pass

        Properties.major = major  # type: ignore[attr-defined]
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)

    return gpu


@pytest.mark.parametrize(("major", "expected"), [(7, "float32"), (8, "bfloat16"), (9, "bfloat16")])
def test_auto_on_a_gpu_is_bfloat16_only_where_it_is_native(gpu: Any, major: int, expected: str) -> None:
    gpu(major)
    assert resolve_dtype(ModelSettings()) == resolve_dtype(ModelSettings(), "cuda") == expected
    assert served_dtype(ModelSettings(), "cuda") == expected


def test_auto_on_a_cpu_is_float32_even_where_bfloat16_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert resolve_dtype(ModelSettings(device="cpu")) == served_dtype(ModelSettings(), "cpu") == "float32"


def test_number_format_that_was_set_stands(gpu: Any) -> None:
    gpu(7)
    devices: tuple[Device, ...] = ("cpu", "cuda")
    assert [resolve_dtype(ModelSettings(dtype="bfloat16"), device) for device in devices] == ["bfloat16"] * 2


@pytest.mark.parametrize(
    ("capabilities", "native"),
    [({"avx512_bf16": True}, True), ({"avx512_bf16": False, "amx_bf16": True}, True), ({"bf16": True}, True),
     ({"avx2": True, "avx512_bf16": False}, False), ({}, False)],
)  # fmt: skip
def test_cpu_multiplies_bf16_where_its_flags_say_so(
    monkeypatch: pytest.MonkeyPatch, capabilities: Mapping[str, bool], native: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert has_native_bf16("cpu") is native
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not has_native_bf16("cpu"), "no library uses them"


def test_apples_gpu_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(ModelSettings()).type == "cpu"
