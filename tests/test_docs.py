"""README and docs/ say what the program does. `test_docs_run.py` runs what can be run in a test."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import BaseModel
from typer.exceptions import TyperException

from whereupon.cli import app
from whereupon.config import Config, configured, load_config
from whereupon.docs.generate import COMMAND, pages
from whereupon.errors import WhereuponError
from whereupon.serve.app import schemas
from whereupon.tests.doc_blocks import GENERATED, PAGES, ROOT, Block, anchors, blocks, commands, links, prose, spans

WRITTEN = [page for page in PAGES if page.name not in GENERATED]
BLOCKS = [block for page in WRITTEN for block in blocks(page)]
SHELL = [(block, command) for block in BLOCKS if block.language == "sh" for command in commands(block.text)]
MINIMAL = {"run": "runs/minimal", "histories": {"recipe": "nycflights13"}}
BODIES: dict[str, type[BaseModel]] = {
    "/v1/recommendations": schemas.RecommendationRequest, "/v1/events": schemas.NewEvents,
    "/v1/adapters/promote": schemas.Promotion,
}  # fmt: skip

# Quaint words, and words that were once used here in a sense of their own; terms of the field replace them.
PRIVATE = re.compile(
    r"\b(said|tells|telling|mend(s|ed|ing)?|whom|whoever|lest|lessons?|keepers?|editions?|wish(es)?|nobody|rooms?|"
    r"pasts|moments?|counting|joint)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("name", pages())
def test_generated_page_equals_what_the_program_says(name: str) -> None:
    found = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert found == pages()[name], f"docs/{name} is out of date; run `{COMMAND}`."


def test_every_setting_and_verb_is_on_a_generated_page() -> None:
    settings = pages()["settings.md"]
    assert all(f"`{key}`" in settings for key in _keys(Config, ""))
    verbs = pages()["cli.md"]
    assert all(f"## whereupon {verb}\n" in verbs for verb in ("prepare", "prompt show", "catalogue reset", "guard"))


def test_readme_is_short_and_shows_picture_report_and_truth_about_the_base_model() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 140
    assert {"docs/picture.svg", "docs/report.png"} <= set(links(ROOT / "README.md"))
    assert "SmolLM2-135M-Instruct" in readme
    assert "4-bit" in readme
    assert (ROOT / "docs" / "report.png").stat().st_size < 300_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    for target in links(page):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_file(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", [*WRITTEN, ROOT / "docs" / "cli.md"], ids=lambda page: str(page.name))
def test_page_uses_the_terms_of_the_field(page: Path) -> None:
    text = page.read_text(encoding="utf-8") if page.name in GENERATED else prose(page)
    assert not [match.group() for match in PRIVATE.finditer(re.sub(r"`[^`\n]+`", "", text))]


def test_blocks_have_a_language_that_is_checked() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "yaml", "python", "text"}


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "yaml"], ids=str)
def test_yaml_block_is_a_configuration_or_a_part_of_one(block: Block, tmp_path: Path) -> None:
    settings = yaml.safe_load(block.text)
    (tmp_path / "shown.yaml").write_text(yaml.safe_dump(settings if "run" in settings else MINIMAL | settings))
    load_config(tmp_path / "shown.yaml")


@pytest.mark.slow  # importing openai takes seconds
@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=str)
def test_python_block_compiles_and_its_names_are_there(block: Block) -> None:
    compile(block.text, str(block), "exec")
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "whereupon":
            assert hasattr(importlib.import_module("whereupon"), node.attr)


@pytest.mark.parametrize(
    ("block", "command"), SHELL, ids=lambda value: value[0] if isinstance(value, list) else str(value)
)
def test_shell_command_is_one_that_works(block: Block, command: list[str]) -> None:
    check(command)


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.name))
def test_code_spans_name_verbs_targets_and_settings_that_are_there(page: Path) -> None:
    known = set(_keys(Config, "")) | {key.rpartition(".")[0] for key in _keys(Config, "")}
    for span in spans(page):
        words = span.split()
        if words[0] in ("whereupon", "make") and len(words) > 1 and words[1] not in ("VERB", "..."):
            _verb_or_target(words)
        if re.fullmatch(r"[a-z]+(\.[a-z_]+)+", span) and span.partition(".")[0] in Config.model_fields:
            assert span in known, f"{page.name} names the setting {span}"


@pytest.mark.parametrize(
    "command",
    [
        ["whereupon", "prepair", "x.yaml"], ["whereupon", "prepare", "x.yaml", "--nearr"], ["frobnicate"],
        ["whereupon", "prepare", "x.yaml", "--set", "finetune.epoch=1"], ["python", "no/such.py"], ["make", "tea"],
        ["pip", "install", ".[none]"], ["curl", "http://127.0.0.1:8000/v1/nothing"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_check_refuses_what_does_not_exist(command: list[str]) -> None:
    with pytest.raises((AssertionError, LookupError, TyperException, WhereuponError)):
        check(command)


# What a command of the docs has to be.


def check(command: Sequence[str]) -> None:
    """Fail unless the command's program, verb, options, files, extras and bodies exist."""
    program, *arguments = command
    if program == "whereupon":
        parsed(arguments)
    elif program == "accelerate":
        at = arguments.index("-m")
        launcher = arguments[:at]
        assert launcher == ["launch"] or (
            launcher[:2] == ["launch", "--config_file"] and (ROOT / launcher[2]).is_file()
        )
        assert arguments[at + 1] == "whereupon.cli"
        parsed(arguments[at + 2 :])
    elif program == "python":
        module = arguments[1] if arguments[0] == "-m" else None
        found = importlib.util.find_spec(module) if module else (ROOT / arguments[0]).is_file()
        assert found, f"no {' '.join(arguments)}"
    elif program == "make":
        _verb_or_target(command)
    elif program == "pip":
        extras = re.fullmatch(r"\.\[(.*)\]", arguments[1])
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert extras
        assert set(extras[1].split(",")) <= known.keys()
    elif program == "curl":
        path = re.sub(r"^http://127\.0\.0\.1:8000", "", arguments[0])
        BODIES[path].model_validate(json.loads(arguments[arguments.index("-d") + 1]))
    else:
        assert program in ("mkdir", "cp"), f"unknown program {program}"


def parsed(arguments: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Name and parameters of a verb, as the program reads them; raises for an unknown verb, option or setting."""
    command: Any = typer.main.get_command(app)
    rest = list(arguments)
    name = ""
    while hasattr(command, "commands"):
        name, *rest = rest
        command = command.commands[name]
    parameters = dict(command.make_context(name, rest).params)
    configured(MINIMAL, parameters.get("set_") or ())
    return name, parameters


def _verb_or_target(words: Sequence[str]) -> None:
    if words[0] == "make":
        bench = words[1].removeprefix("bench-")
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE) or (
            words[1].startswith("bench-") and (ROOT / "bench" / f"{bench}.py").is_file()
        ), f"make has no {words[1]}"
        return
    command: Any = typer.main.get_command(app)
    for word in words[1:]:
        if not hasattr(command, "commands"):
            break
        if word != "...":
            command = command.commands[word]


def _keys(model: type[BaseModel], at: str) -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        below = [part for part in _models(field.annotation) for part in _keys(part, f"{at}{name}.")]
        keys += below or [f"{at}{name}"]
    return keys


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models(argument)]
