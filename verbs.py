"""What all verbs share: the options that each has, the settings they load, errors as one sentence, `run.json`."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from . import __version__
from .console import say
from .errors import DataError, WhereuponError
from .files import read_object, versions, write_json

if TYPE_CHECKING:
    from .config import Config

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML configuration; examples/ holds some.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a setting; may be given several times.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
At = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", help="Time of the request, ISO 8601; default: after the last event."),
]
Weather = Annotated[
    str | None, typer.Option("--weather", metavar="TEXT", help='Weather at that time, such as "snow, -3 C".')
]
Place = Annotated[str | None, typer.Option("--place", metavar="LAT,LON", help="Where the user is, in degrees.")]


@contextlib.contextmanager
def verb(name: str, config_path: Path, overrides: list[str] | None, debug: bool) -> Iterator["Config"]:
    """The settings of a verb; prints on stderr which they are, and errors of the body as one sentence."""
    with one_sentence(debug):
        from .config import load_config

        config = load_config(config_path, overrides or ())
        if _is_main_process():
            settings = "\n".join(f"  {line}" for line in config.changed_settings())
            print(f"whereupon {__version__} {name} {config_path}\n{settings}", file=sys.stderr)
        yield config


@contextlib.contextmanager
def one_sentence(debug: bool) -> Iterator[None]:
    """Turn what a user can fix into one sentence on stderr and an exit code."""
    try:
        yield
        sys.stdout.flush()  # here, so that a reader who left is noticed here
    except KeyboardInterrupt:
        _fail("Interrupted; what was complete before is kept, and the same command starts again.", 130)
    except BrokenPipeError:  # `whereupon ... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        sentence = _sentence(error)
        if debug or sentence is None:
            raise
        _fail(sentence, 1)


def _sentence(error: Exception) -> str | None:
    """What to say to the user; None for an unforeseen error, whose traceback is worth more than a guess."""
    if isinstance(error, WhereuponError):
        return str(error)
    file = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
    if os.strerror(errno.ENOSPC) in str(error):  # by its words: safetensors and polars have error classes of their own
        return f"The disk is full{file}; free some space and run the same command again."
    if isinstance(error, PermissionError):
        return f"Permission denied{file}; fix the permissions or choose another path."
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return f"{error.strerror}{file}; choose a path that can be written to, such as --set run=FOLDER."
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {error.filename} (--debug shows where it was needed)."
    return None


def _fail(sentence: str, code: int) -> NoReturn:
    say(sentence, "red")
    raise typer.Exit(code) from None


def record(name: str, config: "Config") -> None:
    """Write what this verb starts with to `run.json`, beside what is known of the other verbs."""
    if not _is_main_process():
        return
    path = config.run / "run.json"
    try:
        known = read_object(path)
    except DataError:  # missing, or cut off by an older crash: it is a record, never an input
        known = {}
    known[name] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"), "command": sys.argv[1:], "seed": config.seed,
        "versions": versions(), "config": config.shown(),
    }  # fmt: skip
    write_json(path, known)


def _is_main_process() -> bool:
    """Under `accelerate launch` several processes run one verb; the first one speaks and writes."""
    return os.environ.get("RANK", "0") == "0"
