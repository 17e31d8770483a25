"""What all HTML pages share: templates, one style sheet, and how numbers are written. A page needs no other file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .. import __version__
from .wording import count, duration, p_value, plain, share, signed

TEMPLATES: Final = Path(__file__).parent / "templates"


def page_environment() -> Environment:
    """The templates of pages. They escape whatever is no markup, and an unknown name in them is an error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "plain": plain, "signed": signed, "share": share, "p": p_value, "count": count, "duration": duration,
        "score": lambda value: f"{value:.3g}",
    }  # fmt: skip
    environment.globals |= {"version": __version__, "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"}
    return environment
