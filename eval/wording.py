"""Number formatting for text and tables: three decimals, a true minus sign, an en dash for what is not known."""

from __future__ import annotations

import math

MINUS = "\N{MINUS SIGN}"

NONE = "\N{EN DASH}"
ON_VALIDATION = "These events have chosen the settings of baselines and calibrations; judge by those of the test split."
_THIN = "\N{NARROW NO-BREAK SPACE}"


def plain(value: float | None, decimals: int = 3) -> str:
    """0.542; an en dash for what is not known."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return f"{MINUS if value < 0 else ''}∞"
    shown = f"{value:,.{decimals}f}"
    return shown.removeprefix("-") if float(shown.replace(",", "")) == 0 else shown.replace("-", MINUS)


def signed(value: float | None, decimals: int = 3) -> str:
    """+0.012 or −0.012: a difference; 0.000 has no sign."""  # noqa: RUF002
    shown = plain(value, decimals)
    positive = value is not None and value > 0 and any(c in "123456789∞" for c in shown)
    return f"+{shown}" if positive else shown


def span(low: float | None, high: float | None, decimals: int = 3, sign: bool = False) -> str:
    """An interval in words, since a dash between negative numbers cannot be read."""
    form = signed if sign else plain
    ends = form(low, decimals), form(high, decimals)
    return NONE if NONE in ends else " to ".join(ends)


def share(value: float, decimals: int = 1) -> str:
    """A share as a percentage."""
    return NONE if math.isnan(value) else f"{plain(100 * value, decimals)}{_THIN}%"


def p_value(p: float | None) -> str:
    """Never 0: below 0.001 that is all that is said."""
    if p is None or math.isnan(p):
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(number: float) -> str:
    return f"{number:,.0f}"


def duration(seconds: float | None) -> str:
    """0.04 s, 62 s, 14 min, 3.2 h."""
    if seconds is None or math.isnan(seconds):
        return NONE
    if seconds < 100:
        return f"{seconds:.{2 if seconds < 1 else 1 if seconds < 10 else 0}f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
