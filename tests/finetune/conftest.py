"""A toy catalogue, and a tiny town that is ready to be trained on."""

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from whereupon.catalogue import Catalogue, Encode
from whereupon.config import Config, load_config
from whereupon.histories import prepare

Town = Callable[..., Config]


@pytest.fixture(scope="session")
def places(make_words: Callable[[], Encode]) -> Catalogue:
    """Five titles whose trie branches at the top and after " Bar" and " Bar One" (words are tokens).

    Tokens: Bar 0, One 1, line end 2, Two 3, Park 4, Old 5, Cinema 6.
    """
    titles = ["Bar One", "Bar Two", "Park", "Old Cinema", "Bar One Two"]
    return Catalogue.build(pl.DataFrame({"item_id": [f"i{i}" for i in range(5)], "title": titles}), make_words())


@pytest.fixture(scope="session", name="prepared")
def _prepared(make_town: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a tiny town whose histories are prepared."""
    path = make_town(tmp_path_factory.mktemp("town"), people=6, days=12)
    config = load_config(path)
    prepare(config.histories, config.catalogue, config.run, config.seed)
    return path


@pytest.fixture(scope="session")
def deep_model(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The town's model with four layers, none of which is without effect."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

    base, folder = load_config(prepared).model.base, tmp_path_factory.mktemp("deep")
    settings = AutoConfig.from_pretrained(base)
    settings.num_hidden_layers = 4
    settings.layer_types = None
    settings.initializer_range = 0.3
    torch.manual_seed(1)
    LlamaForCausalLM(settings).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.fixture
def town(prepared: Path, tmp_path: Path) -> Town:
    """The town's configuration with a fresh run folder; arguments override settings."""

    def town(*overrides: str, run: str = "run") -> Config:
        config = load_config(prepared, [f"run={tmp_path / run}", *overrides])
        if not config.run.exists():
            shutil.copytree(prepared.parent / "run" / "histories", config.run / "histories")
        return config

    return town
