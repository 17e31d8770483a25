"""What users and readers see is said in plain words and in the terms of the field."""

import re
from pathlib import Path

import pytest

from whereupon.tests.doc_blocks import PAGES
from whereupon.tests.words import ROOT, all_files, product_files, prose_of, texts_of

# Quaint words, and words that once had a sense of their own here. What to say instead:
INSTEAD = {
    r"tell|told|tells|telling": "shown, said, described, distinguished",
    r"mend(s|ed|ing)?": "correct, fix",
    r"whom|whoever": "the user, anyone who",
    r"lest": "so that ... not",
    r"nobody": "no user, none, not",
    r"lessons?": "training example",
    r"keepers?": "checkpoint manager",
    r"editions?": "catalogue version",
    r"wish(es)?|wanted items": "filters",
    r"in brief": "in short",
    r"asked": "requested, queried, predicted",
    r"moments?": "time of the request, time of the event",
    r"pasts": "histories",
    r"rooms?": "stage, memory, space",
    r"doors?": "interface",
}
FORBIDDEN = re.compile(rf"\b({'|'.join(INSTEAD)})\b", re.IGNORECASE)
# Phrases in which such a word has its common sense.
COMMON = re.compile(r"\b(asked to be forgotten|in a moment|for a moment)\b", re.IGNORECASE)
BY_HAND = (*PAGES, *(ROOT / name for name in ("ARCHITECTURE.md", "FOOTGUNS.md", "CONTRIBUTING.md")))


def found_in(text: str) -> list[str]:
    """The forbidden words of a text; code spans are left out, as they hold names."""
    return [match.group() for match in FORBIDDEN.finditer(COMMON.sub("", re.sub(r"`[^`\n]+`", "", text)))]


@pytest.mark.parametrize("file", product_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_help_and_errors_use_plain_words(file: Path) -> None:
    found = [f"line {one.line}: {word}" for one in texts_of(file) for word in found_in(one.text)]
    assert not found, f"{found}; say instead: {INSTEAD}"


@pytest.mark.parametrize("file", all_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_and_comments_use_plain_words(file: Path) -> None:
    found = [f"line {one.line}: {word}" for one in prose_of(file) for word in found_in(one.text)]
    assert not found, f"{found}; say instead: {INSTEAD}"


@pytest.mark.parametrize("page", BY_HAND, ids=lambda page: str(page.name))
def test_pages_use_plain_words(page: Path) -> None:
    assert not found_in(re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL))


def test_forbidden_words_are_found_in_docstrings_help_and_errors(tmp_path: Path) -> None:
    """Else the tests above could not fail."""
    file = tmp_path / "one.py"
    file.write_text('"""Mend it."""\nHELP = "what users are told"\nERROR = f"{HELP} by nobody {HELP}"\nNAME = "told"\n')
    assert [found_in(one.text) for one in texts_of(file)] == [["Mend"], ["told"], ["nobody"]]


def test_forbidden_words_are_found_in_docstrings_and_comments_unless_their_sense_is_common(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text('"""The moment."""\n# it asked; who asked to be forgotten\nNAME = "the pasts"  # later\n')
    assert [found_in(one.text) for one in prose_of(file)] == [["moment"], ["asked"], []]
