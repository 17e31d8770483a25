"""One fitted thing is kept, so that settings that matter only when ranking are tuned without fitting again."""

import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ..histories import Histories

__all__ = ["LastFit"]

T = TypeVar("T")


class LastFit(Generic[T]):
    """What was fitted last. A grid in which settings of the fit change least often fits once for each of them."""

    def __init__(self) -> None:
        self._histories: weakref.ref[Histories] | None = None
        self._key: Any = None
        self._fitted: T | None = None

    def get(self, histories: Histories, key: Any, fit: Callable[[], T]) -> T:
        """`fit()`, or what it gave the last time, if that was for the very same histories and an equal key."""
        known = self._histories is not None and self._histories() is histories and self._key == key
        if not known or self._fitted is None:
            self._fitted = None  # two of them at once might be more than fits into memory
            self._histories, self._key = weakref.ref(histories, self._forget), key
            self._fitted = fit()
        return self._fitted

    def _forget(self, gone: weakref.ref[Histories]) -> None:
        if self._histories is gone:
            self._fitted = None
