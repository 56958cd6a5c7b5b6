"""Tickets' tokens: signed, so that they are checked without asking anybody (rule D4).

A JWT (HS256) with the ``kid`` of its key. It has no expiry: a buyer may come back to a lost line as long as the
sale lives, and a token opens one ticket only. Keys are rotated without refusing anybody: every process is first given
the new key behind the old one, then before it, and at last without the old one.
"""

import re
from collections.abc import Callable
from typing import Any, Final, Self

import jwt
import msgspec

from fairline.errors import TokenError

MIN_SECRET_BYTES: Final = 32  # RFC 7518, 3.2: at least as long as the hash
MOST_KEYS: Final = 8  # a rotation needs two; more are keys that somebody forgot to drop
_LEAST_VARIETY: Final = 8  # different characters; "aaaa..." is no secret
_ISSUER: Final = "fairline"
_KID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
# A file has a key on each line, more likely than not; joined to one secret they would void every token.
_BETWEEN: Final = re.compile(r"\s*,\s*|\s*\n\s*")


class Claims(msgspec.Struct, frozen=True):
    """What a token says of its ticket; enough to find its place again when Redis has lost it."""

    sale_id: str
    sku: str
    buyer_id: str
    ticket_id: str
    arrival: int
    number: int
    quantity: int = 1
    fewer: bool = False  # whether fewer units are fine too (Q1)


class TokenKeys(msgspec.Struct, frozen=True):
    """The signing keys by ``kid``; the first signs, all are accepted. ``seen`` hears the kid of each genuine token."""

    secrets: dict[str, bytes]
    signing: str
    seen: Callable[[str], None] = lambda _: None

    @classmethod
    def parse(cls, text: str, *, seen: Callable[[str], None] = lambda _: None) -> Self:
        """Read ``kid:secret[,kid:secret...]``, also one a line.

        Raises:
            ValueError: it says which key is wrong and why, never the secret.
        """
        secrets: dict[str, bytes] = {}
        parts = _BETWEEN.split(text.strip())
        if len(parts) > MOST_KEYS:
            raise ValueError(f"{len(parts)} token keys are given, {MOST_KEYS} at most: drop those that sign no more")
        for at, part in enumerate(parts, 1):
            kid, colon, secret = part.partition(":")
            if not (colon and _KID.fullmatch(kid)):
                # Not shown: it may be a part of a secret.
                raise ValueError(
                    f"token key {at} of {len(parts)} is not written kid:secret, with a kid of at most 64 letters, "
                    "digits, '.', '_', '-'; several are separated by commas"
                )
            fault = _fault(secret)
            if fault:
                raise ValueError(f"the secret of token key {kid!r} {fault}")
            if kid in secrets:
                raise ValueError(f"token key {kid!r} is given twice")
            if secret.encode() in secrets.values():
                raise ValueError(f"token key {kid!r} has the secret of another: a new name alone rotates nothing")
            secrets[kid] = secret.encode()
        return cls(secrets=secrets, signing=next(iter(secrets)), seen=seen)

    def sign(self, claims: Claims) -> str:
        """The token of a ticket. Same claims and key, same token."""
        payload = {
            "iss": _ISSUER,
            "aud": claims.sale_id,
            "sub": claims.buyer_id,
            "jti": claims.ticket_id,
            "sku": claims.sku,
            "arr": claims.arrival,
            "num": claims.number,
            # The usual case is left out: a token is sent with every question.
            **({"qty": claims.quantity} if claims.quantity != 1 else {}),
            **({"few": True} if claims.fewer else {}),
        }
        return jwt.encode(payload, self.secrets[self.signing], algorithm="HS256", headers={"kid": self.signing})

    def check(self, token: str, *, sale_id: str, ticket_id: str) -> Claims:
        """The claims of a genuine token of this ticket; else raises ``TokenError``. No I/O, about 100 us."""
        try:
            kid: str = jwt.get_unverified_header(token).get("kid", "")  # raises if it is no text
            secret = self.secrets.get(kid)
            if secret is None:
                raise TokenError("This token was signed with a key that is not known here.")
            said: dict[str, Any] = jwt.decode(
                token,
                secret,
                algorithms=["HS256"],
                audience=sale_id,
                issuer=_ISSUER,
            )
            if said["jti"] != ticket_id:
                raise TokenError("This token is for another ticket.")
            claims = Claims(
                sale_id=sale_id,
                sku=said["sku"],
                buyer_id=said["sub"],
                ticket_id=ticket_id,
                arrival=said["arr"],
                number=said["num"],
                quantity=said.get("qty", 1),
                fewer=said.get("few", False),
            )
        except (jwt.PyJWTError, KeyError, UnicodeError) as error:
            raise TokenError("This is not a genuine token of this ticket.") from error
        self.seen(kid)
        return claims


def _fault(secret: str) -> str:
    if len(secret.encode()) < MIN_SECRET_BYTES:
        return f"has fewer than {MIN_SECRET_BYTES} bytes"
    if len(set(secret)) < _LEAST_VARIETY:
        return f"has fewer than {_LEAST_VARIETY} different characters: use a random one"
    return ""
