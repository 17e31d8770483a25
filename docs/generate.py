"""Write docs/cli.md, docs/settings.md and the computed tables of docs/hardware.md.

    python docs/generate.py

`tests/test_docs.py` compares the pages with what this script would write.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from whereupon.cli import app
from whereupon.config import Config
from whereupon.docs import hardware
from whereupon.rankers.settings import BaselineName

DOCS = Path(__file__).resolve().parent
COMMAND = "python docs/generate.py"
WIDTH = 100
_NOTE = f"<!-- Written by `{COMMAND}`; do not edit. -->\n"


def main() -> None:
    """Write the pages."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """The generated pages by file name."""
    return {"cli.md": cli_page(), "settings.md": settings_page(), "hardware.md": hardware_page()}


# Verbs: the text of `--help`, one section a verb.


def cli_page() -> str:
    """The help of each verb, as the program prints it in a terminal of `WIDTH` columns."""
    opening = "# Command line\n\nEach section is the output of `whereupon VERB --help`.\n"
    parts = [f"## {name}\n\n```text\n{text}\n```\n" for name, text in helps()]
    return "\n".join([_NOTE + opening, *parts])


def helps() -> Iterator[tuple[str, str]]:
    """Name and help of the program, of each group and of each verb."""
    yield from _helps(typer.main.get_command(app), "whereupon", None)


def _helps(command: Any, name: str, parent: Any) -> Iterator[tuple[str, str]]:
    context = command.context_class(
        command, parent=parent, info_name=name.split()[-1], max_content_width=WIDTH, terminal_width=WIDTH
    )
    lines = command.get_help(context).splitlines()
    yield name, "\n".join(line.rstrip() for line in lines).strip()
    for verb, below in getattr(command, "commands", {}).items():
        yield from _helps(below, f"{name} {verb}", context)


# Hardware: two tables between markers; the text around them is written by hand.


def hardware_page() -> str:
    """The page as it stands, with its tables computed again."""
    page = (DOCS / "hardware.md").read_text(encoding="utf-8")
    for name, lines in {"memory": hardware.memory_table(), "speed": hardware.speed_table()}.items():
        begin, end = f"<!-- {name}: written by `{COMMAND}` -->\n", f"<!-- end of {name} -->"
        before, _, rest = page.partition(begin)
        page = before + begin + "\n" + "\n".join(lines) + "\n\n" + end + rest.partition(end)[2]
    return page


# Settings: one table a section.


def settings_page() -> str:
    """Every setting with its kind, default and description."""
    opening = (
        "# Settings\n\n"
        "A configuration is one YAML file. Each section below is a key of that file.\n"
        "`--set section.key=value` overrides one setting.\n"
        "`run` and `histories` are required. All others have a default.\n"
    )
    names = "\n".join(f"- `{name}`" for name in get_args(BaselineName))
    baselines = f"## Baseline names\n\n[Evaluation](evaluation.md#baselines) describes each one.\n\n{names}\n"
    return "\n".join([_NOTE + opening, *_sections(Config, ""), baselines])


def _sections(model: type[BaseModel], at: str) -> Iterator[str]:
    texts = descriptions(model)
    rows: list[str] = []
    below: list[tuple[type[BaseModel], str]] = []
    for name, field in model.model_fields.items():
        key = f"{at}{name}"
        if inner := _models(field.annotation):
            below += [(model, key) for model in inner]
        else:
            rows.append(f"| `{key}` | {_kind(field)} | {_default(field)} | {_cell(texts.get(name, ''))} |")
    title = at.rstrip(".") or "The whole run"
    summary = "" if not at else f"{_first_line(model)}\n\n"
    head = "| setting | kind | default | |\n|---|---|---|---|"
    yield f"## {title}\n\n{summary}{head}\n" + "\n".join(rows) + "\n"
    for section, key in below:
        yield from _sections(section, f"{key}.")


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """What the code says of each field: its `description`, else the entry below `Attributes:` of the docstring."""
    texts: dict[str, str] = {}
    for ancestor in reversed(model.__mro__):
        if issubclass(ancestor, BaseModel) and ancestor is not BaseModel:
            texts |= _attributes(inspect.getdoc(ancestor) or "")
    return texts | {name: field.description for name, field in model.model_fields.items() if field.description}


def _attributes(docstring: str) -> dict[str, str]:
    _, found, listed = docstring.partition("Attributes:\n")
    entries = re.split(r"\n(?=\S)", textwrap.dedent(listed)) if found else []
    texts: dict[str, str] = {}
    for entry in entries:
        names, _, text = entry.partition(":")
        texts |= {name.strip(): " ".join(text.split()) for name in names.split(",")}
    return texts


def _first_line(model: type[BaseModel]) -> str:
    return (inspect.getdoc(model) or "").split("\n\n")[0].replace("\n", " ")


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _kind(field: FieldInfo) -> str:
    bounds = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    parts = [
        f"{word} {getattr(bound, name):g}"
        for bound in field.metadata
        for name, word in bounds.items()
        if hasattr(bound, name)
    ]
    return ", ".join([_name(field.annotation), *parts])


def _name(annotation: Any) -> str:
    """A type as a reader of YAML knows it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if set(arguments) == set(get_args(BaselineName)):
        return "[baseline name](#baseline-names)"
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (list, tuple):
        names = [_name(argument) for argument in arguments if argument is not Ellipsis]
        return f"list of {' or '.join(names)}"
    if origin is dict:
        return f"mapping of {_name(arguments[0])} to {_name(arguments[1])}"
    if arguments and hasattr(annotation, "__metadata__"):
        return _name(arguments[0])
    if arguments:
        return " or ".join(_name(argument) for argument in arguments if argument is not NoneType)
    plain = {str: "text", int: "whole number", float: "number", bool: "yes or no", Path: "path"}
    return plain.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, bool):
        return "`yes`" if value else "`no`"
    if isinstance(value, list | tuple):
        return "`[" + ", ".join(map(str, value)) + "]`"
    return f"`{value}`"


def _cell(text: str) -> str:
    return (text[:1].upper() + text[1:]).replace("|", "\\|")


if __name__ == "__main__":
    main()
