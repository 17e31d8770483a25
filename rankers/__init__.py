"""Whatever ranks without a language model, and what of it is blended into one. Knows no model and no figures."""

__all__: list[str] = []
