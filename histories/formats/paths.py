"""Which files a path stands for: itself, the files of a folder, those that match a pattern, or those of a list."""

import glob
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ...errors import DataError

_DATASET: Final = "state.json"  # beside the Arrow files of `datasets.Dataset.save_to_disk`
_SPLITS: Final = "dataset_dict.json"  # beside the folders of `datasets.DatasetDict.save_to_disk`


def input_files(path: Path | Sequence[Path], what: str) -> list[Path]:
    """The files that hold a table, in order of their names; `what` says for messages what it holds.

    A folder stands for the files in it whose names do not begin with a dot or an underscore; one that
    `datasets.save_to_disk` has written stands for its Arrow files. Raises DataError: there is no such file.
    """
    if isinstance(path, Path):
        return _files(path, what)
    if not path:
        raise DataError(f"histories.{what}.path should name files but is an empty list; name at least one.")
    return [file for each in path for file in _files(each, what)]


def _files(path: Path, what: str) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        return _in_folder(path, what)
    if glob.has_magic(str(path)):
        if files := sorted(Path(found) for found in glob.glob(str(path)) if Path(found).is_file()):
            return files
        raise DataError(f"{path} should match files of {what} but matches none; check the pattern.")
    raise DataError(f"{path} should be the file of {what} but does not exist; check its path in the configuration.")


def _in_folder(folder: Path, what: str) -> list[Path]:
    if (folder / _SPLITS).is_file():
        splits = json.loads((folder / _SPLITS).read_text(encoding="utf-8")).get("splits", [])
        raise DataError(
            f"{folder} holds several splits of a data set ({', '.join(map(str, splits[:12]))}); "
            f"name one as histories.{what}.path, such as {folder / str(next(iter(splits), 'train'))}."
        )
    if (folder / _DATASET).is_file():
        state = json.loads((folder / _DATASET).read_text(encoding="utf-8"))
        return [folder / str(file["filename"]) for file in state.get("_data_files", [])]
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith((".", "_")))
    if files:
        return files
    raise DataError(f"{folder} is a folder without files of {what}; name a file, or a folder that holds some.")
