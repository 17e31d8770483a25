"""The process of vLLM: installed, started, watched and ended."""
