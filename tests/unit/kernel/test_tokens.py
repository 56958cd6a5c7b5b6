"""fairline.tokens: a token opens its own ticket and nothing else."""

import base64
import itertools

import jwt
import msgspec
import pytest

from fairline.errors import TokenError
from fairline.tokens import Claims, TokenKeys

SECRET, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2
NEW, OLD = f"new:{SECRET}", f"old:{OTHER}"
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


WHOLE = {"iss": "fairline", "aud": "s", "sub": "b", "jti": "t", "sku": "seat", "arr": 1, "num": 1}


def _signed(claims: dict[str, object], *, secret: str = SECRET, algorithm: str = "HS256", kid: object = "new") -> str:
    return jwt.encode(claims, secret, algorithm=algorithm, headers={"kid": kid} if kid else {})


def _unusual(header: dict[str, object]) -> str:
    head = base64.urlsafe_b64encode(msgspec.json.encode({"alg": "HS256"} | header)).decode().rstrip("=")
    return ".".join([head, *KEYS.sign(CLAIMS).split(".")[1:]])


FORGED = {
    "empty": "",
    "no token": "hello",
    "dots": "a.b.c",
    "not text": "\udcff.\udcff.\udcff",
    "long": "a." * 5000,
    "another secret": _signed(WHOLE, secret="x" * 32),
    "another algorithm": _signed(WHOLE, secret=SECRET * 2, algorithm="HS512"),
    "no signature": _signed(WHOLE, secret="", algorithm="none"),
    "no key id": _signed(WHOLE, kid=None),
    "a key id that is no text": _unusual({"kid": ["new"]}),
    "a key id of null": _unusual({"kid": None}),
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
        ("", "key 1 of 1 is not written kid:secret"),
        (SECRET, "key 1 of 1 is not written kid:secret"),
        (":" + SECRET, "key 1 of 1 is not written kid:secret"),
        (f"my key:{SECRET}", "key 1 of 1 is not written kid:secret"),
        (f"a:{SECRET},{OTHER}", "key 2 of 2 is not written kid:secret"),
        (f"a:{SECRET},", "key 2 of 2 is not written kid:secret"),
        ("a:0123456789", "'a' has fewer than 32 bytes"),
        (f"a:{SECRET},b:" + "0123456" * 6, "'b' has fewer than 8 different characters"),
        (f"a:{SECRET},a:{OTHER}", "'a' is given twice"),
        (f"a:{SECRET},b:{SECRET}", "'b' has the secret of another"),
        (",".join(f"k{n}:{n}{SECRET}" for n in range(9)), "9 token keys are given, 8 at most"),
    ],
)
def test_wrong_keys_are_refused_without_telling_a_secret(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="key") as refused:
        TokenKeys.parse(text)
    assert said in str(refused.value)
    assert "0123" not in str(refused.value)
    assert "fedc" not in str(refused.value)


def test_spaces_around_keys_and_colons_in_secrets_are_fine() -> None:
    keys = TokenKeys.parse(f" a:{'s:' + SECRET} , b:{OTHER}")
    assert (keys.signing, keys.secrets["a"]) == ("a", b"s:" + SECRET.encode())


@pytest.mark.parametrize("text", [f"{NEW}\n{OLD}\n", f"{NEW},\n{OLD}", f"\n{NEW}\r\n\r\n{OLD}\r\n"])
def test_a_file_with_a_key_on_each_line_is_a_list_and_not_one_long_secret(text: str) -> None:
    assert TokenKeys.parse(text).secrets == KEYS.secrets


def test_every_step_of_a_rotation_accepts_what_the_step_before_it_signed() -> None:
    steps = [TokenKeys.parse(text) for text in (OLD, f"{OLD},{NEW}", f"{NEW},{OLD}", NEW)]
    # Processes are restarted one by one: those of two neighbouring steps meet each other's tokens ...
    for before, after in itertools.pairwise(steps[:3]):
        assert _check(before.sign(CLAIMS), keys=after) == CLAIMS
        assert _check(after.sign(CLAIMS), keys=before) == CLAIMS
    # ... and the last step refuses nothing that was signed since the step before it.
    assert _check(steps[2].sign(CLAIMS), keys=steps[3]) == CLAIMS


def test_a_genuine_token_tells_its_key_and_a_forged_one_tells_none() -> None:
    seen: list[str] = []
    keys = TokenKeys.parse(f"{NEW},{OLD}", seen=seen.append)
    _check(TokenKeys.parse(OLD).sign(CLAIMS), keys=keys)
    _check(keys.sign(CLAIMS), keys=keys)
    for forged in ("", keys.sign(CLAIMS)[:-4], _signed(WHOLE, secret=OTHER)):
        with pytest.raises(TokenError):
            _check(forged, keys=keys)
    assert seen == ["old", "new"]


def test_claims_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        CLAIMS.ticket_id = "x"  # type: ignore[misc]  # the point
    assert msgspec.structs.replace(CLAIMS, number=4).number == 4
