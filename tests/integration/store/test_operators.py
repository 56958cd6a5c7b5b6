"""Operators' keys, made by many at once."""

import asyncio

from fairline.errors import UnavailableError
from fairline.store.client import connect
from fairline.store.operators import Operators
from tests.support.sale import a_name


async def test_more_keys_at_once_than_there_are_connections(redis_url: str) -> None:
    redis = connect(redis_url, name="keys", max_connections=2)
    stored = Operators(redis)
    name = a_name(of="key")
    added = await asyncio.gather(*(stored.add(name, "viewer") for _ in range(6)))
    assert [type(each) for each in added].count(tuple) == 1
    assert [each for each in added if isinstance(each, str)] == ["EXISTS"] * 5
    await redis.aclose()


async def test_a_key_that_was_not_made_is_not_said_to_exist(redis_url: str) -> None:
    redis = connect(redis_url, name="keys", max_connections=40)
    stored = Operators(redis)
    names = [a_name(of="key") for _ in range(40)]
    added = await asyncio.gather(*(stored.add(name, "viewer") for name in names), return_exceptions=True)
    made = {name for name, each in zip(names, added, strict=True) if isinstance(each, tuple)}
    assert made
    assert {type(each) for each in added} <= {tuple, UnavailableError}
    assert {operator.name for operator in await stored.all()} & set(names) == made
    await redis.aclose()
