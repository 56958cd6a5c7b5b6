r"""The identities of the domain and their one spelling, the same in JSON, tokens, Kafka and Postgres.

A lookahead closes the patterns because ``$`` alone lets a trailing newline through in Python; ``\Z`` is no word of
the regular expressions that JSON Schema speaks.
"""

import unicodedata
import uuid
from typing import Annotated, Final

from msgspec import Meta

MAX_BUYER_LENGTH: Final = 128

SaleId = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9-]{0,63}$(?!\n)",
        description="1 to 64 lower-case letters, digits and hyphens; starts with a letter or digit",
    ),
]
Sku = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._-]{1,64}$(?!\n)",
        description="1 to 64 letters, digits, dots, hyphens, underscores",
    ),
]
BuyerId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_BUYER_LENGTH,
        description="1 to 128 printable characters, no space at an end",
    ),
]
TicketId = Annotated[
    str,
    Meta(
        pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$(?!\n)",
        description="a UUID in its lower-case spelling",
    ),
]

# Names the tickets that a client's own request id brings forth; any constant would do, it must only never change.
_REQUESTS: Final = uuid.UUID("6e4a1f0c-5b0f-5c50-9d7e-2f2b1b3f7a11")


def buyer_fault(buyer_id: str) -> str | None:
    """Say what is wrong with a buyer id, or nothing.

    Only what prints and has one spelling is taken (NFC): two ids that look the same on an operator's screen must be
    the same, or a limit per buyer limits nobody.
    """
    if not 1 <= len(buyer_id) <= MAX_BUYER_LENGTH:
        return f"must have 1 to {MAX_BUYER_LENGTH} characters"
    if not buyer_id.isprintable():
        return "must have printable characters only"
    if buyer_id != buyer_id.strip():
        return "must not begin or end with a space"
    if not unicodedata.is_normalized("NFC", buyer_id):
        return "must be spelled in Unicode's composed form (NFC)"
    return None


def new_ticket_id() -> str:
    """A ticket id nobody else has."""
    return str(uuid.uuid4())


def ticket_id_for(sale_id: str, sku: str, buyer_id: str, request_id: str) -> str:
    """The ticket id that this request of this buyer always gets, so that a repeat finds its ticket (rule R2).

    A name-based UUID (RFC 9562, version 5). No part can contain the newline that separates them.
    """
    return str(uuid.uuid5(_REQUESTS, f"{sale_id}\n{sku}\n{buyer_id}\n{request_id}"))


def readmission_of(sale_id: str, ticket_id: str) -> str:
    """The ticket that a RELEASED one is readmitted as, so that it is readmitted once (rule S2).

    Everybody who knows the old ticket works it out, and no request of a client can have it: those have four parts.
    """
    return str(uuid.uuid5(_REQUESTS, f"{sale_id}\n{ticket_id}\nreadmitted"))
