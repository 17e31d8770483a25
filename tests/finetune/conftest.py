"""A toy catalogue, and a tiny town that is ready to be trained on."""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch

from whereupon.catalogue import Catalogue
from whereupon.config import Config, load_config
from whereupon.histories import prepare

Town = Callable[..., Config]


class Words:
    """A tokenizer of whole words that remembers every word; a line's end is a token of its own."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        return [[self.ids.setdefault(w, len(self.ids)) for w in re.findall(r"\n| ?[^\s:]+|:", t)] for t in texts]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def places() -> Catalogue:
    """Five titles whose trie branches at the top and after " Bar" and " Bar One" (words are tokens).

    Tokens: Bar 0, One 1, line end 2, Two 3, Park 4, Old 5, Cinema 6.
    """
    titles = ["Bar One", "Bar Two", "Park", "Old Cinema", "Bar One Two"]
    return Catalogue.build([f"i{i}" for i in range(5)], titles, Words())


@pytest.fixture(scope="session", name="prepared")
def _prepared(make_town: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a tiny town whose histories are prepared."""
    path = make_town(tmp_path_factory.mktemp("town"), people=6, days=12)
    config = load_config(path)
    prepare(config.histories, config.catalogue, config.run, config.seed)
    return path


@pytest.fixture
def town(prepared: Path, tmp_path: Path) -> Town:
    """The town's configuration with a fresh run folder; arguments override settings."""

    def town(*overrides: str, run: str = "run") -> Config:
        config = load_config(prepared, [f"run={tmp_path / run}", *overrides])
        if not config.run.exists():
            shutil.copytree(prepared.parent / "run" / "histories", config.run / "histories")
        return config

    return town
