"""The one way to an answer: request context, history from all sources, candidates, `Recommender`."""

__all__: list[str] = []
