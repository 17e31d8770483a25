"""The catalogue of a run under several editors: nothing is lost, no editor waits in silence, and versions are whole."""

import asyncio
import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from whereupon import files
from whereupon.catalogue import Catalogue, encode_titles
from whereupon.config import Config
from whereupon.decode.models import build_encoder, load_tokenizer
from whereupon.errors import CatalogueError
from whereupon.histories import read_histories
from whereupon.rankers.blend import Blend
from whereupon.rankers.pooling import Pools
from whereupon.recommend import catalogue_verbs
from whereupon.recommend.saved_catalogue import SavedCatalogue, catalogue_folder
from whereupon.recommend.versions import Catalogues

NUM_EDITS = 15


@pytest.fixture
def town(town_copy: Callable[..., Config]) -> Config:
    return town_copy()


def saved_of(config: Config) -> SavedCatalogue:
    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    folder = catalogue_folder(config.run)
    return SavedCatalogue(folder, histories, tokenizer, lambda: Catalogue.build(histories.items, tokenizer))


def catalogues_of(config: Config) -> Catalogues:
    histories, tokenizer = read_histories(config.run), load_tokenizer(config.model)
    encoder = build_encoder(histories.items, histories.events, histories.location, config.prompts, tokenizer)
    return Catalogues(config, histories, tokenizer, encoder, Blend(Pools()))


def items_of(*item_ids: str, **columns: Any) -> pl.DataFrame:
    return pl.DataFrame({"item_id": item_ids, "title": [f"Hall {name}" for name in item_ids], **columns})


EDITOR = """
import sys
from pathlib import Path
from whereupon.config import Config
from whereupon.tests.recommend.test_versions import items_of, saved_of

saved, name, times = saved_of(Config.model_validate_json(Path(sys.argv[1]).read_text())), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(times):
    saved.add(items_of(f"{name}{number}"))
"""


def editor(config: Config, folder: Path, name: str, times: int) -> subprocess.Popen[str]:
    """Another process that adds items, one at a time, from when it is sent a line."""
    (folder / "config.json").write_text(config.model_dump_json())
    process = subprocess.Popen(
        [sys.executable, "-c", EDITOR, str(folder / "config.json"), name, str(times)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.slow
def test_two_processes_that_edit_at_once_lose_nothing(town: Config, tmp_path: Path) -> None:
    editors = [editor(town, tmp_path, name, NUM_EDITS) for name in ("a", "b")]
    for process in editors:
        start(process)
    for process in editors:
        said = process.communicate(timeout=120)[1].splitlines()
        assert [line for line in said if not line.startswith("waiting for another process")] == []  # on a slow machine
        assert process.returncode == 0
    name, catalogue = saved_of(town).read()
    assert name == f"v{2 * NUM_EDITS:06}"
    added = {f"{name}{number}" for name in ("a", "b") for number in range(NUM_EDITS)}
    assert added < set(catalogue.item_ids)
    assert catalogue.items.height == 5 + 2 * NUM_EDITS


def test_editor_that_waits_says_so_and_goes_on_once_the_other_is_killed(
    town: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "PATIENCE_S", 0.1)
    catalogue_folder(town.run).mkdir()
    code = (
        "import fcntl, sys, time; lock = open(sys.argv[1], 'ab'); fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('held', flush=True); time.sleep(600)"
    )
    lock = catalogue_folder(town.run) / "lock"
    holder = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"

    async def edit_beside_a_clock() -> int:
        catalogues, ticks = catalogues_of(town), 0
        edit = asyncio.create_task(catalogues.edited(lambda saved: saved.add(items_of("x"))))
        for _ in range(30):
            await asyncio.sleep(0.01)
            ticks += not edit.done()
        assert (await catalogues.fresh()).name == "histories", "requests are answered meanwhile"
        holder.send_signal(signal.SIGKILL)
        assert (await asyncio.wait_for(edit, 30)).items["item_id"].to_list()[-1] == "x"
        return ticks

    assert asyncio.run(edit_beside_a_clock()) == 30
    holder.wait()
    holder.stdout.close()
    assert f"waiting for another process that changes {lock.parent}" in capsys.readouterr().err


@pytest.mark.slow
def test_reset_waits_for_an_editor_and_leaves_the_lock(town: Config, tmp_path: Path) -> None:
    saved = saved_of(town)
    saved.add(items_of("x"))
    lock = saved.folder / "lock"
    inode = lock.stat().st_ino
    with lock.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (tmp_path / "config.json").write_text(town.model_dump_json())
        code = (
            "import sys; from pathlib import Path; from whereupon.config import Config\n"
            "from whereupon.recommend.catalogue_verbs import reset\n"
            "print('ready', flush=True); reset(Config.model_validate_json(Path(sys.argv[1]).read_text()))"
        )
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "config.json")], stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        time.sleep(0.5)
        assert other.poll() is None
        assert saved.read()[1].items.height == 6
    assert other.communicate(timeout=60)[0] == "5 items, those of the histories\n"
    assert [path.name for path in saved.folder.iterdir()] == ["lock"]
    assert lock.stat().st_ino == inode, "whoever waits for the lock and whoever comes later hold the same file"
    assert saved.read()[0] == "histories"
    assert saved.add(items_of("y")).num_before == 5


def test_edit_of_another_process_is_noticed(town: Config) -> None:
    catalogues = catalogues_of(town)
    before = catalogues.current
    saved_of(town).add(items_of("x"))
    after = catalogues.refresh()
    assert (before.name, after.name) == ("histories", "v000001")
    assert before.items.height == 5, "a version never changes"
    catalogue_verbs.reset(town)
    assert catalogues.refresh().name == "histories"


def test_version_that_cannot_be_read_is_said_once_and_the_one_before_stays(
    town: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogues = catalogues_of(town)
    saved_of(town).add(items_of("x"))
    (catalogue_folder(town.run) / "v000001" / "items.arrow").write_bytes(b"x")
    assert catalogues.refresh() is catalogues.refresh()
    assert catalogues.current.name == "histories"
    assert capsys.readouterr().err.count("is damaged") == 1
    with pytest.raises(CatalogueError, match="is damaged"):
        catalogues.edit(lambda saved: saved.remove(["x"]))


def test_prompts_count_items_of_the_histories_first_and_added_ones_behind(town: Config) -> None:
    catalogues = catalogues_of(town)
    catalogues.edit(lambda saved: saved.remove(["park"]))
    version = catalogues.edit(lambda saved: saved.add(items_of("x", "y")))
    ids = [*read_histories(town.run).items["item_id"], "x", "y"]
    assert version.added_items.to_list() == ["x", "y"]
    assert version.prompt_items([*reversed(ids), "?"]).tolist() == [*reversed(range(7)), -1]
    served = version.items["item_id"].to_list()
    assert [served[place] if place >= 0 else None for place in version.prompt_index_T] == [
        None if item_id == "park" else item_id for item_id in ids
    ]
    assert version.among_items(version.prompt_items(["park", "y"])).tolist() == [served.index("y")]
    assert len(version.encoder.titles.length) == 7
    named = version.items["title"].gather([served.index("x"), served.index("y")])
    expected, found = encode_titles(named, load_tokenizer(town.model)), version.encoder.added_titles
    assert (found.tokens.tolist(), found.ptr.tolist()) == (expected.tokens.tolist(), expected.ptr.tolist())


def test_version_is_of_the_time_of_reading_though_it_is_written_meanwhile(
    town: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that is overtaken between the manifest and the arrays reads again."""
    saved, other = saved_of(town), saved_of(town)
    saved.add(items_of("x"))
    overtaken = iter([lambda: other.add(items_of("y")), lambda: catalogue_verbs.reset(town)])
    read = SavedCatalogue._check_origin

    def overtake(self: SavedCatalogue, *arguments: Any) -> None:
        read(self, *arguments)
        if self is saved:
            next(overtaken, lambda: None)()

    monkeypatch.setattr(SavedCatalogue, "_check_origin", overtake)
    assert saved.read()[0] == "histories"
