"""Writing many snapshots takes seconds, not minutes."""

import os

import pytest

from whereupon.catalogue import snapshots


@pytest.fixture
def quick_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking git and flushing the disk take longer than writing a small catalogue, and here many are written."""
    monkeypatch.setattr(snapshots, "versions", lambda: {"whereupon": "test"})
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
