"""Template sets: folders of Jinja files, rendered in a sandbox in which an unknown variable is an error."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import PromptError, first_line
from .chinese import in_chinese
from .settings import SHIPPED, SHIPPED_SETS

# context: an event line up to its title (and so the query line); profile: the same for a place of the profile.
FILES = ("preamble.j2", "context.j2", "profile.j2")
SIMILAR = "similar.j2"  # what others did; only prompts with `similar_tokens` need it
PACK = "pack.yaml"
_FEW_ROWS = 2000  # of one person, say: each step of polars takes longer than looking these up
_ROWS_AT_ONCE = 10_000  # rendered as one text
_REMEMBERED = 50_000  # lines of each file, about 20 MB
_ROWS = "rows_of_the_frame"


class Pack(BaseModel):
    """What a folder's `pack.yaml` says of its templates; a folder without one has none of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(1, ge=1)
    chat: bool = False  # the preamble is a user's message in the chat format of the model


@dataclass(frozen=True)
class TemplateSet:
    """The templates of one folder, its `pack.yaml`, and a fingerprint of the sources of all but SIMILAR, which has one
    of its own ("" where there is none): adapters that know nothing of it stay valid."""

    folder: Path
    fingerprint: str
    similar_fingerprint: str
    pack: Pack
    _names: dict[str, list[str]]
    _templates: dict[str, Template]
    _known: dict[Any, dict[tuple[Any, ...], str]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def files(self) -> list[str]:
        """Those that are there, by name."""
        return list(self._templates)

    def variables(self, file: str) -> list[str]:
        """The variables that one file names, in alphabetical order."""
        return self._names[file]

    def render(self, file: str, frame: pl.DataFrame) -> tuple[list[str], pl.Series]:
        """Render one file for every row: the distinct texts, and for each row the index of its text.

        Rows that agree in all variables that the template names are rendered once, and those of small frames are
        remembered: a later prompt of a user has the same past. Raises PromptError for a variable
        that the rows do not have, for an error in the template, and for a text that spans more than one line.
        """
        names, schema = self.variables(file), frame.schema
        for name in names:
            if name not in schema:
                known = sorted(column for column in schema if not column.startswith("_"))
                expected = f"one of: {', '.join(known)}" if known else "no variables here"
                raise PromptError(f"{self.folder / file} uses '{name}'; expected {expected}.")
        if not names:
            return [self._constant(file)], pl.zeros(frame.height, dtype=pl.Int64, eager=True)
        if frame.height <= _FEW_ROWS and not any(schema[name].is_nested() for name in names):
            rows = list(zip(*(frame[name].to_list() for name in names), strict=True))
            kinds = (file, *(schema[name] for name in names))  # 1, 1.0 and True are equal, and read otherwise
            index: dict[str, int] = {}
            rows_N = [index.setdefault(text, len(index)) for text in self._remembered(file, kinds, rows)]
            return list(index), pl.Series("_text", rows_N, dtype=pl.UInt32)
        distinct = frame.select(names).unique(maintain_order=True).with_row_index("_text")
        texts = self._rendered(file, distinct.drop("_text").iter_rows())
        joined = frame.select(names).join(distinct, on=names, how="left", nulls_equal=True, maintain_order="left")
        return texts, joined["_text"]

    def _remembered(self, file: str, kinds: object, rows: list[tuple[Any, ...]]) -> list[str]:
        """The text of each row of variables, rendered where it is not known."""
        known = self._known.setdefault(kinds, {})
        texts = [known.get(row) for row in rows]
        new = [at for at, text in enumerate(texts) if text is None]
        if len(known) + len(new) > _REMEMBERED:
            known.clear()
        index: dict[tuple[Any, ...], int] = {}  # hashing a row takes as long as rendering it
        index_X = [index.setdefault(rows[at], len(index)) for at in new]
        rendered = self._rendered(file, iter(index))
        known.update(zip(index, rendered, strict=True))
        for at, place in zip(new, index_X, strict=True):
            texts[at] = rendered[place]
        return [text for text in texts if text is not None]

    def _constant(self, file: str) -> str:
        """The text of a file that names no variable."""
        text = self._text(file, {})
        if file != "preamble.j2" and "\n" in text:
            raise self._too_many_lines(file, text)
        return text

    def _rendered(self, file: str, rows: Iterator[tuple[Any, ...]]) -> list[str]:
        """The text of each row of variables."""
        texts: list[str] = []
        while part := list(islice(rows, _ROWS_AT_ONCE)):
            lines = self._text(file, {_ROWS: part}).split("\n")
            if len(lines) != len(part) + 1:
                each = (self._text(file, {_ROWS: [row]}).removesuffix("\n") for row in part)
                raise self._too_many_lines(file, next(text for text in each if "\n" in text))
            texts += lines[:-1]
        return texts

    def _text(self, file: str, variables: dict[str, Any]) -> str:
        try:
            return self._templates[file].render(variables)
        except _RENDERING_ERRORS as error:
            raise PromptError(f"{self.folder / file} could not be rendered: {error}.") from error

    def _too_many_lines(self, file: str, text: str) -> PromptError:
        where = self.folder / file
        return PromptError(f"{where} gives more than one line ({text!r}); expected one, up to the title.")


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
    names, templates = {}, {}
    digest, similar = hashlib.sha256(), ""
    for file in (*FILES, SIMILAR):
        path = folder / file
        if not path.is_file():
            if file == SIMILAR:
                continue
            raise PromptError(f"The template set {folder} has no {file}; expected {', '.join(FILES)}.")
        try:
            source = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise PromptError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
        if file == SIMILAR:
            similar = hashlib.sha256(source.encode()).hexdigest()
        else:
            digest.update(f"{file}\x00{source}\x01".encode())
        try:
            names[file], templates[file] = _compiled(source)
        except TemplateSyntaxError as error:
            raise PromptError(f"{path}, line {error.lineno}: {error.message}.") from error
    pack = _pack(folder / PACK)
    if pack is not None:
        digest.update(f"{PACK}\x00{json.dumps(pack.model_dump(), sort_keys=True)}\x01".encode())
    return TemplateSet(folder, digest.hexdigest(), similar, pack or Pack(), names, templates)


def _compiled(source: str) -> tuple[list[str], Template]:
    """The variables that a template names, and the template: where it names any, one that renders a line a row.

    Calling a template costs more than most lines do, so the loop over the rows is put around its syntax tree.
    """
    parsed = _ENVIRONMENT.parse(source)
    names = sorted(meta.find_undeclared_variables(parsed))
    if names:
        row = nodes.Tuple([nodes.Name(name, "store") for name in names], "store")
        line = [*parsed.body, nodes.Output([nodes.TemplateData("\n")])]
        loop = nodes.For(row, nodes.Name(_ROWS, "load"), line, [], None, False, lineno=1)
        parsed = nodes.Template([loop], lineno=1)
        parsed.set_environment(_ENVIRONMENT)
    return names, _ENVIRONMENT.from_string(parsed)


def _pack(path: Path) -> Pack | None:
    if not path.is_file():
        return None
    try:
        return Pack.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise PromptError(
            f"{path} should hold `version: 1` and perhaps `chat: true`, but cannot be read ({first_line(error)})."
        ) from None
