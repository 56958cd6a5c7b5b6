"""fairline.tokens: a token opens its own ticket and nothing else."""

import jwt
import msgspec
import pytest

from fairline.errors import TokenError
from fairline.tokens import Claims, TokenKeys

NEW, OLD = "new:" + "n" * 32, "old:" + "o" * 32
KEYS = TokenKeys.parse(f"{NEW},{OLD}")
CLAIMS = Claims(sale_id="s", sku="seat", buyer_id="Zoë:1", ticket_id="t", arrival=2**41 + 5, number=3)


def _check(token: str, *, keys: TokenKeys = KEYS, sale_id: str = "s", ticket_id: str = "t") -> Claims:
    return keys.check(token, sale_id=sale_id, ticket_id=ticket_id)


def test_a_token_gives_back_what_was_signed() -> None:
    assert _check(KEYS.sign(CLAIMS)) == CLAIMS


def test_the_same_claims_give_the_same_token() -> None:
    assert KEYS.sign(CLAIMS) == KEYS.sign(CLAIMS)


def test_the_first_key_signs_and_all_are_accepted() -> None:
    old = TokenKeys.parse(OLD).sign(CLAIMS)
    assert jwt.get_unverified_header(KEYS.sign(CLAIMS))["kid"] == "new"
    assert _check(old) == CLAIMS
    with pytest.raises(TokenError, match="not known"):
        _check(old, keys=TokenKeys.parse(NEW))


def test_a_token_is_for_one_ticket_of_one_sale() -> None:
    token = KEYS.sign(CLAIMS)
    with pytest.raises(TokenError):
        _check(token, sale_id="another")
    with pytest.raises(TokenError, match="another ticket"):
        _check(token, ticket_id="another")


SECRET = "n" * 32
WHOLE = {"iss": "fairline", "aud": "s", "sub": "b", "jti": "t", "sku": "seat", "arr": 1, "num": 1}


def _signed(claims: dict[str, object], *, secret: str = SECRET, algorithm: str = "HS256", kid: object = "new") -> str:
    return jwt.encode(claims, secret, algorithm=algorithm, headers={"kid": kid} if kid else {})


FORGED = {
    "empty": "",
    "no token": "hello",
    "dots": "a.b.c",
    "not text": "\udcff.\udcff.\udcff",
    "long": "a." * 5000,
    "another secret": _signed(WHOLE, secret="x" * 32),
    "another algorithm": _signed(WHOLE, secret="n" * 64, algorithm="HS512"),
    "no signature": _signed(WHOLE, secret="", algorithm="none"),
    "no key id": _signed(WHOLE, kid=None),
    "an unknown key id": _signed(WHOLE, kid="other"),
    "another issuer": _signed(WHOLE | {"iss": "else"}),
    "cut off": KEYS.sign(CLAIMS)[:-4],
    **{f"without {each}": _signed({k: v for k, v in WHOLE.items() if k != each}) for each in WHOLE},
}


@pytest.mark.parametrize("forged", FORGED)
def test_what_is_not_genuine_is_refused_with_one_kind_of_error(forged: str) -> None:
    assert _check(_signed(WHOLE)).ticket_id == "t"
    with pytest.raises(TokenError):
        _check(FORGED[forged])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "kid:secret"),
        ("novalue", "kid:secret"),
        (":" + "s" * 32, "kid:secret"),
        ("a:short", "'a' has fewer than 32 bytes"),
        (f"a:{'s' * 32},a:{'t' * 32}", "'a' is given twice"),
        (f"a:{'s' * 32},", "kid:secret"),
    ],
)
def test_wrong_keys_are_refused_without_telling_a_secret(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="key") as refused:
        TokenKeys.parse(text)
    assert said in str(refused.value)
    assert "short" not in str(refused.value)
    assert "sss" not in str(refused.value)


def test_spaces_around_keys_and_colons_in_secrets_are_fine() -> None:
    keys = TokenKeys.parse(f" a:{'s:' * 16} , b:{'t' * 32}")
    assert (keys.signing, keys.secrets["a"]) == ("a", b"s:" * 16)


def test_claims_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        CLAIMS.ticket_id = "x"  # type: ignore[misc]  # the point
    assert msgspec.structs.replace(CLAIMS, number=4).number == 4
