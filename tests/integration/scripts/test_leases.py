"""decline.lua, give_back.lua, reap.lua: how an admission ends without a reservation (L2, L5)."""

from fairline.counts import MOST_REASONS
from fairline.events import TicketDeclined, TicketLapsed
from tests.integration.scripts.conftest import NewSale


async def test_a_declined_ticket_frees_claim_capacity_and_buyer_and_postgres_is_told(new_sale: NewSale) -> None:
    sale = await new_sale(2, per_buyer_limit=2)
    [ada] = await sale.join("ada", quantity=2)
    lease, _ = await sale.admit()
    await sale.relay()
    for _ in range(2):
        assert await sale.decline(lease, ada, ada, reason="payment_declined") == ["DECLINED", "DECLINED"]
    [fact] = await sale.relay()
    record = await sale.record(ada)
    assert fact == TicketDeclined(
        sale_id=sale.id,
        ticket_id=ada,
        sku="seat",
        buyer_id="ada",
        quantity=2,
        arrival=1,
        reason="payment_declined",
        at_ms=record.changed_ms,
    )
    assert (record.state, await sale.item("claims"), (await sale.stats()).in_flight) == ("DECLINED", 0, 0)
    assert (await sale.ask("ada"))[0] == "JOINED"


async def test_l2_decline_acts_only_on_an_admission_under_its_lease(new_sale: NewSale) -> None:
    sale = await new_sale(2)
    ada, bob = await sale.join("ada", "bob")
    lease, _ = await sale.admit(1)
    assert await sale.decline("another", ada) == ["STALE"]
    assert await sale.decline(lease, bob, "nobody") == ["STALE", "STALE"]
    assert await sale.decline("", bob) == ["STALE"]
    await sale.reserve(lease, ada)
    assert await sale.decline(lease, ada) == ["STALE"], "reserved under this very lease"


async def test_l5_who_is_given_back_keeps_the_place_and_the_try_does_not_count(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    a, b, c = await sale.join("ada", "bob", "cy")
    for _ in range(5):
        lease, reply = await sale.admit(2)
        assert reply.ids == [a, b]
        assert [each.tries for each in reply.tickets] == [1, 1]
        for _ in range(2):
            assert await sale.give_back(lease, b, a, a) == ["WAITING"] * 3
        assert await sale.line() == [a, b, c]


async def test_l2_give_back_acts_only_on_an_admission_under_its_lease(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    ada, _ = await sale.join("ada", "bob")
    lease, _ = await sale.admit(1)
    assert await sale.give_back("another", ada) == ["STALE"]
    assert await sale.give_back(lease, "nobody") == ["STALE"]
    await sale.reserve(lease, ada)
    assert await sale.give_back(lease, ada) == ["STALE"]
    assert await sale.item("claims") == 0


async def test_l5_an_ended_lease_goes_back_to_its_old_place_until_it_lapses(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    ada, bob = await sale.join("ada", "bob")
    for tries in (1, 2, 3):
        _, reply = await sale.admit(1)
        assert [(each.ticket_id, each.tries) for each in reply.tickets] == [(ada, tries)]
        assert await sale.reap(max_tries=3) == (0, 0), "the lease has not ended"
        await sale.end_leases(ada)
        await sale.relay()
        assert await sale.reap(max_tries=3) == ((1, 0) if tries < 3 else (0, 1))
    [fact] = await sale.relay()
    record = await sale.record(ada)
    assert fact == TicketLapsed(
        sale_id=sale.id,
        ticket_id=ada,
        sku="seat",
        buyer_id="ada",
        quantity=1,
        arrival=1,
        reason="not_decided_in_time",
        at_ms=record.changed_ms,
    )
    assert (record.state, record.reason, await sale.item("claims")) == ("LAPSED", "not_decided_in_time", 0)
    assert await sale.line() == [bob]
    assert await sale.reap() == (0, 0)
    assert (await sale.ask("ada"))[0] == "JOINED"


async def test_l5_places_of_several_skus_and_quantities_are_kept(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 9, "table": 9}, per_buyer_limit=3)
    [a] = await sale.join("ada", sku="chair", quantity=3)
    [b] = await sale.join("ada", sku="table", quantity=2)
    [c] = await sale.join("bob", sku="chair")
    await sale.admit()
    await sale.end_leases(a, b, c)
    assert await sale.reap(2) == (2, 0), "a call is bounded"
    assert await sale.reap(2) == (1, 0)
    assert [await sale.item("back", sku) for sku in sale.skus] == [4, 2]
    _, reply = await sale.admit()
    assert reply.ids == [a, b, c]
    assert [await sale.item("back", sku) for sku in sale.skus] == [0, 0]
    assert [await sale.item("claims", sku) for sku in sale.skus] == [4, 2]


async def test_reap_does_its_work_whatever_the_sale_s_state_is(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    ada, bob = await sale.join("ada", "bob")
    await sale.admit()
    await sale.change("pause")
    await sale.end_leases(ada)
    assert await sale.reap() == (1, 0)
    await sale.change("end")
    await sale.end_leases(bob)
    assert await sale.reap() == (1, 0)
    await sale.close()
    assert await sale.states(ada, bob) == ["DECLINED", "DECLINED"]


async def test_a_shop_that_gives_each_ticket_a_reason_of_its_own_does_not_make_the_counts_grow(
    new_sale: NewSale,
) -> None:
    sale = await new_sale({"chair": 99, "table": 99})
    chairs = await sale.join(*(f"buyer-{at}" for at in range(MOST_REASONS + 20)), sku="chair")
    [table] = await sale.join("ada", sku="table")
    lease, _ = await sale.admit()

    async def decline(*tickets: tuple[str, str]) -> None:
        assert await sale.stock.decline(lease, tickets) == ["DECLINED"] * len(tickets)

    def reasons(sku: str) -> dict[str, int]:
        return {name.split(":")[2]: number for name, number in counts.items() if name.startswith(f"{sku}:DECLINED:")}

    await decline(*((ticket, f"no_{at}") for at, ticket in enumerate(chairs[:30])))
    await decline(*((ticket, f"no_{at}") for at, ticket in enumerate(chairs[30:-3], 30)), (chairs[-3], "no_1"))
    await decline((chairs[-2], "no_0"), (chairs[-1], "yet_another"), (table, "of_the_table"))
    flat = (await sale.stats()).counts
    counts = {name: int(number) for name, number in zip(flat[::2], flat[1::2], strict=True)}
    told = reasons("chair")
    assert told.keys() == {*(f"no_{at}" for at in range(MOST_REASONS)), "other"}
    assert (told["no_0"], told["no_1"], told["no_2"], told["other"]) == (2, 2, 1, 18)
    assert (sum(told.values()), counts["chair:DECLINED"]) == (len(chairs), len(chairs))
    assert reasons("table") == {"of_the_table": 1}, "each sku has its own"
    assert (await sale.record(chairs[-1])).reason == "yet_another", "its buyer is told all the same"
