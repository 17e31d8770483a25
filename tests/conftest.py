"""What all tests share: no network, no user's cache, no colours."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _apart_from_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests neither read the user's model cache nor ask the hub, whatever the shell has set."""
    monkeypatch.setenv("WHEREUPON_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def root() -> Path:
    """The repository root, which is the package."""
    return Path(__file__).resolve().parents[1]
