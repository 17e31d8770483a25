"""The HTTP server, its launcher, and the batch for all users. Knows nothing of training."""

__all__: list[str] = []
