"""Settings of `whereupon serve`."""

from __future__ import annotations

from typing import Self

from pydantic import ConfigDict, Field, model_validator

from ..recommend.settings import RecommendConfig, StoreSettings


class ServeSettings(StoreSettings):
    """How the server answers, what it accepts, and where it keeps what happens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(
        None, description="Name of model and catalogue in requests; by default that of the run folder."
    )
    host: str = Field("127.0.0.1", description="Address to listen at; 0.0.0.0 for all. Then set an API key.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen at; 0 takes a free one.")
    api_key_variable: str = Field(
        "WHEREUPON_API_KEY",
        description="Environment variable that holds the API key; unset or empty: no key is required.",
    )
    admin_key_variable: str = Field(
        "WHEREUPON_ADMIN_KEY",
        description="Environment variable that holds the key for changes of the catalogue, the stored events of users "
        "and their deletion; unset or empty: the API key opens these too.",
    )
    kv_cache_gib: float = Field(
        2.0, gt=0, description="Size of the KV cache in GiB, on a CPU; a GPU uses the memory that is free."
    )
    max_k: int = Field(100, ge=1, description="Most items that one request may get (k, or n).")
    max_body_kib: int = Field(1024, ge=1, description="Largest body of a request.")
    max_expansions: int = Field(5000, ge=1, description="Most nodes one search may expand, whatever a request says.")
    max_searches: int = Field(
        64,
        ge=1,
        description="How many searches, and how many requests, may run at once. As many requests wait. If more "
        "come, those of the client with the most waiting requests get 429.",
    )
    max_wait_s: float = Field(
        10.0, ge=0, description="How long a request may wait for its turn before it gets 429, in seconds."
    )
    client_header: str | None = Field(
        None,
        min_length=1,
        description="Header in which a gateway names the client. Clients that wait take turns. Without the header, a "
        "client is an API key at an address.",
    )
    request_timeout_s: float = Field(
        120.0, gt=0, description="How long a request may run, in seconds; then it is given up and gets 503."
    )
    plain_routes: bool = Field(
        False, description="Open vLLM's own routes too, which answer without the catalogue, such as chats."
    )
    explain_seconds: float = Field(
        10.0,
        ge=0,
        description="How long an explanation may take; less than request_timeout_s. The answer names what is not done "
        "by then.",
    )
    start_timeout_s: float = Field(600.0, gt=0, description="How long the model may take to load.")
    log_requests: bool = Field(False, description="Log user ids, places and prompts.")
    traces: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="URL of an OpenTelemetry collector that gets a trace of each request: http://HOST:4317 for OTLP "
        "over gRPC, http://HOST:4318/v1/traces for OTLP over HTTP.",
    )
    page: bool = Field(
        True, description="Serve a page for people at `/`; its data comes from the routes, with their keys."
    )

    @model_validator(mode="after")
    def _explanations_fit_in_a_request(self) -> Self:
        """A request with an explanation also needs time for the answer."""
        if self.explain_seconds >= self.request_timeout_s:
            raise ValueError(
                f"explain_seconds should be below request_timeout_s, found {self.explain_seconds:g} and "
                f"{self.request_timeout_s:g}; lower the first or raise the second"
            )
        return self


class ServeConfig(RecommendConfig):
    """What a server needs to know."""

    serve: ServeSettings = Field(default_factory=ServeSettings)

    @property
    def name(self) -> str:
        """Name of model and catalogue in requests."""
        return self.serve.name or self.run.name
