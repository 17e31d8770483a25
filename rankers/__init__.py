"""Rankers without a language model, their stack, and its blend with the model. Knows no model and no figures."""

__all__: list[str] = []
