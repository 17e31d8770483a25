"""The routes of the server: which there are, who may use them, and what the OpenAPI schema promises."""

from typing import Any

import pytest

from whereupon.tests.serve.app.answers import refused

pytestmark = pytest.mark.usefixtures("vllm_imported")


def test_openapi_names_all_routes(server: Any) -> None:
    paths = server.get("/openapi.json").json()["paths"]
    assert {"/v1/completions", "/v1/recommendations", "/v1/catalogues", "/v1/events", "/health"} <= set(paths)


def test_openapi_promises_what_answers_hold(server: Any) -> None:
    schema = server.get("/openapi.json").json()
    assert "content" not in schema["paths"]["/health"]["get"]["responses"]["200"]
    assert server.get("/health").headers.get("content-type") is None
    for name in ("Context", "PastEvent"):
        both, neither = schema["components"]["schemas"][name]["anyOf"]
        assert both["required"] == ["latitude", "longitude"]
        assert both["properties"].keys() == neither["properties"].keys() == {"latitude", "longitude"}
    routes = [
        (method, path) for path, methods in schema["paths"].items() if path.startswith("/v1/") for method in methods
    ]
    assert len(routes) >= 9
    for method, path in routes:
        assert {"400", "401", "503"} <= set(schema["paths"][path][method]["responses"]), path


def test_keys_guard_the_routes_of_the_server(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHEREUPON_SERVE_QUERY_KEY", "a5k")
    monkeypatch.setenv("WHEREUPON_SERVE_ADMIN_KEY", "adm1n")
    server = start()
    with_api_key, admin = ({"Authorization": f"Bearer {key}"} for key in ("a5k", "adm1n"))
    assert server.get("/health").status_code == 200
    assert refused(server.delete("/v1/users/p00"), 401)
    assert refused(server.delete("/v1/users/p00", headers=with_api_key), 403)
    assert server.get("/v1/catalogues", headers=with_api_key).status_code == 200
    assert server.get("/v1/events/p00", headers=admin).status_code == 200
    assert server.delete("/v1/users/p00", headers=admin).status_code == 200


def test_health_fails_with_the_model(server: Any) -> None:
    assert server.get("/health").status_code == 200
    server.engine.is_alive = False
    assert "does not answer" in refused(server.get("/health"), 503)
