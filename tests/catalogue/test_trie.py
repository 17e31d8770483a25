"""The token trie: by hand on eight tokens, and against a trie of dictionaries."""

from collections.abc import Sequence
from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whereupon.catalogue import Catalogue, Trie, build_trie, build_trie_ragged
from whereupon.errors import CatalogueError

Titles = list[list[int]]

# Eight tokens: 0 "\n", 1 " Blue", 2 " Red", 3 " Cafe", 4 " Bar", 5 " Park", 6 " North", 7 " South".
TOWN = {
    "Red Bar": [2, 4, 0],  # row 3
    "Blue Cafe North": [1, 3, 6, 0],  # row 0
    "Red Park": [2, 5, 0],  # row 4
    "Blue Bar": [1, 4, 0],  # row 2
    "Blue Cafe South": [1, 3, 7, 0],  # row 1
}


@pytest.fixture
def town() -> Trie:
    return build_trie(list(TOWN.values()), list(TOWN))


def _prefix_free(candidates: list[list[int]]) -> Titles:
    """Those that neither begin an earlier candidate nor are begun by one."""
    kept: Titles = []
    for tokens in candidates:
        if not any(other[: len(tokens)] == tokens or tokens[: len(other)] == other for other in kept):
            kept.append(tokens)
    return kept


tokens = st.lists(st.integers(0, 3), min_size=1, max_size=6)
catalogues = st.builds(
    lambda shared, candidates: [shared + title for title in _prefix_free(candidates)],
    st.one_of(st.just([]), st.lists(st.integers(0, 3), max_size=12)),
    st.lists(tokens, min_size=1, max_size=25),
)


def _naive_nodes(titles: Titles) -> dict[tuple[int, ...], dict[int, list[int]]]:
    """Every branching prefix: its next tokens, and the items behind each."""
    nodes: dict[tuple[int, ...], dict[int, list[int]]] = {}
    for item, title in enumerate(titles):
        for depth, token in enumerate(title):
            nodes.setdefault(tuple(title[:depth]), {}).setdefault(token, []).append(item)
    return {prefix: children for prefix, children in nodes.items() if len(children) > 1}


def _naive_path(titles: Titles, item: int) -> list[tuple[tuple[int, ...], int]]:
    """The branching prefixes on a title's way, and the token taken at each."""
    nodes, title = _naive_nodes(titles), titles[item]
    return [(tuple(title[:d]), title[d]) for d in range(len(title)) if tuple(title[:d]) in nodes]


def _prefix(trie: Trie, node: int) -> tuple[int, ...]:
    return tuple(trie.row_tokens(trie.row_lo_B[node])[: trie.depth_B[node]].tolist())


# By hand


def test_town_has_its_titles_sorted_by_tokens(town: Trie) -> None:
    assert town.item_of_row_I.tolist() == [1, 4, 3, 0, 2]
    assert town.row_of_item_I.tolist() == [3, 0, 4, 2, 1]
    assert town.length_I.tolist() == [4, 4, 3, 3, 3]
    assert town.token_P.tolist() == [1, 3, 6, 0, 1, 3, 7, 0, 1, 4, 0, 2, 4, 0, 2, 5, 0]
    assert town.token_ptr_I1.tolist() == [0, 4, 8, 11, 14, 17]
    assert [town.row_tokens(row).tolist() for row in (1, 4)] == [[1, 3, 7, 0], [2, 5, 0]]
    assert town.tokens_at(np.array([4, 0, 0]), np.array([1, 3, 2])).tolist() == [5, 0, 6]


def test_town_branches_at_colour_blue_cafe_and_red(town: Trie) -> None:
    """Nodes: the top, "Blue", "Blue Cafe", "Red"; after "Blue Bar" only a newline may come, which is no decision."""
    assert town.num_nodes == 4
    assert town.depth_B.tolist() == [0, 1, 2, 1]
    assert town.row_lo_B.tolist() == [0, 0, 0, 3]
    assert town.row_hi_B.tolist() == [5, 3, 2, 5]


def test_town_edges_lead_to_nodes_and_items(town: Trie) -> None:
    assert town.child_ptr_B1.tolist() == [0, 2, 4, 6, 8]
    assert town.child_token_C.tolist() == [1, 2, 3, 4, 6, 7, 4, 5]
    assert town.child_lo_C.tolist() == [0, 3, 0, 2, 0, 1, 3, 4]
    assert town.child_node_C.tolist() == [1, 3, 2, -1, -1, -1, -1, -1]
    assert town.parent_node_of_edge_C.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert town.child_hi(np.arange(8)).tolist() == [3, 5, 2, 3, 1, 2, 4, 5]
    assert town.child_hi(np.array([7, 0])).tolist() == [5, 3]


def test_town_decisions_of_a_history_follow_each_title_from_the_top(town: Trie) -> None:
    """Blue Cafe South, Red Bar, Blue Cafe South again."""
    query, node, edge = town.decisions(np.array([4, 0, 4]))
    assert query.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert node.tolist() == [0, 1, 2, 0, 3, 0, 1, 2]
    assert edge.tolist() == [0, 2, 5, 1, 6, 0, 2, 5]


def test_decisions_of_no_titles_are_none(town: Trie) -> None:
    assert [column.tolist() for column in town.decisions(np.array([], np.int64))] == [[], [], []]


def test_titles_sharing_all_but_one_token_branch_once_and_deep() -> None:
    trie = build_trie([[1, 2, 3, 4, 5, 0], [1, 2, 3, 4, 6, 0]])
    assert (trie.num_nodes, trie.depth_B.tolist(), trie.child_token_C.tolist()) == (1, [4], [5, 6])


def test_one_item_leaves_nothing_to_decide() -> None:
    trie = build_trie([[3, 1, 0]])
    assert (trie.num_items, trie.num_nodes, trie.child_ptr_B1.tolist()) == (1, 0, [0])
    assert trie.title_tokens(0).tolist() == [3, 1, 0]
    assert [column.tolist() for column in trie.decisions(np.array([0, 0]))] == [[], [], []]


# Refusals


def test_empty_catalogue_is_refused() -> None:
    with pytest.raises(CatalogueError, match="The catalogue is empty: expected at least one item"):
        build_trie([])


def test_title_without_tokens_is_refused_by_name() -> None:
    with pytest.raises(CatalogueError, match=r"^The title 'Bar' has no tokens \(1 such titles\); expected text .*\.$"):
        build_trie([[1, 0], []], ["Cafe", "Bar"])


def test_titles_with_the_same_tokens_are_refused_by_name() -> None:
    with pytest.raises(
        CatalogueError, match=r"^The titles 'Bar' and 'BAR' have the same tokens \(2 such pairs\); .*\.$"
    ):
        build_trie([[1, 0], [2, 3, 0], [2, 3, 0], [2, 3, 0]], ["Cafe", "Bar", "BAR", "bar"])


def test_title_that_begins_another_is_refused_by_name_whatever_the_order() -> None:
    said = r"^The tokens of title 'Bar' begin those of 'Bar 2' \(1 such pairs\); expected titles .*\.$"
    with pytest.raises(CatalogueError, match=said):
        build_trie([[1, 5], [1], [0]], ["Bar 2", "Bar", "Cafe"])


def test_title_that_begins_others_further_down_is_refused() -> None:
    with pytest.raises(CatalogueError, match="The tokens of title number 2 begin those of number 0"):
        build_trie([[1, 5, 0], [1, 5, 3], [1]])


def test_titles_that_have_equal_tokens_are_refused_from_the_catalogue() -> None:
    def shout(texts: Sequence[str]) -> list[list[int]]:
        return [[ord(letter) for letter in text.upper()] for text in texts]

    with pytest.raises(CatalogueError, match="'bar' and 'Bar' have the same tokens"):
        Catalogue.build(pl.DataFrame({"item_id": ["a", "b"], "title": ["bar", "Bar"]}), shout)


# Against the naive trie


@given(catalogues)
@settings(deadline=None)
def test_nodes_and_edges_are_those_of_the_naive_trie(titles: Titles) -> None:
    trie, naive = build_trie(titles), _naive_nodes(titles)
    assert {_prefix(trie, node) for node in range(trie.num_nodes)} == naive.keys()
    assert trie.num_nodes == len(naive), "no node twice"
    for node in range(trie.num_nodes):
        prefix = _prefix(trie, node)
        edges = range(trie.child_ptr_B1[node], trie.child_ptr_B1[node + 1])
        assert [int(trie.child_token_C[edge]) for edge in edges] == sorted(naive[prefix])
        rows = range(trie.row_lo_B[node], trie.row_hi_B[node])
        assert {int(trie.item_of_row_I[row]) for row in rows} == {i for items in naive[prefix].values() for i in items}
        ends = [*(int(trie.child_lo_C[edge]) for edge in edges[1:]), int(trie.row_hi_B[node])]
        assert trie.child_hi(np.arange(edges.start, edges.stop)).tolist() == ends
        for edge, end in zip(edges, ends, strict=True):
            items = naive[prefix][int(trie.child_token_C[edge])]
            assert sorted(trie.item_of_row_I[trie.child_lo_C[edge] : end]) == sorted(items)
            child = int(trie.child_node_C[edge])
            assert (child == -1) == (len(items) == 1)
            if child >= 0:
                assert (trie.row_lo_B[child], trie.row_hi_B[child]) == (trie.child_lo_C[edge], end)


@given(catalogues)
@settings(deadline=None)
def test_topmost_node_comes_first_and_parents_before_children(titles: Titles) -> None:
    trie = build_trie(titles)
    if trie.num_nodes:
        assert (trie.row_lo_B[0], trie.row_hi_B[0]) == (0, len(titles))
    inner = trie.child_node_C >= 0
    assert (trie.child_node_C[inner] > trie.parent_node_of_edge_C[inner]).all()
    assert sorted(trie.child_node_C[inner]) == list(range(1, trie.num_nodes)), "every other node has one parent"


@given(catalogues, st.data())
@settings(deadline=None)
def test_decisions_are_the_naive_paths(titles: Titles, data: st.DataObject) -> None:
    trie = build_trie(titles)
    items = data.draw(st.lists(st.integers(0, len(titles) - 1), max_size=8))
    owner, node, edge = trie.decisions(np.array(items, np.int64))
    found = [
        (int(o), _prefix(trie, int(n)), int(trie.child_token_C[e])) for o, n, e in zip(owner, node, edge, strict=True)
    ]
    assert found == [(place, *step) for place, item in enumerate(items) for step in _naive_path(titles, item)]
    assert (trie.parent_node_of_edge_C[edge] == node).all()


@given(catalogues)
@settings(deadline=None)
def test_titles_come_back_by_item(titles: Titles) -> None:
    trie = build_trie(titles)
    assert [trie.title_tokens(item).tolist() for item in range(len(titles))] == titles
    assert [trie.row_tokens(row).tolist() for row in range(len(titles))] == sorted(titles)
    for row, title in enumerate(sorted(titles)):
        depth = np.arange(len(title))
        assert trie.tokens_at(np.full(len(title), row), depth).tolist() == title
    assert trie.length_I.tolist() == [len(title) for title in sorted(titles)]


@given(catalogues)
@settings(deadline=None)
def test_flat_titles_build_the_same_trie(titles: Titles) -> None:
    flat = np.array([token for title in titles for token in title], np.int32)
    one, other = build_trie_ragged(flat, np.cumsum([0, *map(len, titles)])), build_trie(titles)
    for name in one.__dataclass_fields__:
        assert getattr(one, name).tolist() == getattr(other, name).tolist(), name
        assert getattr(one, name).dtype == (np.int64 if "_ptr_" in name else np.int32), name


@given(catalogues, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_of_items_changes_only_their_numbers(titles: Titles, random: Random) -> None:
    order = list(range(len(titles)))
    random.shuffle(order)
    one, other = build_trie(titles), build_trie([titles[item] for item in order])
    assert [order[item] for item in other.item_of_row_I] == one.item_of_row_I.tolist()
    for name in one.__dataclass_fields__.keys() - {"item_of_row_I", "row_of_item_I"}:
        assert getattr(one, name).tolist() == getattr(other, name).tolist(), name


@given(st.lists(tokens, min_size=1, max_size=12))
@settings(deadline=None)
def test_catalogue_is_refused_exactly_where_a_title_begins_another(titles: Titles) -> None:
    if len(_prefix_free(titles)) == len(titles):
        build_trie(titles)
    else:
        with pytest.raises(CatalogueError):
            build_trie(titles)
