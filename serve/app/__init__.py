"""HTTP: routes inside of vLLM's server."""
