"""What the house bench counts, on a toy tree whose faults are known."""

import subprocess
from pathlib import Path

import pytest
from house import circles, functions_of, imports_of, is_product, lines_of, product_sources

LONG = "@decorated\n@twice\ndef long():\n" + "    pass\n" * 60
TOY = {
    "__init__.py": "",
    "cli.py": "from .shop import prices\n",
    "shop/__init__.py": "from .prices import price\n",
    "shop/prices.py": "from ..stock import shelf\n\ndef price():\n    from .tax import tax\n",
    "shop/tax.py": "import typing\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..cli import main\n",
    "stock/__init__.py": "",
    "stock/shelf.py": "import whereupon.stock.box\nclass Shelf:\n    from ..shop import price\n",
    "stock/box.py": f"try:\n    from . import lid\nexcept ImportError:\n    pass\n{LONG}",
    "stock/lid.py": "from .. import errors, stock\n",
}


def test_imports_are_those_of_the_products_modules_at_import_time() -> None:
    found = imports_of(TOY)
    assert found["whereupon.cli"] == {"whereupon.shop.prices"}
    assert found["whereupon.shop"] == {"whereupon.shop.prices"}
    assert found["whereupon.shop.prices"] == {"whereupon.stock.shelf"}
    assert found["whereupon.shop.tax"] == set()
    assert found["whereupon.stock.shelf"] == {"whereupon.stock.box", "whereupon.shop"}
    assert found["whereupon.stock.box"] == {"whereupon.stock.lid"}
    assert found["whereupon.stock.lid"] == {"whereupon.stock", "whereupon"}


def test_circle_over_several_modules_is_found_once() -> None:
    expected = ["whereupon.shop", "whereupon.shop.prices", "whereupon.stock.shelf"]
    assert circles(imports_of(TOY)) == [expected]


def test_imports_in_functions_and_for_type_checkers_close_wider_circles() -> None:
    expected = sorted(["whereupon.cli", "whereupon.shop.tax", *circles(imports_of(TOY))[0]])
    assert circles(imports_of(TOY, top_level=False)) == [expected]


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, []),
        ({"a": {"b"}, "b": {"a"}, "c": {"d", "a"}, "d": {"c"}}, [["a", "b"], ["c", "d"]]),
    ],
)
def test_circles_are_the_strongly_connected_components(imports: dict[str, set[str]], expected: list[list[str]]) -> None:
    assert circles(imports) == expected


def test_longest_function_is_counted_from_its_def() -> None:
    one = max(functions_of(TOY))
    assert (one.num_lines, one.path, one.line, one.name) == (61, "stock/box.py", 7, "long")


def test_product_is_the_tracked_files_outside_tests_and_benches(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    for path in ("cli.py", "shop/prices.py", "tests/test_a.py", "bench/b.py", "notes.md"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("a\n\nb\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    (tmp_path / "cli.py").write_text("a\n")
    (tmp_path / "untracked.py").write_text("a\n")
    assert lines_of(product_sources(tmp_path)) == {"cli.py": 1, "shop/prices.py": 3}
    assert lines_of(product_sources(tmp_path, "HEAD")) == {"cli.py": 3, "shop/prices.py": 3}
    assert not is_product("examples/client.py")
