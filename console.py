"""What a person reads while a verb runs: one console on stderr, one way to say a line, one kind of progress bar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich import progress
from rich.console import Console, RenderableType
from rich.text import Text

T = TypeVar("T")

talk = Console(stderr=True, highlight=False)
"""For people. Data goes to stdout, by `print` or `show`."""


def say(text: str, style: str = "") -> None:
    """One line on stderr; brackets and paths are shown as they are."""
    talk.print(text, style=style, markup=False, soft_wrap=True)


def show(table: RenderableType, *, wrap: bool = True) -> None:
    """A table or text on stdout; without `wrap`, lines stay lines however long they are."""
    Console(highlight=False).print(table, soft_wrap=not wrap)


def bar(*, rate: bool = True, shown: bool = True) -> progress.Progress:
    """A progress bar with a rate and the time left, on a terminal only: in a log each step would be a line."""
    counted = (progress.MofNCompleteColumn(), _Rate()) if rate else ()
    done, left = progress.TimeElapsedColumn(), progress.TimeRemainingColumn()
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), *counted, done, left)
    return progress.Progress(*columns, console=talk, disable=not (shown and talk.is_terminal))


def tracked(items: Iterable[T], what: str, total: int | None = None, shown: bool = True) -> Iterator[T]:
    """The items, with a bar that follows them; `total`: how many there are, if `items` has no length."""
    with bar(shown=shown) as shown_bar:
        yield from shown_bar.track(items, total=total, description=what)


class _Rate(progress.ProgressColumn):
    def render(self, task: progress.Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")
