"""Who asks: operators by their key. Litestar guards on the operators' routes.

The key of ``FAIRLINE_OPERATOR_KEY`` is an admin without being stored, so that the first stored key can be made and
Redis's loss locks nobody out. What Redis said of a key is kept for less than a second, so a revoked one ends then.
"""

import hmac
import time
from collections import OrderedDict
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from fairline.store.operators import Operator, Operators, Role, digest_of
from gateway.bodies import bearer
from gateway.problems import Problem
from gateway.settings import LONGEST_KEY_LENGTH

KEEP_S: Final = 0.8
MOST_KEPT: Final = 1_000
_OPERATOR: Final = "fairline_operator"


class Keyring:
    """Finds the operator of a key."""

    def __init__(self, operators: Operators, first_key: str | None) -> None:
        self._operators = operators
        self._first = digest_of(first_key) if first_key else ""
        self._kept: OrderedDict[str, tuple[Operator | None, float]] = OrderedDict()

    async def operator(self, key: str) -> Operator | None:
        """The operator of this key; nothing for a key that nobody has."""
        if len(key) > LONGEST_KEY_LENGTH:
            return None
        digest = digest_of(key)
        if self._first and hmac.compare_digest(digest, self._first):
            return Operator(name="first", role="admin")
        found, until = self._kept.get(digest, (None, 0.0))
        if time.monotonic() < until:
            return found
        asked_at = time.monotonic()
        found = await self._operators.find(digest)
        self._kept[digest] = (found, asked_at + KEEP_S)
        self._kept.move_to_end(digest)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return found

    def forget(self) -> None:
        """Ask again from now on: a key was made or revoked here."""
        self._kept.clear()

    def needs(self, role: Role) -> Guard:
        """A guard that lets operators of at least this role pass."""

        async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
            key = bearer(connection.scope)
            operator = await self.operator(key) if key else None
            if operator is None:
                problem = Problem("bad_key" if key else "key_required")
                problem.headers.append((b"www-authenticate", b'Bearer realm="fairline operators"'))
                raise problem
            if not operator.may(role):
                raise Problem("not_allowed", f"This call needs the role {role}; this key has {operator.role}.")
            connection.scope["state"][_OPERATOR] = operator

        return guard


def operator_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Operator:
    """Who passed the guard of this request."""
    operator: Operator = connection.scope["state"][_OPERATOR]
    return operator
