"""Fair shares of turns: the queue by a clock that is counted, the turns on an event loop, and the client's name."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from whereupon.serve.app.clients import CLIENT, client_of
from whereupon.serve.app.turns import FairQueue, FullError, Turns


def test_client_with_one_request_waits_for_one_turn_of_each_other_client() -> None:
    queue = FairQueue[str]()
    for number in range(500):
        queue.push("greedy", f"greedy {number}")
    clock = 0.0  # a turn a second
    assert queue.pop() == "greedy 0"
    clock += 1
    queue.push("modest", "modest 0")
    queue.push("third", "third 0")
    served = []
    while not served or served[-1] != "modest 0":
        served.append(queue.pop())
        clock += 1
    assert served == ["greedy 1", "modest 0"]
    assert clock == 3
    assert queue.pop() == "third 0"
    assert (len(queue), queue.num_clients) == (498, 1)


def test_shares_are_equal_while_clients_wait_whatever_they_send() -> None:
    random_ = random.Random(3)
    queue, served = FairQueue[str](), defaultdict[str, list[float]](list)
    for clock in range(300):  # turns: one a tick; requests: 1, 2 and 9 a tick
        for client, num in (("a", 1), ("b", 2), ("c", 9)):
            for _ in range(num):
                queue.push(client, client)
        for _ in range(random_.choice((1, 2))):
            served[queue.pop()].append(clock)
    counts = [len(served[client]) for client in "abc"]
    assert max(counts) - min(counts) <= 1
    assert min(counts) > 100


def test_requests_of_one_client_keep_their_order_and_can_be_taken_out() -> None:
    queue = FairQueue[int]()
    for number in range(4):
        queue.push("a", number)
    queue.remove("a", 1)
    assert [queue.pop() for _ in range(3)] == [0, 2, 3]
    assert len(queue) == queue.num_clients == 0
    with pytest.raises(KeyError):
        queue.pop()
    with pytest.raises(KeyError):
        queue.remove("a", 0)


def test_full_queue_takes_the_last_of_the_client_that_has_most() -> None:
    queue = FairQueue[str](4)
    for number in range(4):
        assert queue.push("greedy", f"g{number}") is None
    with pytest.raises(FullError):
        queue.push("greedy", "g4")
    assert queue.push("modest", "m0") == "g3"
    assert queue.push("modest", "m1") == "g2"
    with pytest.raises(FullError):  # two and two: no client has more than a fair share
        queue.push("modest", "m2")
    with pytest.raises(FullError):  # two against none would only change places
        FairQueue[str](0).push("any", "one")
    assert [queue.pop() for _ in range(4)] == ["g0", "m0", "g1", "m1"]


def _run(scene: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 20))


def test_turns_go_round_and_no_more_than_allowed_are_taken() -> None:
    turns, order, most = Turns(2), list[str](), list[int]()

    async def work(client: str) -> None:
        async with turns.one(client):
            most.append(turns.num_taken)
            order.append(client)
            await asyncio.sleep(0)

    async def scene() -> None:
        greedy = [asyncio.create_task(work("greedy")) for _ in range(50)]
        await asyncio.sleep(0)
        await asyncio.gather(*greedy, work("modest"))

    _run(scene)
    assert order.index("modest") <= 6, "behind those who had a turn before it came, and one of each client"
    assert (max(most), turns.num_taken, len(turns.waiting)) == (2, 0, 0)


def test_who_gives_up_waiting_leaves_no_trace_and_no_turn_is_lost() -> None:
    turns = Turns(1, 2)

    async def hold(client: str, wait_s: float | None = None) -> str:
        async with turns.one(client, wait_s):
            return client

    async def scene() -> None:
        async with turns.one("holder"):
            with pytest.raises(TimeoutError):
                await hold("late", 0.01)
            cancelled = asyncio.create_task(hold("cancelled"))
            patient = asyncio.create_task(hold("patient"))
            await asyncio.sleep(0)
            cancelled.cancel()
        assert turns.num_taken == 1, "passed on to who still waits, at the time of the cancelling"
        assert await patient == "patient"
        # The turn comes at the time at which the waiting is given up.
        async with turns.one("holder"):
            both = asyncio.create_task(hold("both"))
            await asyncio.sleep(0)
        both.cancel()
        await asyncio.gather(cancelled, both, return_exceptions=True)
        assert both.cancelled()

    _run(scene)
    assert (turns.num_taken, len(turns.waiting)) == (0, 0)


def test_last_of_the_longest_line_is_refused_while_it_waits() -> None:
    turns, refused = Turns(1, 2), list[int]()

    async def greedy(number: int) -> None:
        try:
            async with turns.one("greedy"):
                pass
        except FullError:
            refused.append(number)

    async def scene() -> None:
        async with turns.one("holder"):
            waiting = [asyncio.create_task(greedy(number)) for number in range(3)]
            await asyncio.sleep(0)
            assert refused == [2]
            modest = asyncio.create_task(turns.one("modest").__aenter__())
            await asyncio.sleep(0.01)
            assert refused == [2, 1], "2 found the queue full, 1 gave way to the other client"
        await modest
        await asyncio.gather(*waiting)

    _run(scene)


def _scope(address: str, **headers: str) -> dict[str, Any]:
    pairs = [(name.lower().replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "client": (address, 1), "headers": pairs}


def test_client_is_key_and_address_or_what_the_gateway_says() -> None:
    one = client_of(_scope("10.0.0.1", Authorization="Bearer k"), None)
    assert one == client_of(_scope("10.0.0.1", Authorization="Bearer k"), "X-Client")
    others = [
        client_of(_scope("10.0.0.2", Authorization="Bearer k"), None),
        client_of(_scope("10.0.0.1", Authorization="Bearer other"), None),
        client_of(_scope("10.0.0.1"), None),
        client_of(_scope("10.0.0.1", Authorization="Bearer k", X_Client="shop"), "X-Client"),
        client_of({"type": "http", "client": None, "headers": []}, None),
    ]
    assert len({one, *others}) == 6
    named = [client_of(_scope(address, X_Client="shop"), "X-Client") for address in ("10.0.0.1", "10.0.0.2")]
    assert named[0] == named[1]
    assert not any("10.0.0" in name or "shop" in name for name in (one, *others, *named))
    assert CLIENT.get() == ""
