"""Hostile requests: good ones of every route of ours, made wrong in seeded ways."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

Json = Any
_DEEP, _LONG_NUMBER = "@deep@", "@long number@"
_RAW: Final = {_DEEP: "[" * 20_000 + "]" * 20_000, _LONG_NUMBER: "9" * 5000}
"""What no JSON writer would write; put in afterwards."""
VALUES: Final[tuple[Json, ...]] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 1e308, -1e308, 5e-324, float("nan"), float("inf"),
    -float("inf"), _LONG_NUMBER, "", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "\u202e\u2028\r\n\t", "x" * 900_000,
    "é" * 5000, "{{ 7 * 7 }}", "'; DROP TABLE events; --", "../../../etc/passwd", "%s%n%d", "NaN", "1e999", "null",
    "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59", "2024-02-30T00:00:00Z", "2024-01-20T12:00", "-0", [], {}, [[]],
    [None], [0] * 10_000, ["park"] * 10_000, [{}] * 10_000, {"": ""}, {"a": {"a": {"a": 1}}},
    {f"key {i}": i for i in range(10_000)}, _DEEP, {"deep": _DEEP}, [float("nan")], "park", "p00", "rain, 18 C",
)  # fmt: skip
TYPES: Final = ("application/json", "application/json", "application/json", "text/plain", "application/json; charset=x")


@dataclass(frozen=True)
class Hostile:
    """A request, and in words how it came about."""

    method: str
    path: str
    content: bytes
    content_type: str
    kind: str


def good_requests(name: str) -> list[tuple[str, str, Json]]:
    """Method, path and body of requests that a server of the tests' town, called `name`, answers."""
    event = {"event_id": "e1", "user_id": "p00", "item_id": "park", "time": "2024-01-19T10:30:00Z",
             "context": {"weather": "rain"}, "latitude": None, "longitude": None}  # fmt: skip
    past = {"item_id": "cinema", "time": "2024-01-19T10:30:00Z"}
    context = {"at": "2024-01-20T12:00", "weather": "rain, 18 C", "latitude": 40.0, "longitude": -74.0, "columns": {}}
    filters = {"only": ["park", "bar1"], "exclude": ["bar2"], "unseen": False, "open_now": False}
    good = {"user_id": "p00", "events": [past], "context": context, "k": 3, "filters": filters, "max_expansions": 50}
    completion = {"model": name, "prompt": "Friday evening:", "n": 2, "temperature": 0, "seed": 1, "logprobs": 1,
                  "vllm_xargs": {"catalogue": name, "only": "park", "max_expansions": 50}}  # fmt: skip
    tokens = {"prompt": [1, 2, 3], "n": 1, "vllm_xargs": {"catalogue": name}}
    titles = {"cinema": "Old Cinema", "park": "City Park", "bar1": "Bar One", "bar2": "Bar Two", "bar3": "Bar Three"}
    whole = {"items": [{"item_id": item_id, "title": title} for item_id, title in titles.items()]}
    items = {"items": [{"item_id": "new", "title": "A New Bar", "latitude": 40.0, "longitude": -74.0, "stars": 4}]}
    known = {"items": [{"item_id": "bar3", "title": "Bar Three"}]}
    return [
        ("POST", "/v1/recommendations", good), ("POST", "/v1/recommendations", {"user_id": "p01", "explain": True}),
        ("POST", "/v1/recommendations", {"events": [], "context": context}), ("POST", "/v1/completions", completion),
        ("POST", "/v1/completions", tokens), ("POST", "/v1/events", {"events": [event]}),
        ("PUT", f"/v1/catalogues/{name}", whole), ("POST", f"/v1/catalogues/{name}/items", items),
        ("PUT", f"/v1/catalogues/{name}/items", known),
        ("DELETE", f"/v1/catalogues/{name}/items", {"item_ids": ["bar3"]}),
        ("GET", "/v1/events/p00?limit=10", None), ("GET", f"/v1/catalogues/{name}?limit=2&offset=1", None),
        ("DELETE", "/v1/users/nobody", None),
    ]  # fmt: skip


def hostile_requests(name: str, seed: int, num: int) -> Iterator[Hostile]:
    """`num` of them, the routes in turn."""
    rng, good = random.Random(seed), good_requests(name)
    for number in range(num):
        method, path, body = good[number % len(good)]
        if body is None:
            yield Hostile(method, _hostile_path(path, rng), b"", "application/json", "path")
            continue
        how = rng.choice(_WAYS)
        yield Hostile(method, path, how(body, rng), rng.choice(TYPES), how.__name__.strip("_"))


def _hostile_path(path: str, rng: random.Random) -> str:
    """The user, the catalogue or a number of a query made wrong."""
    value = rng.choice([value for value in VALUES if isinstance(value, str | int | float)])
    # Longer lines no HTTP server reads.
    text = quote(str(value)[:3000].encode("utf-8", "surrogatepass"), safe="")
    where, _, query = path.partition("?")
    if query and rng.random() < 0.5:
        return f"{where}?{query.split('=')[0]}={text}"
    return f"{where.rpartition('/')[0]}/{text}"


def _written(body: Json) -> bytes:
    text = json.dumps(body)
    for mark, raw in _RAW.items():
        text = text.replace(f'"{mark}"', raw)
    return text.encode()


def _places(body: Json) -> list[tuple[Any, Any]]:
    """Containers and the keys or places in them, at every depth."""
    inside: list[tuple[Any, Any]] = []
    if isinstance(body, dict | list):
        inside = [(body, key) for key in (body if isinstance(body, dict) else range(len(body)))]
        inside += [
            place for key in list(body if isinstance(body, dict) else range(len(body))) for place in _places(body[key])
        ]
    return inside


def _copied(body: Json) -> Json:
    return json.loads(json.dumps(body))


def _other_value(body: Json, rng: random.Random) -> bytes:
    changed = _copied(body)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        container, key = rng.choice(_places(changed))
        container[key] = _copied(rng.choice(VALUES))  # else the next change could put a value into itself
        changed = changed if _places(changed) else _copied(body)
    return _written(changed)


def _other_body(body: Json, rng: random.Random) -> bytes:
    return _written(rng.choice(VALUES))


def _missing_key(body: Json, rng: random.Random) -> bytes:
    changed = _copied(body)
    container, key = rng.choice(_places(changed))
    del container[key]
    return _written(changed)


def _unknown_key(body: Json, rng: random.Random) -> bytes:
    changed = _copied(body)
    name = rng.choice([value for value in VALUES if isinstance(value, str)])
    rng.choice([changed, *(at[key] for at, key in _places(changed) if isinstance(at[key], dict))])[name] = rng.choice(
        VALUES
    )
    return _written(changed)


def _long_list(body: Json, rng: random.Random) -> bytes:
    changed = _copied(body)
    lists = [at[key] for at, key in _places(changed) if isinstance(at[key], list) and at[key]]
    if not lists:
        return _written([changed] * 10)
    some = rng.choice(lists)
    some *= 10_000 // len(some)
    return _written(changed)


def _cut(body: Json, rng: random.Random) -> bytes:
    content = _written(body)
    return content[: rng.randrange(len(content))]


def _other_bytes(body: Json, rng: random.Random) -> bytes:
    content = bytearray(_written(body))
    for _ in range(rng.randint(1, 5)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def _other_encoding(body: Json, rng: random.Random) -> bytes:
    text = _written(body).decode()
    return rng.choice(
        [text.encode("utf-16"), b"\xef\xbb\xbf" + text.encode(), text.replace("p0", "p\xff").encode("latin-1"),
         text.encode() + b"\0", text.replace('"', '"\xc3').encode("latin-1"), text.encode() * 2]
    )  # fmt: skip


def _large(body: Json, rng: random.Random) -> bytes:
    return rng.choice([b" " * 1_200_000, b"[" * 200_000, b'{"a":' * 100_000, _written(body) + b" " * 500_000])


_WAYS: Final[tuple[Callable[[Json, random.Random], bytes], ...]] = (
    _other_value, _other_value, _other_value, _other_value, _other_value, _unknown_key, _missing_key, _other_body,
    _long_list, _cut, _other_bytes, _other_encoding, _large,
)  # fmt: skip
