"""The forms that files come in: found, unpacked, recognised by their bytes, and read as a table of cells."""

from .files import Cells, read_file
from .paths import input_files

__all__ = ["Cells", "input_files", "read_file"]
