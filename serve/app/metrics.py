"""What the server counts, shown beside vLLM's own figures under /metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60)
_COUNTS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 100, 200, 500, 1000, 5000)

SEARCHES = Counter("whereupon_searches", "Finished searches.", ["kind", "exact"])
ABANDONED = Counter("whereupon_searches_abandoned", "Searches given up: the client left, or the model failed.")
REFUSED = Counter("whereupon_requests_refused", "Requests refused because too many were running or waiting.")
RUNNING = Gauge("whereupon_searches_running", "Searches that run now.")
SECONDS = Histogram("whereupon_search_seconds", "From the prompt to the ranking.", buckets=_SECONDS)
ROUNDS = Histogram("whereupon_search_rounds", "Rounds of the model for one search.", buckets=_COUNTS)
EXPANSIONS = Histogram("whereupon_search_expansions", "Expanded nodes of the trie for one search.", buckets=_COUNTS)
PROMPT_TOKENS = Counter("whereupon_prompt_tokens", "Tokens of the searches' prompts.")
REQUESTED_TOKENS = Counter("whereupon_requested_tokens", "Tokens that searches gave to the model, prefixes included.")
CACHED_TOKENS = Counter("whereupon_cached_tokens", "Of those, tokens that the prefix cache had already.")
ITEMS = Gauge("whereupon_catalogue_items", "Items of the catalogue that is served.")
EDITS = Counter("whereupon_catalogue_edits", "Versions of the catalogue that this server wrote.")
