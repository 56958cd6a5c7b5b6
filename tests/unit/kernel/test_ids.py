"""fairline.ids: each identity has one spelling."""

import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairline.ids import BuyerId, SaleId, Sku, TicketId, buyer_fault, new_ticket_id, ticket_id_for

GOOD = [
    (SaleId, ["a", "0", "spring-sale-26", "a" * 64]),
    (Sku, ["A", "a.b_c-1", "-", "x" * 64]),
    (BuyerId, ["a", "ada@example.org", "買い手", "x" * 128]),
    (TicketId, ["6e4a1f0c-5b0f-5c50-9d7e-2f2b1b3f7a11"]),
]
BAD = [
    (SaleId, ["", "-a", "A", "a b", "a_b", "a" * 65, "a\n", "ä", "a/b", "{a}", "a:b"]),
    (Sku, ["", "a b", "a:b", "a" * 65, "a\n", "ä", "a/b", "a*"]),
    (BuyerId, ["", "x" * 129]),
    (
        TicketId,
        [
            "",
            "6E4A1F0C-5B0F-5C50-9D7E-2F2B1B3F7A11",
            "6e4a1f0c5b0f5c509d7e2f2b1b3f7a11",
            "{6e4a1f0c-5b0f-5c50-9d7e-2f2b1b3f7a11}",
            "6e4a1f0c-5b0f-5c50-9d7e-2f2b1b3f7a11\n",
        ],
    ),
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in GOOD for text in texts])
def test_what_is_spelled_rightly_is_taken_as_it_is(kind: type[str], text: str) -> None:
    assert msgspec.convert(text, kind) == text


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in BAD for text in texts])
def test_every_other_spelling_is_refused(kind: type[str], text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text, kind)


@pytest.mark.parametrize("buyer", ["a", "ada lovelace", "Zoë", "a:b", "買い手", "🎟", "x" * 128, "%00", "'; --"])
def test_a_buyer_may_be_called_anything_that_prints(buyer: str) -> None:
    assert buyer_fault(buyer) is None


@pytest.mark.parametrize(
    ("buyer", "fault"),
    [
        ("", "1 to 128"),
        ("x" * 129, "1 to 128"),
        ("a\nb", "printable"),
        ("a\x00", "printable"),
        ("a\u200bb", "printable"),  # a space of no width
        ("a\u202eb", "printable"),  # turns the direction of writing
        ("\ud800", "printable"),  # half a character
        (" a", "space"),
        ("a ", "space"),
        ("Zoe\u0308", "composed"),  # looks like Zoë
    ],
)
def test_a_buyer_whose_name_has_two_spellings_or_none_is_refused(buyer: str, fault: str) -> None:
    assert fault in (buyer_fault(buyer) or "")


@given(st.text(max_size=130))
def test_a_buyer_who_is_taken_goes_through_utf_8_and_holds_no_separator(buyer: str) -> None:
    if buyer_fault(buyer) is None:
        assert buyer.encode().decode() == buyer
        assert "\n" not in buyer


def test_a_new_ticket_id_is_nobody_else_s_and_in_its_one_spelling() -> None:
    ids = {new_ticket_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(msgspec.convert(each, TicketId) == each for each in ids)


def test_r2_the_same_request_always_gets_the_same_ticket_id() -> None:
    assert ticket_id_for("s", "seat", "ada", "k") == "c0531093-5b1b-5078-8751-421bc7d837fa"
    assert uuid.UUID(ticket_id_for("s", "seat", "ada", "k")).version == 5


def test_r2_a_request_id_counts_within_sale_sku_and_buyer() -> None:
    requests = [("s", "seat", "ada", "k"), ("s", "seat", "ada", "l"), ("s", "seat", "bob", "k"), ("s", "x", "ada", "k")]
    requests += [("t", "seat", "ada", "k"), ("s", "seat", "ad", "ak"), ("s", "seata", "da", "k")]
    assert len({ticket_id_for(*each) for each in requests}) == len(requests)
