"""`whereupon report` and `whereupon compare`: what `evaluate` left in run folders, so that a sceptic can check it.

`runs` reads, `statistics` takes from its neighbours intervals and tests, `sections` and its neighbours make tables and
`pictures` of them, and `page` puts them into the templates. Nothing here looks at a model's weights.
"""

from .comparison import compare
from .page import report

__all__ = ["compare", "report"]
