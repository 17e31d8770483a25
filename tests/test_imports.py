"""One-way streets: stages import earlier stages only, the command line starts light, and a wheel lacks nothing."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

_BELOW = ["histories", "catalogue", "prompts", "decode", "forecasts", "rankers"]
# What each stage may import at run time, beside itself: on the way to an answer, and on the way to figures.
BEFORE = {
    **{stage: _BELOW[:number] for number, stage in enumerate(_BELOW)},
    "recommend": _BELOW,
    "serve": [*_BELOW, "recommend"],
    "eval": _BELOW,
    "finetune": [*_BELOW, "eval"],
}
STAGES = list(BEFORE)
MORE = {
    "recommend": {"config"},
    "finetune": {"config", "verbs"},
}  # in functions of the public API
SHARED = {"", "arrays", "console", "errors", "files"}  # "" is the package itself, for __version__
VAGUE = {"common", "helper", "helpers", "misc", "util", "utils"}


def _imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that happen at run time, inside functions too, but not those under `if TYPE_CHECKING:`."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    children = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        children = iter(node.orelse)
    for child in children:
        yield from _imports(child)


def _ours(statement: ast.Import | ast.ImportFrom, package: list[str]) -> Iterator[str]:
    """First part below `whereupon` of each name imported, "" for the package itself; none for other packages.

    `package` is where the statement stands, such as ["decode"], or [] in the root.
    """
    if isinstance(statement, ast.Import):
        names = [alias.name for alias in statement.names]
    elif statement.level == 0:
        names = [f"{statement.module}.{alias.name}" for alias in statement.names]
    else:
        base = ["whereupon", *package][: len(package) + 2 - statement.level]
        names = [".".join([*base, statement.module or "", alias.name]).replace("..", ".") for alias in statement.names]
    for name in names:
        first, _, rest = name.partition(".")
        if first == "whereupon":
            below = rest.split(".")[0]
            yield "" if below.startswith("__") else below


def _sources(root: Path, stage: str) -> list[Path]:
    return sorted((root / stage).rglob("*.py"))


@pytest.mark.parametrize(
    ("line", "package", "expected"),
    [
        ("from ..errors import DataError", ["eval"], ["errors"]),
        ("from ..catalogue.trie import Trie", ["decode"], ["catalogue"]),
        ("from .. import serve, __version__", ["decode"], ["serve", ""]),
        ("from .protocol import Engine", ["decode"], ["decode"]),
        ("import whereupon.cli", ["decode"], ["cli"]),
        ("from whereupon.config import Config", ["decode"], ["config"]),
        ("import numpy.linalg", ["decode"], []),
        ("from .files import sha256_text", [], ["files"]),
    ],
)
def test_import_statement_is_read_as_its_stage(line: str, package: list[str], expected: list[str]) -> None:
    assert [name for statement in _imports(ast.parse(line)) for name in _ours(statement, package)] == expected


def test_import_for_type_checkers_only_is_passed_over_and_its_else_is_not() -> None:
    text = "if TYPE_CHECKING:\n    from ..config import Config\nelse:\n    import whereupon.serve\n"
    assert [name for node in _imports(ast.parse(text)) for name in _ours(node, ["eval"])] == ["serve"]


@pytest.mark.parametrize("stage", STAGES)
def test_stage_imports_only_earlier_stages(root: Path, stage: str) -> None:
    allowed = SHARED | {stage, *BEFORE[stage]} | MORE.get(stage, set())
    for source in _sources(root, stage):
        package = list(source.parent.relative_to(root).parts)
        for statement in _imports(ast.parse(source.read_text(encoding="utf-8"))):
            for name in _ours(statement, package):
                where = f"{source.relative_to(root)}:{statement.lineno}"
                assert name in allowed, f"{where} imports {name}; {stage} may import {sorted(allowed - {''})}"


def test_root_modules_import_no_module_that_imports_them(root: Path) -> None:
    allowed = {
        "__init__": {"config", "eval", "finetune", "histories", "recommend", "verbs"},
        "arrays": set(), "console": set(), "errors": set(), "files": {"", "errors"},
        "config": {"errors", "files", *STAGES}, "verbs": {"", "config", "console", "errors", "files"},
        "cli_eval": {"config", "verbs", *STAGES}, "cli_data": {"verbs", *STAGES}, "cli_catalogue": {"verbs", *STAGES},
        "cli_prompt": {"config", "verbs", *STAGES},
        "cli": {"cli_catalogue", "cli_data", "cli_eval", "cli_prompt", "console", "verbs", *STAGES},
    }  # fmt: skip
    found = {source.stem: source for source in root.glob("*.py")}
    assert found.keys() == allowed.keys(), "a new root module needs its line here"
    for module, source in found.items():
        statements = _imports(ast.parse(source.read_text(encoding="utf-8")))
        assert {name for statement in statements for name in _ours(statement, [])} <= allowed[module], module


def test_no_modules_import_each_other_in_circles(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(root / "bench")
    from house import circles, imports_of  # type: ignore[import-not-found]

    paths = [*root.glob("*.py"), *(path for stage in STAGES for path in _sources(root, stage))]
    sources = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    assert circles(imports_of(sources)) == []


@pytest.mark.parametrize("stage", STAGES)
def test_stage_says_what_is_public(root: Path, stage: str) -> None:
    tree = ast.parse((root / stage / "__init__.py").read_text(encoding="utf-8"))
    said = [
        node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign) and "__all__" in ast.unparse(node)
    ]
    assert len(said) == 1, f"{stage}/__init__.py has no __all__ (ruff keeps it sorted)"


@pytest.mark.parametrize("stage", STAGES)
def test_stage_names_its_modules_by_what_they_hold(root: Path, stage: str) -> None:
    assert not VAGUE & {source.stem for source in _sources(root, stage)}


def _imported_by(statement: str, heavy: list[str]) -> str:
    code = f"{statement}\nimport sys\nprint(*[name for name in {heavy} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_command_line_imported_loads_no_model_and_no_tables() -> None:
    assert _imported_by("import whereupon.cli", ["torch", "transformers", "polars", "numpy", "yaml"]) == ""


def test_configuration_imported_loads_no_model() -> None:
    """`prepare` works on the light base install."""
    assert _imported_by("import whereupon.config", ["torch", "transformers", "peft", "accelerate"]) == ""


def test_heavy_import_would_be_noticed() -> None:
    assert _imported_by("import polars", ["polars", "torch"]) == "polars"


def test_wheel_holds_every_stage_and_all_that_is_not_python(root: Path) -> None:
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = [file.parent.relative_to(root) for stage in STAGES for file in (root / stage).rglob("__init__.py")]
    assert sorted(settings["packages"]) == sorted(["whereupon", *(".".join(["whereupon", *f.parts]) for f in folders)])
    shipped = {
        file
        for package, patterns in settings["package-data"].items()
        for pattern in patterns
        for file in root.joinpath(*package.split(".")[1:]).glob(pattern)
    }
    held = {file for stage in STAGES for file in (root / stage).rglob("*") if file.is_file()}
    texts = {file for file in held if file.suffix == ".md"}  # to be read in the repository
    assert {file for file in held - texts if file.suffix not in (".py", ".pyc")} | {root / "py.typed"} == shipped
