"""Is the product small, light and free of import circles? Reads its source; a minute on one core.

    python bench/house.py [--before COMMIT]

The product is every tracked Python file outside tests/, bench/, docs/ and examples/. Writes bench/results/house.json
with one bar for each of: modules of `whereupon.eval` that the server's app loads, lines compared with COMMIT, the
longest file, the longest function (from `def` to its end), import circles, and seconds of `import whereupon` in fresh
processes. Prints what violates a bar, and exits with 1 if one is missed.
"""

from __future__ import annotations

import argparse
import ast
import statistics
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from record import bar, record

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = "whereupon"
OUTSIDE: Final = {"tests", "bench", "docs", "examples"}
BEFORE: Final = "ec5db22"
FEWER_LINES, FILE_LINES, FUNCTION_LINES, IMPORT_S = 2000, 400, 50, 0.3
LOADED: Final = """
import sys
import whereupon.serve.app.plugin
print(*sorted(name for name in sys.modules if name.startswith("whereupon.eval")))
"""
TIMED: Final = "import time; t = time.perf_counter(); import whereupon; print(time.perf_counter() - t)"

Sources = Mapping[str, str]
"""Path from the root, with slashes -> text."""


class Function(NamedTuple):
    """A function and where it stands."""

    num_lines: int
    path: str
    line: int
    name: str


def main() -> int:
    """Measure, print violations, record; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", default=BEFORE, metavar="COMMIT", help=f"to compare lines with; default: {BEFORE}")
    before = parser.parse_args().before
    sources = product_sources(ROOT)
    num_lines, num_before = (sum(lines_of(all_).values()) for all_ in (sources, product_sources(ROOT, before)))
    files = sorted(((count, path) for path, count in lines_of(sources).items()), reverse=True)
    functions = sorted(functions_of(sources), reverse=True)
    at_import, at_any_time = (circles(imports_of(sources, top_level=top)) for top in (True, False))
    loaded = _output(LOADED).split()
    seconds = [float(_output(TIMED)) for _ in range(5)]
    for path in (path for count, path in files if count > FILE_LINES):
        print(f"file of {len(sources[path].splitlines())} lines: {path}")
    for one in (one for one in functions if one.num_lines > FUNCTION_LINES):
        print(f"function of {one.num_lines} lines: {one.path}:{one.line} {one.name}")
    for what, found in (("import circle", at_import), ("circle with inner and type-checking imports", at_any_time)):
        for circle in found:
            print(f"{what}: {' <-> '.join(circle)}")
    if loaded:
        print(f"loaded with the server's app: {', '.join(loaded)}")
    import_s, fewer = statistics.median(seconds), num_before - num_lines
    bars = [
        bar("modules of eval loaded by the server's app", len(loaded), "0", not loaded),
        bar(f"product lines fewer than at {before}", fewer, f"at least {FEWER_LINES}", fewer >= FEWER_LINES),
        bar("lines of the longest file", files[0][0], f"at most {FILE_LINES}", files[0][0] <= FILE_LINES),
        bar(
            "lines of the longest function", functions[0].num_lines, f"at most {FUNCTION_LINES}",
            functions[0].num_lines <= FUNCTION_LINES,
        ),
        bar("import circles", len(at_import), "0", not at_import),
        bar("seconds of `import whereupon`, median of 5", import_s, f"below {IMPORT_S}", import_s < IMPORT_S),
    ]  # fmt: skip
    return record(
        "house", None, bars, before=before, num_lines=num_lines, num_lines_before=num_before, num_files=len(sources),
        longest_files=[{"path": path, "lines": count} for count, path in files[:5]],
        longest_functions=[one._asdict() for one in functions[:5]],
        circles=at_import, circles_with_inner_and_type_checking_imports=at_any_time, import_s=seconds,
    )  # fmt: skip


def product_sources(root: Path, commit: str | None = None) -> dict[str, str]:
    """The product's files as they lie in the working tree, or as they were at a commit."""
    listing = ["ls-files"] if commit is None else ["ls-tree", "-r", "--name-only", commit]
    paths = [path for path in _git(root, *listing).splitlines() if is_product(path)]
    if commit is not None:
        return {path: _git(root, "show", f"{commit}:{path}") for path in paths}
    return {path: (root / path).read_text(encoding="utf-8") for path in paths if (root / path).is_file()}


def is_product(path: str) -> bool:
    """Whether a tracked file counts as product."""
    return path.endswith(".py") and PurePosixPath(path).parts[0] not in OUTSIDE


def lines_of(sources: Sources) -> dict[str, int]:
    """Lines of each file, empty ones and comments included."""
    return {path: len(text.splitlines()) for path, text in sources.items()}


def functions_of(sources: Sources) -> Iterator[Function]:
    """All functions and methods, nested ones too; decorators are not counted."""
    for path, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield Function(node.end_lineno - node.lineno + 1, path, node.lineno, node.name)


def imports_of(sources: Sources, *, top_level: bool = True) -> dict[str, set[str]]:
    """Of each module, the product's modules that its import statements name.

    That importing a module also imports the packages around it is left aside: it would make a circle of every
    package that re-exports names.

    Args:
        sources: the files; those in the root are modules of `whereupon` itself.
        top_level: only what happens while the module is imported: no imports in functions or for type checkers.
    """
    path_of = {_module(path): path for path in sources}
    found: dict[str, set[str]] = {}
    for module, path in path_of.items():
        package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
        statements = _statements(ast.parse(sources[path]), top_level)
        named = {name for statement in statements for name in _named(statement, package, path_of)}
        found[module] = named - {module}
    return found


def _module(path: str) -> str:
    parts = [PACKAGE, *PurePosixPath(path).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _statements(node: ast.AST, top_level: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    children = ast.iter_child_nodes(node)
    if top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return
    if top_level and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        children = iter(node.orelse)
    for child in children:
        yield from _statements(child, top_level)


def _named(statement: ast.Import | ast.ImportFrom, package: str, modules: Collection[str]) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names if alias.name in modules)
        return
    base = statement.module or ""
    if statement.level:
        around = package.split(".")[: len(package.split(".")) - statement.level + 1]
        base = ".".join([*around, base] if base else around)
    for alias in statement.names:  # a module of a package, or a name that the module itself has
        inner = f"{base}.{alias.name}"
        if inner in modules or base in modules:
            yield inner if inner in modules else base


def circles(imports: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or over others: strongly connected components, by Tarjan."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for other in sorted(imports.get(module, ())):
            if other not in order:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], order[other])
        if low[module] == order[module]:
            begin = stack.index(module)
            component = stack[begin:]
            del stack[begin:]
            if len(component) > 1:
                found.append(sorted(component))

    for module in sorted(imports):
        if module not in order:
            visit(module)
    return sorted(found)


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _output(code: str) -> str:
    """What a fresh process prints; it imports the same `whereupon` as this one."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
