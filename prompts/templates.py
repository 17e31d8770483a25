"""Template sets: folders of Jinja files, rendered in a sandbox in which an unknown variable is an error."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import PromptError, first_line
from .chinese import in_chinese
from .settings import SHIPPED, SHIPPED_SETS

# context: an event line up to its title (and so the query line); profile: the same for a place of the profile.
FILES = ("preamble.j2", "context.j2", "profile.j2")
PACK = "pack.yaml"
_FEW_ROWS = 2000  # of one person, say: each step of polars takes longer than looking these up


class Pack(BaseModel):
    """What a folder's `pack.yaml` says of its templates; a folder without one has none of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(1, ge=1)
    chat: bool = False  # the preamble is a user's message in the chat format of the model


@dataclass(frozen=True)
class TemplateSet:
    """The three templates of one folder, its `pack.yaml`, and a fingerprint of the sources of all."""

    folder: Path
    fingerprint: str
    pack: Pack
    _sources: dict[str, str]
    _templates: dict[str, Template]

    def variables(self, file: str) -> list[str]:
        """The variables that one file names, in alphabetical order."""
        return sorted(meta.find_undeclared_variables(_ENVIRONMENT.parse(self._sources[file])))

    def render(self, file: str, frame: pl.DataFrame) -> tuple[list[str], pl.Series]:
        """Render one file for every row: the distinct texts, and for each row the index of its text.

        Rows that agree in all variables that the template names are rendered once. Raises PromptError for a variable
        that the rows do not have, for an error in the template, and for a text that spans more than one line.
        """
        names = self.variables(file)
        for name in names:
            if name not in frame.columns:
                known = sorted(column for column in frame.columns if not column.startswith("_"))
                expected = f"one of: {', '.join(known)}" if known else "no variables here"
                raise PromptError(f"{self.folder / file} uses '{name}'; expected {expected}.")
        if not names:
            text = self._render(file, {})
            return [text], pl.zeros(frame.height, dtype=pl.Int64, eager=True)
        if frame.height <= _FEW_ROWS and not any(frame.schema[name].is_nested() for name in names):
            index: dict[tuple[Any, ...], int] = {}
            rows_N = [index.setdefault(row, len(index)) for row in frame.select(names).iter_rows()]
            texts = [self._render(file, dict(zip(names, row, strict=True))) for row in index]
            return texts, pl.Series("_text", rows_N, dtype=pl.UInt32)
        distinct = frame.select(names).unique(maintain_order=True).with_row_index("_text")
        texts = [self._render(file, row) for row in distinct.drop("_text").iter_rows(named=True)]
        rows = frame.select(names).join(distinct, on=names, how="left", nulls_equal=True, maintain_order="left")
        return texts, rows["_text"]

    def _render(self, file: str, variables: dict[str, Any]) -> str:
        try:
            text = self._templates[file].render(variables)
        except _RENDERING_ERRORS as error:
            raise PromptError(f"{self.folder / file} could not be rendered: {error}.") from error
        if file != "preamble.j2" and "\n" in text:
            where = self.folder / file
            raise PromptError(f"{where} gives more than one line ({text!r}); expected one, up to the title.")
        return text


def _nothing_for_null(value: object) -> object:
    return "" if value is None else value


_RENDERING_ERRORS = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)
_ENVIRONMENT = SandboxedEnvironment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_nothing_for_null
)
_ENVIRONMENT.filters["zh"] = in_chinese


def load_templates(name: str) -> TemplateSet:
    """Load a shipped set by name, or a folder. Raises PromptError if it is missing, incomplete or no Jinja."""
    folder = SHIPPED / name if name in SHIPPED_SETS else Path(name).expanduser()
    if not folder.is_dir():
        shipped = ", ".join(sorted(SHIPPED_SETS))
        raise PromptError(f"There is no template set '{name}': expected a folder or one of the shipped sets {shipped}.")
    sources, templates = {}, {}
    digest = hashlib.sha256()
    for file in FILES:
        path = folder / file
        if not path.is_file():
            raise PromptError(f"The template set {folder} has no {file}; expected {', '.join(FILES)}.")
        try:
            sources[file] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise PromptError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
        digest.update(f"{file}\x00{sources[file]}\x01".encode())
        try:
            templates[file] = _ENVIRONMENT.from_string(sources[file])
        except TemplateSyntaxError as error:
            raise PromptError(f"{path}, line {error.lineno}: {error.message}.") from error
    pack = _pack(folder / PACK)
    if pack is not None:
        digest.update(f"{PACK}\x00{json.dumps(pack.model_dump(), sort_keys=True)}\x01".encode())
    return TemplateSet(folder, digest.hexdigest(), pack or Pack(), sources, templates)


def _pack(path: Path) -> Pack | None:
    if not path.is_file():
        return None
    try:
        return Pack.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise PromptError(
            f"{path} should hold `version: 1` and perhaps `chat: true`, but cannot be read ({first_line(error)})."
        ) from None
