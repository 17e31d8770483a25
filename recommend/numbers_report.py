"""The context's numbers side by side: their information about the next choice, and what they have in common.

Shapes: see `arrays`; W = columns, D = principal components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.table import Table

from ..arrays import Float64
from ..histories import Histories
from ..histories.information import Information
from ..rankers.numbers import number_information, number_values, principal_components, scaling


@dataclass(frozen=True)
class NumberReport:
    """Of the training events: `item_W` and `category_W` are what a column says of the next one given the user's
    routine, None for a column of one value, `category_W` empty without categories. Columns are standardised;
    `loading_WD` float64 are the principal components of length 1, `share_D` their shares of the variance."""

    names: tuple[str, ...]
    item_W: tuple[Information | None, ...]
    category_W: tuple[Information | None, ...]
    loading_WD: Float64
    share_D: Float64


def number_report(histories: Histories) -> NumberReport | None:
    """None where the context has no numbers."""
    standard = scaling(histories, "valid", "standard")
    if not standard.names:
        return None
    value_NW = number_values(histories, standard.names)[histories.split_N == 0]
    variance_D, loading_WD = principal_components(np.nan_to_num(standard.of(value_NW)))
    share_D = np.maximum(variance_D, 0.0) / max(float(variance_D.sum()), 1e-12)
    item_W = _by_name(standard.names, number_information(histories, "valid", "item"))
    category_W: tuple[Information | None, ...] = ()
    if "category" in histories.items.columns:
        category_W = _by_name(standard.names, number_information(histories, "valid", "category"))
    return NumberReport(standard.names, item_W, category_W, loading_WD, share_D)


def _by_name(names: tuple[str, ...], found: list[Information]) -> tuple[Information | None, ...]:
    by_name = {one.name: one for one in found}
    return tuple(by_name.get(name) for name in names)


def number_table(report: NumberReport) -> Table:
    """A row for each column, and one for the shares of the variance."""
    title = "what each number says given the user's routine, and principal components of the standardised numbers"
    table = Table(title=title, title_justify="left", box=None)
    parts = [("item", report.item_W), *([("category", report.category_W)] if report.category_W else [])]
    headings = [f"{of}{of_what}" for of, _ in parts for of_what in (" bits", " p")]
    components = [f"component {number}" for number in range(1, len(report.share_D) + 1)]
    for heading in ("number", *headings, *components):
        table.add_column(heading, justify="left" if heading == "number" else "right")
    for at, name in enumerate(report.names):
        cells = [cell for _, found_W in parts for cell in _cells(found_W[at])]
        table.add_row(name, *cells, *(f"{loading:+.2f}" for loading in report.loading_WD[at]))
    table.add_row("share of the variance", *[""] * len(headings), *(f"{share:.0%}" for share in report.share_D))
    return table


def _cells(one: Information | None) -> tuple[str, str]:
    return ("", "") if one is None else (f"{one.corrected_bits:.3f}", f"{one.p_value:.2f}")
