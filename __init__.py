"""whereupon recommends what comes next for a person, given where they are, when it is and what the weather does.

The repository root is this package: each folder beside this file is one stage (see ARCHITECTURE.md).
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
