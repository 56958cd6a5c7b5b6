"""What is raised on purpose. Expected outcomes (sold out, already joined) are return values, not exceptions.

    FairlineError
        IllegalMoveError    a ticket was asked for a move that the state table does not have
        FencedError         Redis is not the one this sale was fenced to; say 503 ``recovering`` (rule D1)
        UnavailableError    a server did not answer in time; the caller may try again with the same request id
        UnfitServerError    a server is set up in a way that could lose data; the process does not start
        OverloadedError     a bounded queue is full; nothing was done
        TokenError          a ticket's token is missing, forged or for another ticket

The docstring of each is its default message; ``code`` is stable and is what a client reads.
"""

from typing import ClassVar


class FairlineError(Exception):
    """Something went wrong in Fairline."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class IllegalMoveError(FairlineError):
    """This move is not in the state table."""

    code = "illegal_move"


class FencedError(FairlineError):
    """The sale is halted: Redis may have lost data and is being rebuilt. Nothing was changed."""

    code = "recovering"


class UnavailableError(FairlineError):
    """A server behind this one did not answer in time. Try again."""

    code = "unavailable"


class UnfitServerError(FairlineError):
    """A server behind this one is set up in a way that could lose data."""

    code = "unfit_server"


class OverloadedError(FairlineError):
    """Too many requests are waiting already. Try again in a moment."""

    code = "overloaded"


class TokenError(FairlineError):
    """This call needs the ticket's own token."""

    code = "bad_token"
