"""Turns that clients share fairly: each waiting client in turn has one, however many requests the others have sent.

Round robin over the clients that wait, as in fair queueing (Nagle, RFC 970). Where the queue is full, the client with
the most waiting requests loses one (McKenney, Stochastic Fairness Queueing, 1990).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FullError(Exception):
    """As many wait as can."""


class FairQueue(Generic[T]):
    """What clients wait for, at most `most` in all (None: any number); O(1) but for `push` into a full queue."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self._num = 0
        self._of: OrderedDict[str, deque[T]] = OrderedDict()  # the client whose turn is next first; none is empty

    def __len__(self) -> int:
        return self._num

    @property
    def num_clients(self) -> int:
        """How many clients wait."""
        return len(self._of)

    def push(self, client: str, one: T) -> T | None:
        """Put one behind the others of its client; in a full queue, the last of the client that has most gives way.

        Returns the one that gave way. Raises FullError where no client has more than this one would have.
        """
        last = None
        if self.most is not None and self._num >= self.most:
            longest = max(self._of, key=lambda name: len(self._of[name]), default=client)
            if len(self._of.get(longest, ())) <= len(self._of.get(client, ())) + 1:
                raise FullError
            last = self._of[longest].pop()  # one of several, so the line is not empty now
            self._num -= 1
        self._of.setdefault(client, deque()).append(one)
        self._num += 1
        return last

    def pop(self) -> T:
        """The next one: the first of the client whose turn it is. Raises KeyError for an empty queue."""
        client, line = self._of.popitem(last=False)
        one = line.popleft()
        self._num -= 1
        if line:
            self._of[client] = line  # behind all other clients
        return one

    def remove(self, client: str, one: T) -> None:
        """Take out one that waits. Raises KeyError or ValueError where it does not."""
        line = self._of[client]
        line.remove(one)
        self._num -= 1
        if not line:
            del self._of[client]


class Turns:
    """At most `most` have a turn at once; at most `most_waiting` others wait for one (None: any number)."""

    def __init__(self, most: int, most_waiting: int | None = None) -> None:
        self.most, self.num_taken = most, 0
        self.waiting: FairQueue[asyncio.Future[None]] = FairQueue(most_waiting)

    @contextlib.asynccontextmanager
    async def one(self, client: str, wait_s: float | None = None) -> AsyncIterator[None]:
        """Around what needs a turn. Raises FullError, also where another client's turn comes first, and TimeoutError
        after `wait_s` of waiting."""
        await self._take(client, wait_s)
        try:
            yield
        finally:
            self._pass_on()

    async def _take(self, client: str, wait_s: float | None) -> None:
        if self.num_taken < self.most:
            self.num_taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        gone = self.waiting.push(client, turn)
        if gone is not None and not gone.done():
            gone.set_exception(FullError())
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except BaseException:
            if turn.cancelled():
                with contextlib.suppress(KeyError, ValueError):  # passed over, or displaced, at the same time
                    self.waiting.remove(client, turn)
            elif turn.exception() is None:  # the turn came at the time at which the waiting was given up
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while len(self.waiting):
            turn = self.waiting.pop()
            if not turn.done():  # else given up just now
                turn.set_result(None)
                return
        self.num_taken -= 1
