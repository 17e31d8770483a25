"""HTTP: routes inside of vLLM's server."""

__all__: list[str] = []
