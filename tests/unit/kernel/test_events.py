"""fairline.events: facts by topic and key, and what a reader does with what it does not know."""

from typing import get_args

import msgspec
import pytest

from fairline.events import (
    ORDERS,
    RESULTS,
    SALES,
    TICKETS,
    AnyFact,
    OrderConfirmed,
    OrderFailed,
    OrderPlaced,
    SaleApplied,
    TicketDeclined,
    decode,
    encode,
    from_outbox,
)

PLACED = OrderPlaced(
    sale_id="s",
    ticket_id="t",
    sku="seat",
    buyer_id="Zoë",
    units=(1, 2),
    slots=(1, 2),
    epoch=3,
    arrival=2**53 - 1,
    number=7,
    reserved_at_ms=1_800_000_000_000,
)


def test_a_fact_goes_through_json_unchanged_also_with_large_numbers() -> None:
    assert decode(encode(PLACED)) == PLACED
    assert b'"arrival":9007199254740991' in encode(PLACED)


def test_the_outbox_is_messagepack_of_the_same_fields() -> None:
    assert from_outbox(msgspec.msgpack.encode(PLACED)) == PLACED


def test_facts_of_a_ticket_are_keyed_by_it_and_facts_of_the_sale_by_the_sale() -> None:
    applied = SaleApplied(sale_id="s", version=1, epoch=0, at_ms=1)
    declined = TicketDeclined(
        sale_id="s", ticket_id="t", sku="x", buyer_id="b", quantity=1, arrival=1, reason="no", at_ms=1
    )
    assert [(fact.topic, fact.key) for fact in (PLACED, applied, declined)] == [
        (ORDERS, "t"),
        (RESULTS, "s"),
        (TICKETS, "t"),
    ]


def test_every_fact_has_a_topic_and_a_version_in_its_tag() -> None:
    kinds = get_args(AnyFact)
    assert len(kinds) == 10
    for kind in kinds:
        assert kind.topic.fget(msgspec.convert({**_sample(kind)}, kind)) in {ORDERS, RESULTS, SALES, TICKETS}
        assert kind.__struct_config__.tag.endswith(".v1")


def _sample(kind: type[AnyFact]) -> dict[str, object]:
    """Something of the right type for each field."""
    kinds: dict[object, object] = {str: "x", int: 1, tuple[int, ...]: [], dict[str, int]: {}}
    fields = {field.name: field for field in msgspec.structs.fields(kind) if field.required}
    values = {name: kinds.get(field.type, []) for name, field in fields.items()}
    return {"type": kind.__struct_config__.tag} | values | ({"reason": "unit_taken"} if "reason" in fields else {})


def test_fields_that_a_reader_does_not_know_are_ignored() -> None:
    later = msgspec.json.decode(encode(PLACED)) | {"colour": "red"}
    assert decode(msgspec.json.encode(later)) == PLACED


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"type": "order.placed.v2"}',
        b'{"sale_id": "s"}',
        encode(PLACED).replace(b"[1,2]", b'["one"]', 1),
        encode(PLACED).replace(b'"epoch":3,', b""),
        b"\xff\xfe",
    ],
)
def test_what_is_no_fact_is_refused(value: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(value)


def test_a_fact_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        PLACED.sku = "other"  # type: ignore[misc]  # the point


def test_a_failure_has_one_of_the_reasons_that_settling_knows() -> None:
    confirmed = OrderConfirmed(
        sale_id="s", ticket_id="t", sku="x", buyer_id="b", units=(1,), slots=(1,), decided_at_ms=1
    )
    failed = msgspec.structs.asdict(confirmed) | {"type": "order.failed.v1"}
    assert isinstance(decode(msgspec.json.encode(failed | {"reason": "cancelled"})), OrderFailed)
    with pytest.raises(msgspec.DecodeError):
        decode(msgspec.json.encode(failed | {"reason": "bad_mood"}))
