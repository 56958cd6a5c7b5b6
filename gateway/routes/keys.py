"""Operators' keys: made, listed and revoked by admins."""

from typing import Any, Final

from litestar import Response, delete, get, post
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from fairline import clock
from fairline.runtime import logs
from fairline.store.operators import MOST_KEYS, Operators
from gateway.answers import AnyRequest, answer
from gateway.auth import Keyring, operator_of
from gateway.bodies import OPERATORS_LIMIT_BYTES, Body
from gateway.openapi import OPT, Doc
from gateway.problems import Problem
from gateway.schemas import KeyList, KeyRequest, KeyRow, NewKey


def _doc(summary: str, **more: Any) -> dict[str, Doc]:
    return {OPT: Doc(tag="keys", summary=summary, who="admin", **more)}


_ADD: Final = _doc(
    "Make an operator's key",
    body=KeyRequest,
    answers={201: (NewKey, "the key, told this once")},
    problems=("key_exists", "too_many_keys"),
)
_LIST: Final = _doc("List the keys", answers={200: (KeyList, "names and roles; no keys")})
_REVOKE: Final = _doc(
    "Revoke a key", answers={204: (None, "it opens nothing from within a second on")}, problems=("unknown_key",)
)


def keys(keyring: Keyring, stored: Operators, *, body_timeout_s: float) -> list[ControllerRouterHandler]:
    """The routes, served by these."""
    body = Body(KeyRequest, limit_bytes=OPERATORS_LIMIT_BYTES, within_s=body_timeout_s)
    admin = [keyring.needs("admin")]

    @post("/admin/keys", guards=admin, opt=_ADD)
    async def add_key(request: AnyRequest) -> Response[bytes]:
        wanted = await body.read(request.scope, request.receive)
        added = await stored.add(wanted.name, wanted.role)
        if added == "EXISTS":
            raise Problem("key_exists")
        if isinstance(added, str):
            raise Problem("too_many_keys", f"There may be {MOST_KEYS} keys; revoke one.")
        keyring.forget()
        operator, key = added
        _say(request, "key added", wanted.name)
        new = NewKey(name=operator.name, role=operator.role, created_at=clock.at(operator.created_at_ms), key=key)
        return answer(new, status=201)

    @get("/admin/keys", guards=admin, opt=_LIST)
    async def list_keys() -> Response[bytes]:
        rows = tuple(
            KeyRow(name=operator.name, role=operator.role, created_at=clock.at(operator.created_at_ms))
            for operator in await stored.all()
        )
        return answer(KeyList(keys=rows))

    @delete("/admin/keys/{name:str}", guards=admin, opt=_REVOKE)
    async def revoke_key(request: AnyRequest, name: FromPath[str]) -> Response[None]:
        if not await stored.revoke(name):
            raise Problem("unknown_key")
        keyring.forget()
        _say(request, "key revoked", name)
        return Response(None, status_code=204)

    return [add_key, list_keys, revoke_key]


def _say(request: AnyRequest, action: str, name: str) -> None:
    logs.get(__name__).info("operator", operator=operator_of(request).name, action=action, key_name=name)
