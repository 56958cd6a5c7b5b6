"""Which of all the records on Kafka are a sale's."""

from dataclasses import dataclass, field

import msgspec
import pytest

from fairline.events import OrderPlaced, SaleCounted
from loadtest.read_finals import _Found, _is_a_count

ORDER = OrderPlaced(
    sale_id="spring",
    ticket_id="t-1",
    sku="seat",
    buyer_id="anna",
    units=(1,),
    slots=(1,),
    epoch=0,
    arrival=1,
    number=1,
    reserved_at_ms=1,
)


@dataclass
class Raw:
    """A record as aiokafka gives it."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]] = field(default_factory=list)


@pytest.fixture
def found() -> _Found:
    return _Found("spring", {"t-1"})


def test_other_sales_and_what_nobody_compares_are_passed_over(found: _Found) -> None:
    other = msgspec.structs.replace(ORDER, sale_id="autumn")
    counted = SaleCounted(sale_id="spring", epoch=0, counts={}, at_ms=1)
    for value in (ORDER, ORDER, other, counted):
        found.take(Raw("fairline.orders", b"t-1", msgspec.json.encode(value)))
    found.take(Raw("fairline.orders", b"t-1", b"garbage"))
    side = found.side()
    assert side.orders == (ORDER, ORDER), "a redelivery stands there twice"
    assert (side.sales, side.dead) == ((), ())


def test_a_dead_letter_is_of_the_ticket_it_names_or_of_its_key(found: _Found) -> None:
    why = [("fairline-reason", b"no unit 0")]
    found.take(Raw("fairline.orders.DLT", b"other-key", msgspec.json.encode(ORDER), why))
    found.take(Raw("fairline.orders.DLT", b"t-1", b"garbage"))
    found.take(Raw("fairline.orders.DLT", b"somebody else's", b"garbage"))
    letters = found.side().dead
    assert [letter.ticket_id for letter in letters] == ["t-1", "t-1"]
    assert (letters[0].topic, letters[0].reason) == ("fairline.orders", "no unit 0")


def test_counts_are_always_on_their_way_and_nothing_else_is() -> None:
    counted = SaleCounted(sale_id="spring", epoch=0, counts={}, at_ms=1)
    packed = [msgspec.msgpack.encode(counted), msgspec.msgpack.encode(ORDER), b"garbage"]
    assert [_is_a_count(each) for each in packed] == [True, False, False]
