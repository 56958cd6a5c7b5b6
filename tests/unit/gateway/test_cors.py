"""Cross-origin: exact origins, the buyers' calls only."""

from typing import Any

import pytest

from gateway.cors import Cors

SHOP = Cors(["https://shop.example"])


def scope(origin: str | None, *, path: str = "/sales/a", method: str = "GET", asking: bool = False) -> dict[str, Any]:
    headers = [(b"origin", origin.encode())] if origin else []
    if asking:
        headers.append((b"access-control-request-method", b"POST"))
    return {"headers": headers, "path": path, "method": method}


def test_a_known_origin_may_read() -> None:
    assert dict(SHOP.headers(scope("https://shop.example")))[b"access-control-allow-origin"] == b"https://shop.example"


@pytest.mark.parametrize("origin", [None, "null", "https://shop.example.evil", "http://shop.example", "https://x"])
def test_another_origin_may_not(origin: str | None) -> None:
    assert SHOP.headers(scope(origin)) == [(b"vary", b"Origin")]


def test_operators_calls_are_never_shared() -> None:
    assert SHOP.headers(scope("https://shop.example", path="/admin/sales")) == []


def test_without_a_setting_nothing_is_shared() -> None:
    assert Cors([]).headers(scope("https://shop.example")) == []


def test_a_browser_s_question_is_answered() -> None:
    asked = scope("https://shop.example", method="OPTIONS", asking=True)
    assert b"access-control-allow-methods" in dict(SHOP.preflight(asked) or [])
    other = scope("https://evil.example", method="OPTIONS", asking=True)
    assert b"access-control-allow-methods" not in dict(SHOP.preflight(other) or [])
    assert SHOP.preflight(scope("https://shop.example", method="OPTIONS")) is None
