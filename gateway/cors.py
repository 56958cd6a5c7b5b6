"""Cross-origin rules: which pages of other sites may call the buyers' part of the API. Exact origins, none by default.

No credentials: nothing here is known by a cookie. Operators' calls are never shared.
"""

from collections.abc import Sequence
from typing import Final

from gateway.bodies import Scope, header
from gateway.problems import Headers

_SHARED: Final = "/sales/"
_PREFLIGHT: Final[Headers] = [
    (b"access-control-allow-methods", b"GET, POST, DELETE"),
    (b"access-control-allow-headers", b"authorization, content-type, idempotency-key, x-request-id"),
    (b"access-control-max-age", b"600"),
    (b"content-length", b"0"),
]
_EXPOSED: Final = (b"access-control-expose-headers", b"etag, retry-after, x-request-id")
_VARY: Final = (b"vary", b"Origin")


class Cors:
    """Decides by the ``Origin`` of a request."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origins)

    def headers(self, scope: Scope) -> Headers:
        """What to add to the answer; nothing where no other site may call at all."""
        if not self._origins or not scope["path"].startswith(_SHARED):
            return []
        origin = header(scope, b"origin")
        if origin not in self._origins:
            return [_VARY]
        return [(b"access-control-allow-origin", origin.encode()), _EXPOSED, _VARY]

    def preflight(self, scope: Scope) -> Headers | None:
        """The headers of the answer (204) where this is a browser's question beforehand."""
        if scope["method"] != "OPTIONS" or header(scope, b"access-control-request-method") is None:
            return None
        return _PREFLIGHT if len(self.headers(scope)) > 1 else _PREFLIGHT[-1:]
