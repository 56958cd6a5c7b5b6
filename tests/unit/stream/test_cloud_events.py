"""The headers of facts on Kafka: CloudEvents 1.0, binary mode."""

from fairline.events import OrderConfirmed, SaleApplied
from fairline.stream.writer import cloud_event

CONFIRMED = OrderConfirmed(
    sale_id="spring",
    ticket_id="00000000-0000-4000-8000-000000000001",
    sku="seat",
    buyer_id="ada",
    units=(1,),
    slots=(1,),
    decided_at_ms=1_700_000_000_123,
)


def test_every_header_that_the_standard_requires_is_there() -> None:
    assert dict(cloud_event(CONFIRMED)) == {
        "ce_specversion": b"1.0",
        "ce_id": b"order.confirmed.v1/00000000-0000-4000-8000-000000000001",
        "ce_source": b"/fairline/sales/spring",
        "ce_type": b"order.confirmed.v1",
        "ce_time": b"2023-11-14T22:13:20.123Z",
        "content-type": b"application/json",
    }


def test_the_same_fact_has_the_same_id_and_versions_of_a_sale_have_different_ones() -> None:
    def identity(version: int) -> bytes:
        return dict(cloud_event(SaleApplied(sale_id="spring", version=version, epoch=0, at_ms=5)))["ce_id"]

    assert identity(1) == identity(1)
    assert identity(1) != identity(2)
