"""Addresses as settings: what is no address is refused at the start, with its secret part hidden."""

import re
from collections.abc import Callable
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, StringConstraints

HIGHEST_PORT: Final = 65535
_NAME = r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?"  # the resolver raises UnicodeError for any other
_HOST = re.compile(rf"(\[[0-9A-Fa-f:.]+\]|{_NAME})(?::(\d{{1,5}}))?")
_USER = re.compile(r"(?<=://)[^/?#]*@")


def hidden(text: str) -> str:
    """The address without its user and password, for people and logs."""
    return _USER.sub("***@", text)


def check_hosts(hosts: str, *, port: bool = False) -> None:
    """Raises ``ValueError`` unless this is ``host[:port][,...]``; ``port`` demands the port."""
    for each in hosts.split(","):
        found = _HOST.fullmatch(each)
        if found is None or (port and found[2] is None) or not 0 < int(found[2] or 1) <= HIGHEST_PORT:
            what = "host:port" if port else "a host, or host:port"
            raise ValueError(f"{each!r} is not {what} with a port from 1 to {HIGHEST_PORT}")


def check_url(url: str, *schemes: str) -> None:
    """Raises ``ValueError`` unless this is a URL of one of the schemes, with a host (or a path, for ``unix``)."""
    parts = urlsplit(url)
    if parts.scheme not in schemes:
        raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("must name the path of a socket: unix:///path")
        return
    check_hosts(parts.netloc.rpartition("@")[2])


def _url(*schemes: str) -> AfterValidator:
    def check(url: str) -> str:
        check_url(url, *schemes)
        return url

    return AfterValidator(check)


def _checked(check: Callable[[str], None]) -> AfterValidator:
    def checked(text: str) -> str:
        check(text)
        return text

    return AfterValidator(checked)


def _brokers(text: str) -> None:
    check_hosts(text, port=True)


RedisUrl = Annotated[str, _url("redis", "rediss", "unix")]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^\S+$"), _url("http", "https")]
WsUrl = Annotated[str, StringConstraints(pattern=r"^\S+$"), _url("ws", "wss")]
Brokers = Annotated[str, _checked(_brokers)]
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:_-]+$")]
Origins = Annotated[str, StringConstraints(pattern=r"^(https?://[a-z0-9.\-\[\]:]+(, *https?://[a-z0-9.\-\[\]:]+)*)?$")]
