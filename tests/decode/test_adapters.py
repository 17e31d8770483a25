from pathlib import Path

import pytest

from whereupon.decode.adapters import adapter_versions, current_adapter, current_name, previous_name, use_adapter
from whereupon.decode.identity import ADAPTER_FILES
from whereupon.errors import ModelError
from whereupon.files import read_json, write_json


def _version(run: Path, name: str, complete: bool = True, score: float = 0.5) -> Path:
    folder = run / "adapters" / name
    card = {"temperature": 1.0, "step": 12, "validation": {"nDCG@10": score}, "complete": complete}
    write_json(folder / "whereupon.json", card)
    for name in ADAPTER_FILES:
        (folder / name).write_text(name)
    if not complete:
        (folder / "checkpoint.pt").touch()
    return folder


def test_run_without_an_adapter_is_one_sentence(tmp_path: Path) -> None:
    assert adapter_versions(tmp_path) == []
    with pytest.raises(ModelError, match=r"^There is no trained adapter in .*run `whereupon finetune` first\.$"):
        current_adapter(tmp_path)


def test_unfinished_adapter_is_not_used_in_silence(tmp_path: Path) -> None:
    _version(tmp_path, "0001", complete=False)
    with pytest.raises(ModelError, match=r"0001 of .* is unfinished.*`whereupon finetune`.*--use 0001"):
        current_adapter(tmp_path)
    folder = _version(tmp_path, "0002")
    use_adapter(tmp_path, "0002")
    assert current_adapter(tmp_path) == folder
    _version(tmp_path, "0002", complete=False)  # as if a card had been edited
    with pytest.raises(ModelError, match="unfinished, though CURRENT names it"):
        current_adapter(tmp_path)


def test_versions_are_listed_in_their_order_with_figures(tmp_path: Path) -> None:
    _version(tmp_path, "0010", score=0.25)
    _version(tmp_path, "0009")
    _version(tmp_path, "0011", complete=False)
    (tmp_path / "adapters" / "0012").mkdir()
    (tmp_path / "adapters" / ".0013.part").mkdir()
    use_adapter(tmp_path, "9")
    lines = [version.line() for version in adapter_versions(tmp_path)]
    assert [line.split()[0] for line in lines] == ["0009", "0010", "0011", "0012"]
    assert "0.5000" in lines[0]
    assert ["current" in line for line in lines] == [True, False, False, False]
    assert "0.2500" in lines[1]
    assert ["unfinished" in line for line in lines] == [False, False, True, True]


def test_damaged_card_hinders_no_other_version(tmp_path: Path) -> None:
    _version(tmp_path, "0001")
    (_version(tmp_path, "0002") / "whereupon.json").write_text("{")
    use_adapter(tmp_path, "0001")
    assert [bool(version.card) for version in adapter_versions(tmp_path)] == [True, False]
    with pytest.raises(ModelError, match=r"expected one of 0001\.$"):
        use_adapter(tmp_path, "0002")


def test_choosing_an_unfinished_version_ends_its_training(tmp_path: Path) -> None:
    _version(tmp_path, "0001")
    use_adapter(tmp_path, "0001")
    folder = _version(tmp_path, "0002", complete=False)
    use_adapter(tmp_path, "0002")
    assert current_adapter(tmp_path) == folder
    assert read_json(folder / "whereupon.json")["complete"] is True
    assert not (folder / "checkpoint.pt").exists()


@pytest.mark.parametrize("name", ["0003", "../adapters/0001", "", "best"])
def test_choosing_what_is_not_there_names_what_is(tmp_path: Path, name: str) -> None:
    _version(tmp_path, "0001")
    (tmp_path / "adapters" / "0003").mkdir()  # killed before its first validation
    with pytest.raises(ModelError, match=r"expected one of 0001\.$"):
        use_adapter(tmp_path, name)


def test_version_that_was_used_before_is_remembered(tmp_path: Path) -> None:
    for name in ("0001", "0002", "0003"):
        _version(tmp_path, name)
    used = []
    for name in ("0001", "0002", "0002", "0003", "0001"):
        use_adapter(tmp_path, name)
        used.append((current_name(tmp_path), previous_name(tmp_path)))
    assert used == [
        ("0001", None), ("0002", "0001"), ("0002", "0001"), ("0003", "0002"), ("0001", "0003"),
    ]  # fmt: skip
