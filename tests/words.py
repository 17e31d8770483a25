"""Text that users and readers see, out of Python files: docstrings, and sentences in string literals."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Text:
    """One docstring or sentence, and where it stands."""

    file: Path
    line: int
    text: str


def product_files() -> list[Path]:
    """All Python files of the program, without tests and without what is not under version control."""
    left_out = {"tests", "runs", "build"}
    files = (
        file for file in ROOT.rglob("*.py") if not any(part.startswith(".") for part in file.parts[len(ROOT.parts) :])
    )
    return sorted(file for file in files if file.relative_to(ROOT).parts[0] not in left_out)


def all_files() -> list[Path]:
    """The same, and the tests."""
    return [*product_files(), *sorted((ROOT / "tests").rglob("*.py"))]


def prose_of(file: Path) -> Iterator[Text]:
    """Docstrings and comments."""
    source = file.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield Text(file, node.lineno, node.value.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Text(file, token.start[0], token.string)


def texts_of(file: Path) -> Iterator[Text]:
    """Docstrings, and every literal of two words or more: help, descriptions of settings, errors, what is printed.

    The literal parts of an f-string are joined; `{}` stands for what is filled in.
    """
    inside: set[ast.AST] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            inside.update(ast.walk(node))
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield Text(file, node.lineno, "".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and node not in inside and _is_sentence(node.value):
            yield Text(file, node.lineno, str(node.value))


def _is_sentence(value: object) -> bool:
    return isinstance(value, str) and len(value.split()) > 1
