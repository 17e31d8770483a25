"""Markers: what `make test-quick` leaves out."""

import pytest

OURS = {"slow", "vllm", "postgres"}


@pytest.fixture
def markers(pytestconfig: pytest.Config, collected: list[pytest.Item]) -> list[set[str]]:
    """The names of the markers of each test that there is."""
    if pytestconfig.args != pytestconfig.getini("testpaths"):
        pytest.skip("only some of the tests were asked for")
    return [{marker.name for marker in item.iter_markers()} for item in collected]


def test_every_marker_is_registered_and_each_of_ours_is_used(
    markers: list[set[str]], pytestconfig: pytest.Config
) -> None:
    registered = {line.split(":")[0].split("(")[0] for line in pytestconfig.getini("markers")}
    assert set().union(*markers) <= registered
    assert set().union(*markers) >= OURS


def test_quick_tests_are_most_of_all(markers: list[set[str]]) -> None:
    assert sum(not found & OURS for found in markers) > len(markers) / 2
