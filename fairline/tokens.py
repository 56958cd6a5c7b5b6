"""Tickets' tokens: signed, so that they are checked without asking anybody (rule D4).

A JWT (HS256) with the ``kid`` of its key. It has no expiry: a buyer may come back to a lost line as long as the
sale lives, and a token opens one ticket only.
"""

from typing import Any, Final, Self

import jwt
import msgspec

from fairline.errors import TokenError

MIN_SECRET_BYTES: Final = 32  # RFC 7518, 3.2: at least as long as the hash
_ISSUER: Final = "fairline"


class Claims(msgspec.Struct, frozen=True):
    """What a token says of its ticket; enough to find its place again when Redis has lost it."""

    sale_id: str
    sku: str
    buyer_id: str
    ticket_id: str
    arrival: int
    number: int


class TokenKeys(msgspec.Struct, frozen=True):
    """The signing keys by ``kid``; the first signs, all are accepted."""

    secrets: dict[str, bytes]
    signing: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``kid:secret[,kid:secret...]``; raises ``ValueError`` saying what is wrong, never the secret."""
        secrets: dict[str, bytes] = {}
        for part in text.split(","):
            kid, colon, secret = part.strip().partition(":")
            if not (kid and colon):
                raise ValueError("token keys are written kid:secret, several separated by commas")
            if len(secret.encode()) < MIN_SECRET_BYTES:
                raise ValueError(f"the secret of token key {kid!r} has fewer than {MIN_SECRET_BYTES} bytes")
            if kid in secrets:
                raise ValueError(f"token key {kid!r} is given twice")
            secrets[kid] = secret.encode()
        return cls(secrets=secrets, signing=next(iter(secrets)))

    def sign(self, claims: Claims) -> str:
        """The token of a ticket. Same claims, same token."""
        payload = {
            "iss": _ISSUER,
            "aud": claims.sale_id,
            "sub": claims.buyer_id,
            "jti": claims.ticket_id,
            "sku": claims.sku,
            "arr": claims.arrival,
            "num": claims.number,
        }
        return jwt.encode(payload, self.secrets[self.signing], algorithm="HS256", headers={"kid": self.signing})

    def check(self, token: str, *, sale_id: str, ticket_id: str) -> Claims:
        """The claims of a genuine token of this ticket; else raises ``TokenError``. No I/O, about 100 us."""
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            secret = self.secrets.get(kid) if isinstance(kid, str) else None
            if secret is None:
                raise TokenError("this token was signed with a key that is not known here")
            said: dict[str, Any] = jwt.decode(
                token,
                secret,
                algorithms=["HS256"],
                audience=sale_id,
                issuer=_ISSUER,
                options={"require": ["iss", "aud", "sub", "jti"]},
            )
            if said["jti"] != ticket_id:
                raise TokenError("this token is for another ticket")
            return Claims(
                sale_id=sale_id,
                sku=said["sku"],
                buyer_id=said["sub"],
                ticket_id=ticket_id,
                arrival=said["arr"],
                number=said["num"],
            )
        except (jwt.PyJWTError, KeyError, UnicodeError) as error:
            raise TokenError("this token is not a genuine token of this ticket") from error
