"""`whereupon report` and `whereupon compare`: what `evaluate` left in run folders, told so that a sceptic can check it.

`runs` reads, `statistics` asks the neighbours for intervals and tests, one module a section makes tables and pictures
of them, and `page` puts them into the templates. Nothing here looks at a model's weights.
"""

from .comparison_text import compare
from .page import report

__all__ = ["compare", "report"]
