"""What all tests share: no network, no user's cache, no colours; a tiny model and a simulated town."""

import itertools
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from whereupon.config import Config, load_config
from whereupon.histories import prepare


@pytest.fixture(autouse=True, scope="session")
def _cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For fixtures that are made once: they come before those of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHEREUPON_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


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


class Words:
    """A tokenizer of whole words that remembers every word; a line's end is a token of its own."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        return [[self.ids.setdefault(w, len(self.ids)) for w in re.findall(r"\n| ?[^\s:]+|:", t)] for t in texts]

    def text(self, ids: Sequence[int]) -> str:
        words = list(self.ids)
        return "".join(words[i] for i in ids)


@pytest.fixture(scope="session")
def make_words() -> Callable[[], Words]:
    """A toy tokenizer that has not seen a word yet."""
    return Words


@pytest.fixture(scope="session")
def one_thread() -> None:
    """For all later tests too: in models as tiny as theirs, threads do nothing but wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", name="make_model")
def _make_model(one_thread: None) -> Callable[..., Path]:
    """Save a tiny, randomly initialised Llama whose byte-level tokenizer knows the words of some texts."""

    def make_model(
        folder: Path, texts: Sequence[str], hidden: int = 32, seed: int = 0, head_dim: int | None = None
    ) -> Path:
        import torch
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
        from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=800, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=tokenizer.get_vocab_size(), hidden_size=hidden, intermediate_size=2 * hidden,
            num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=1024, initializer_range=0.1,
            tie_word_embeddings=True, bos_token_id=None, eos_token_id=None, head_dim=head_dim,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
        return folder

    return make_model


@pytest.fixture(scope="session", name="make_town")
def _make_town(make_model: Callable[..., Path]) -> Callable[..., Path]:
    """Simulate a town and write its tables, a tiny model and a configuration; gives the configuration's path.

    Rain and shine change from hour to hour. Every day each person goes out at some hour, to the cinema if it rains and
    to the park if it shines, and sometimes to any bar at night. With `shuffled`, the weather table has the same rain at
    other hours.
    """

    def make_town(
        folder: Path, people: int = 6, days: int = 12, hidden: int = 32, shuffled: bool = False,
        head_dim: int | None = None,
    ) -> Path:  # fmt: skip
        random = np.random.default_rng(5)
        start = datetime(2024, 1, 1)
        rains = random.random(24 * days) < 0.5
        visits = ["user_id,item_id,time"]
        for person, day in itertools.product(range(people), range(days)):
            hour = 24 * day + int(random.integers(9, 18))
            time = start + timedelta(hours=hour, minutes=int(random.integers(1, 60)))
            visits.append(f"p{person:02},{'cinema' if rains[hour] else 'park'},{time.isoformat()}Z")
            if random.random() < 0.25:
                late = start + timedelta(days=day, hours=22, minutes=int(random.integers(1, 60)))
                visits.append(f"p{person:02},bar{random.integers(1, 4)},{late.isoformat()}Z")
        told = random.permutation(rains) if shuffled else rains
        weather = [f"{start + timedelta(hours=hour)}Z,18,{4 if rain else 0}" for hour, rain in enumerate(told)]
        titles = {
            "cinema": "Old Cinema",
            "park": "City Park",
            "bar1": "Bar One",
            "bar2": "Bar Two",
            "bar3": "Bar Three",
        }
        tables = {
            "events": visits,
            "items": ["item_id,title", *(f"{item},{title}" for item, title in titles.items())],
            "weather": ["time,temperature_c,precipitation_mm", *weather],
        }
        folder.mkdir(parents=True, exist_ok=True)
        for name, lines in tables.items():
            (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        weekdays = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
        words = "morning afternoon evening night mild rain weekdays weekends any day"
        lines = [f"{weekday} {words}: {title}\n" for weekday in weekdays for title in titles.values()]
        make_model(folder / "model", [*lines, "What one person chose, oldest first.\n"] * 3, hidden, head_dim=head_dim)
        config = folder / "town.yaml"
        config.write_text(TOWN.replace("${HERE}", str(folder)), encoding="utf-8")
        return config

    return make_town


@pytest.fixture(scope="session")
def barely_trained(make_town: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny town and an adapter that has hardly learnt anything: its configuration. Never changed: see `town_copy`."""
    from whereupon.finetune.train import finetune  # here, as it loads torch

    path = make_town(tmp_path_factory.mktemp("town"), people=4, days=12, head_dim=32)  # 32: vLLM has none smaller
    config = load_config(path, ["finetune.epochs=0.1"])
    prepare(config.histories, config.catalogue, config.run, config.seed)
    finetune(config)
    return path


@pytest.fixture
def town_copy(barely_trained: Path, tmp_path: Path) -> Callable[..., Config]:
    """The configuration of `barely_trained` with a run folder of its own; arguments override settings."""

    def town_copy(*overrides: str) -> Config:
        config = load_config(barely_trained, [f"run={tmp_path / 'run'}", *overrides])
        if not config.run.exists():
            shutil.copytree(barely_trained.parent / "run", config.run)
        return config

    return town_copy


TOWN = """
run: run
histories:
  events: {path: events.csv}
  items: {path: items.csv}
  weather: {path: weather.csv, latitude: 52.5, longitude: 13.4}
  time_zone: UTC
model: {base: ${HERE}/model, device: cpu}
prompts: {budget_tokens: 160, profile_tokens: 24}
finetune:
  {epochs: 4, learning_rate: 5.0e-3, batch_tokens: 1024, rank: 16, mixed_precision: "no", validations_per_epoch: 1}
"""
