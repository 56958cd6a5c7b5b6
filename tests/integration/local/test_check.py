"""``fairline check`` of servers that answer, but not as one would like."""

from urllib.parse import urlsplit

import pytest

from fairline.cli.check import ask_all

PASSWORD = "a-secret-that-is-wrong"


@pytest.mark.parametrize(
    ("user", "database", "advice"),
    [("nobody-here", "fairline", "are user and password right?"), (None, "no-such-thing", "make that database")],
)
async def test_a_postgres_that_refuses_is_not_said_to_be_down(
    postgres_dsn: str, user: str | None, database: str, advice: str
) -> None:
    at = urlsplit(postgres_dsn)
    who = f"{user or at.username}:{PASSWORD if user else at.password or ''}"
    [found] = await ask_all({"postgres": f"postgresql://{who}@{at.hostname}:{at.port}/{database}"})
    assert found.ok is False
    assert advice in found.said
    assert (user or database) in found.said
    assert "is it up" not in found.said
    assert PASSWORD not in found.said


async def test_a_redis_that_refuses_is_not_said_to_be_down(redis_url: str) -> None:
    at = urlsplit(redis_url)
    [found] = await ask_all({"redis": f"redis://nobody-here:{PASSWORD}@{at.hostname}:{at.port}/0"})
    assert found.ok is False
    assert "are user and password right?" in found.said
    assert "is it up" not in found.said
    assert PASSWORD not in found.said
