"""What a text must contain, whatever its words."""

import re


def says(*facts: str) -> str:
    """A pattern, for `re.search` or `match=`, of texts with all these facts in any order, in capitals or not."""
    return "(?is)" + "".join(f"(?=.*{re.escape(fact)})" for fact in facts)
