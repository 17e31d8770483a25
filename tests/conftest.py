"""What all tests share: no network, no user's cache, no colours; a tiny model and a simulated town."""

import functools
import importlib.metadata
import itertools
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import settings

from whereupon import files
from whereupon.config import Config, load_config
from whereupon.errors import DataError
from whereupon.eval.protocol import Task, read_task
from whereupon.eval.settings import EvaluateSettings
from whereupon.histories import Histories, build_histories, prepare
from whereupon.histories.candidates import EvaluatedSplit, Repeats
from whereupon.tests.simulated_town import write_town

# `make test-quick` says --hypothesis-profile=quick. No deadlines: machines that run tests do other things too.
settings.register_profile("whole", settings(), deadline=None)
settings.register_profile("quick", settings(), deadline=None, max_examples=15)
settings.load_profile("whole")

# A test that uses one of these fixtures gets the marker.
MARKER_OF = {
    "vllm_imported": "vllm",
    "served_town": "vllm",
    "served_places": "vllm",
    "cluster": "postgres",
    "planted": "slow",  # trains two models until they know something
    "fake": "slow",  # starts the launcher
    "wheels": "slow",  # starts pip
    "browser": "slow",
}
COLLECTED = pytest.StashKey[list[pytest.Item]]()


@pytest.hookimpl(tryfirst=True)  # before pytest leaves tests out by their markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.stash[COLLECTED] = list(items)
    for item in items:
        assert isinstance(item, pytest.Function)
        used = set(item.fixturenames)
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else []
        if any(isinstance(value, str) and value == "postgres" for value in parameters):
            used.add("cluster")  # which is requested when the test runs
        for marker in {MARKER_OF[name] for name in used & MARKER_OF.keys()}:
            item.add_marker(marker)
        if "make_model" in used and "one_thread" not in used:
            item.fixturenames.insert(0, "one_thread")  # first, as models are made for the whole session


@pytest.fixture(autouse=True, scope="session")
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[Path]]:
    """New folders for caches, not made yet; the first is for fixtures that are made once, before those of a test.

    Git and the metadata of packages are read once: every artefact names its versions, which takes long altogether.
    """
    base = tmp_path_factory.mktemp("caches")
    folders = (base / str(number) for number in itertools.count())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHEREUPON_CACHE", str(next(folders)))
        patch.setattr(files, "_git", functools.cache(files._git))
        patch.setattr(importlib.metadata, "version", functools.cache(importlib.metadata.version))
        yield folders


@pytest.fixture(autouse=True)
def _apart_from_the_machine(monkeypatch: pytest.MonkeyPatch, _caches: Iterator[Path]) -> None:
    """Tests neither read the user's model cache nor ask the hub, whatever the shell has set."""
    monkeypatch.setenv("WHEREUPON_CACHE", str(next(_caches)))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def collected(pytestconfig: pytest.Config) -> list[pytest.Item]:
    """The tests of this run before any was left out by its markers."""
    return pytestconfig.stash[COLLECTED]


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


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Models as tiny as those of tests are slower on several threads, which also add up in another order.

    Every test that uses `make_model` has this fixture too.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", name="make_model")
def _make_model() -> Callable[..., Path]:
    """Save a tiny, randomly initialised Llama whose byte-level tokenizer knows the words of some texts, and `bos`."""

    def make_model(
        folder: Path, texts: Sequence[str], hidden: int = 32, seed: int = 0, head_dim: int | None = None,
        bos: str | None = None,
    ) -> Path:  # fmt: skip
        import torch
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
        from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=800, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        if bos:
            tokenizer.add_special_tokens([bos])
            tokenizer.post_processor = processors.TemplateProcessing(
                single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
            )
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos).save_pretrained(folder)
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=tokenizer.get_vocab_size(), hidden_size=hidden, intermediate_size=2 * hidden,
            num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=1024, initializer_range=0.1,
            tie_word_embeddings=True, bos_token_id=None, eos_token_id=None, head_dim=head_dim,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
        return folder

    return make_model


@pytest.fixture(scope="session")
def make_town(make_model: Callable[..., Path]) -> Callable[..., Path]:
    """See `write_town`."""
    return functools.partial(write_town, make_model)


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


ON_TOP = ("priors=[popularity, own counts, transitions]", "finetune.epochs=0.5")


@pytest.fixture(scope="session")
def trained_on_top(barely_trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the same town, with an adapter that was trained on top of rankers. Never changed."""
    from whereupon.finetune.train import finetune

    run = tmp_path_factory.mktemp("on-top") / "run"
    shutil.copytree(barely_trained.parent / "run" / "histories", run / "histories")
    finetune(load_config(barely_trained, [f"run={run}", *ON_TOP]))
    return run


@pytest.fixture
def on_top_copy(barely_trained: Path, trained_on_top: Path, tmp_path: Path) -> Callable[..., Config]:
    """The configuration of `trained_on_top` with a run folder of its own; arguments override settings."""

    def on_top_copy(*overrides: str) -> Config:
        config = load_config(barely_trained, [f"run={tmp_path / 'on-top'}", *ON_TOP, *overrides])
        if not config.run.exists():
            shutil.copytree(trained_on_top, config.run)
        return config

    return on_top_copy


# Toy histories, built from rows.

Row = tuple[int, int, int, str]  # user, item_idx, seconds since 1970 (local time = UTC), split
Build = Callable[[Sequence[Row], int], Histories]


@pytest.fixture(scope="session", name="build")
def _build() -> Build:
    """Histories of (user, item, time in seconds, split) rows and a number of items; equal times keep their order."""

    def build(rows: Sequence[Row], num_items: int) -> Histories:
        ordered = sorted(rows, key=lambda row: (row[0], row[2]))
        users = sorted({row[0] for row in rows})
        times = [datetime.fromtimestamp(row[2], UTC) for row in ordered]
        events = pl.DataFrame(
            {
                "user_id": [f"user-{row[0]}" for row in ordered],
                "item_id": [f"item-{row[1]}" for row in ordered],
                "user_idx": pl.Series([users.index(row[0]) for row in ordered], dtype=pl.Int32),
                "item_idx": pl.Series([row[1] for row in ordered], dtype=pl.Int32),
                "time": pl.Series(times, dtype=pl.Datetime("us", "UTC")),
                "local_time": pl.Series([time.replace(tzinfo=None) for time in times], dtype=pl.Datetime("us")),
                "split": pl.Series([row[3] for row in ordered], dtype=pl.String),
            }
        )
        manifest = {"location": "outcome", "data_hash": f"{rows} {num_items}", "catalogue_hash": str(num_items)}
        ids = [f"item-{i}" for i in range(num_items)]
        return build_histories(events, pl.DataFrame({"item_id": ids, "title": ids}), manifest)

    return build


A, B, C, D, E = range(5)
ANN, BOB, CYD, DAN = range(4)


@pytest.fixture
def town(build: Build) -> Histories:
    """Four people and five places A to E; none of them ever goes to E, and Dan has no past when the test begins.

    Train:  Ann A1 B2 A3   Bob B4 C5   Cyd A6 B7 C8      so A 3, B 3, C 2, D 0, E 0 visits
    Test:   Ann B20        Bob C21     Cyd D22           Dan C23 A24
    """
    train = [(ANN, A, 1), (ANN, B, 2), (ANN, A, 3), (BOB, B, 4), (BOB, C, 5), (CYD, A, 6), (CYD, B, 7), (CYD, C, 8)]
    test = [(ANN, B, 20), (BOB, C, 21), (CYD, D, 22), (DAN, C, 23), (DAN, A, 24)]
    return build([*((*row, "train") for row in train), *((*row, "test") for row in test)], 5)


MakeHistories = Callable[..., Histories]
AIRPORTS = {"EWR": (40.69, -74.17), "JFK": (40.64, -73.78)}


@pytest.fixture(scope="session")
def make_histories() -> MakeHistories:
    """Histories of dictionaries, one an event: `user`, `at` (local ISO time, UTC-5), `item`, and further columns.

    An `origin` puts the event at that airport.
    """

    def make_histories(rows: Sequence[dict[str, Any]], num_items: int = 3, location: str = "context") -> Histories:
        rows = sorted(rows, key=lambda row: (row["user"], row["at"]))
        users = sorted({row["user"] for row in rows})
        local = [datetime.fromisoformat(row["at"]) for row in rows]
        further = list(dict.fromkeys(name for row in rows for name in row if name not in ("user", "at", "item")))
        places = [AIRPORTS.get(row.get("origin", ""), (None, None)) for row in rows]
        events = pl.DataFrame(
            {
                "user_id": [row["user"] for row in rows],
                "item_id": [f"i{row['item']}" for row in rows],
                "user_idx": pl.Series([users.index(row["user"]) for row in rows], dtype=pl.Int32),
                "item_idx": pl.Series([row["item"] for row in rows], dtype=pl.Int32),
                "time": pl.Series(
                    [t.replace(tzinfo=UTC) + timedelta(hours=5) for t in local], dtype=pl.Datetime("us", "UTC")
                ),
                "local_time": pl.Series(local, dtype=pl.Datetime("us")),
                "split": ["train"] * len(rows),
                "latitude": pl.Series([place[0] for place in places], dtype=pl.Float64),
                "longitude": pl.Series([place[1] for place in places], dtype=pl.Float64),
                **{name: [row.get(name) for row in rows] for name in further},
            }
        )
        items = pl.DataFrame(
            {"item_id": [f"i{i}" for i in range(num_items)], "title": [f"Town {i}" for i in range(num_items)]}
        )
        context = [name for name in further if name in ("origin", "carrier")]
        return build_histories(events, items, {"location": location, "context_columns": context})

    return make_histories


Tick = tuple[int, int, int]  # user, item_idx, time in ticks of seven hours


@pytest.fixture(scope="session")
def with_splits() -> Callable[[Sequence[Tick]], list[Row]]:
    """Rows of events at ticks of seven hours, split by time, so that equal times fall into the same split."""

    def with_splits(ticks: Sequence[Tick]) -> list[Row]:
        return [
            (user, item, tick * 7 * 3600, "train" if tick < 12 else "valid" if tick < 18 else "test")
            for user, item, tick in sorted(ticks, key=lambda event: event[2])
        ]

    return with_splits


@pytest.fixture(scope="session")
def tasks() -> Callable[..., list[Task]]:
    """The tasks of both splits, as far as they have events."""

    def tasks(histories: Histories, repeats: Repeats = "allowed") -> list[Task]:
        found = []
        splits: tuple[EvaluatedSplit, ...] = ("valid", "test")
        for split in splits:
            try:
                found.append(read_task(histories, split, EvaluateSettings(repeats=repeats)))
            except DataError:
                continue
        return found

    return tasks
