"""Operators' keys: who may do what. Only the SHA-256 of a key is kept, so reading Redis gives nobody a key.

A key is 256 random bits, so a plain hash is enough, and finding it by its hash tells a guesser nothing by time.
"""

import hashlib
import secrets
from collections.abc import Awaitable
from typing import Annotated, Final, Literal, cast

import msgspec
from msgspec import Meta
from redis.asyncio import Redis
from redis.exceptions import WatchError

from fairline.clock import now_ms
from fairline.errors import UnavailableError
from fairline.store import keys as names
from fairline.store.client import answering

Role = Literal["viewer", "operator", "admin"]
# Each may do what the ones before it may.
ROLES: Final[tuple[Role, ...]] = ("viewer", "operator", "admin")
MOST_KEYS: Final = 1_000
_ATTEMPTS: Final = 10  # to write while others write; each time one of the others gets through


class Operator(msgspec.Struct, frozen=True):
    """Whom a key stands for."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    role: Role
    created_at_ms: int = 0

    def may(self, role: Role) -> bool:
        """Whether this operator has at least that role."""
        return ROLES.index(self.role) >= ROLES.index(role)


def digest_of(key: str) -> str:
    """What a key is kept and compared as."""
    return hashlib.sha256(key.encode()).hexdigest()


class Operators:
    """The stored keys on one Redis. Raises ``UnavailableError`` like ``Room``."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def find(self, digest: str) -> Operator | None:
        """The operator of a key's digest."""
        with answering():
            record = await cast("Awaitable[bytes | None]", self._redis.hget(names.OPERATOR_KEYS, digest))
        return None if record is None else msgspec.json.decode(record, type=Operator)

    async def all(self) -> list[Operator]:
        """All of them, by name."""
        return sorted((await _records(self._redis)).values(), key=lambda operator: operator.name)

    async def add(self, name: str, role: Role) -> tuple[Operator, str] | str:
        """A new operator and the key, which is not kept anywhere; or EXISTS, or FULL, and then nothing was changed.

        Not safe to repeat: the key of a lost answer is lost; revoke the name and add it again. Raises
        ``UnavailableError`` too where others add keys all the time.
        """
        key = f"fl_{secrets.token_urlsafe(32)}"
        operator = Operator(name=name, role=role, created_at_ms=now_ms())
        for _ in range(_ATTEMPTS):
            with answering():
                async with self._redis.pipeline() as pipe:
                    await pipe.watch(names.OPERATOR_KEYS)
                    # On the connection that it holds: if each held one and asked for another, all would wait.
                    known = (await _records(pipe)).values()
                    if any(each.name == name for each in known):
                        return "EXISTS"
                    if len(known) >= MOST_KEYS:
                        return "FULL"
                    pipe.multi()  # type: ignore[no-untyped-call]
                    pipe.hset(names.OPERATOR_KEYS, digest_of(key), msgspec.json.encode(operator).decode())
                    try:
                        await pipe.execute()
                    except WatchError:
                        continue
                    return operator, key
        raise UnavailableError(f"others changed the keys {_ATTEMPTS} times meanwhile; try again")

    async def revoke(self, name: str) -> bool:
        """Whether there was such a key. A second call finds none."""
        digests = [digest for digest, operator in (await _records(self._redis)).items() if operator.name == name]
        if digests:
            with answering():
                await self._redis.hdel(names.OPERATOR_KEYS, *digests)
        return bool(digests)


async def _records(redis: Redis) -> dict[str, Operator]:
    with answering():
        found = await cast("Awaitable[dict[bytes, bytes]]", redis.hgetall(names.OPERATOR_KEYS))
    return {digest.decode(): msgspec.json.decode(record, type=Operator) for digest, record in found.items()}
