"""The process of vLLM: installed, started, watched and ended."""

__all__: list[str] = []
