"""A cache for counts over all users: one for each `Histories`."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from ..histories import Histories

P = ParamSpec("P")
T = TypeVar("T")


def cached(count: Callable[Concatenate[Histories, P], T]) -> Callable[Concatenate[Histories, P], T]:
    """The same function of histories and hashable arguments, with a cache.

    A result stays as long as the very same histories are there, so it must not refer to them. Arrays are read-only from
    then on. Two threads at once may both count; they get the same object.
    """
    found: WeakKeyDictionary[Histories, dict[Any, T]] = WeakKeyDictionary()

    def counted(histories: Histories, /, *args: P.args, **kwargs: P.kwargs) -> T:
        of_these = found.setdefault(histories, {})
        key = args, tuple(sorted(kwargs.items()))
        if key not in of_these:
            new = count(histories, *args, **kwargs)
            if isinstance(new, np.ndarray):
                new.flags.writeable = False
            of_these.setdefault(key, new)
        return of_these[key]

    update_wrapper(counted, count)
    return counted
