"""Answers to people and programs. Knows nothing of training."""

__all__: list[str] = []
