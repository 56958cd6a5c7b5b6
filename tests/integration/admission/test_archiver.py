"""The archiver on a real Redis: every ticket of a closed sale reaches Postgres before it is forgotten (C2)."""

from collections.abc import Callable

import msgspec
import pytest

from admission.archiver import Archiver
from admission.relay import Relay
from admission.settler import Settler
from admission.stock import Stock
from fairline.errors import UnavailableError
from fairline.events import Fact, SaleApplied, SaleChanged, TicketsArchived, TicketsKept
from fairline.runtime.metrics import Metrics
from fairline.store.room import Room
from fairline.store.sales import Sales
from tests.integration.admission.conftest import NewSale
from tests.support.admission import Broker, UnsteadyRedis, admission_settings
from tests.support.sale import SaleDriver

LONG_AGO_MS = 2 * 86_400_000


class House:
    """Archivers of one Redis, a Kafka that keeps all, and a Postgres that answers when it is told to."""

    def __init__(self, unsteady: UnsteadyRedis, metrics: Metrics) -> None:
        self.unsteady = unsteady
        self.metrics = metrics
        self.broker = Broker()
        self.kept: dict[str, str] = {}
        self._read = 0

    def archiver(self, *, batch: int = 250, **settings: object) -> Archiver:
        """One process's."""
        redis, limits = self.unsteady.client, admission_settings(**settings)
        room = Room(redis)

        def open_sale(sale_id: str, skus: tuple[str, ...]) -> tuple[Stock, Relay]:
            return Stock(redis, sale_id, skus), Relay(redis, self.broker, sale_id, limits, self.metrics)  # type: ignore[arg-type]  # it only sends

        return Archiver(Sales(room), room, open_sale, limits, batch=batch)

    async def postgres(self, sale: SaleDriver) -> None:
        """Keep what has come since the last time, and let the settler hear of it."""
        answers: list[SaleApplied | TicketsKept] = []
        for fact in self.broker.taken[self._read :]:
            if isinstance(fact, TicketsArchived):
                self.kept |= {end.ticket_id: end.outcome for end in fact.tickets}
                answers.append(TicketsKept(sale_id=fact.sale_id, batch=fact.batch))
            elif isinstance(fact, SaleChanged):
                answers.append(SaleApplied(sale_id=sale.id, version=fact.version, epoch=fact.epoch, at_ms=1))
        self._read = len(self.broker.taken)
        redis = self.unsteady.client
        settler = Settler(redis, Room(redis), None, admission_settings(), self.metrics)  # type: ignore[arg-type]  # reads nothing here
        await settler._settle(sale.id, list(answers))


@pytest.fixture
def house(unsteady: UnsteadyRedis, metrics: Metrics) -> House:
    return House(unsteady, metrics)


async def closed_long_ago(new_sale: NewSale, buyers: Callable[[int], list[str]], number: int) -> SaleDriver:
    """A sale of which nobody had anything: so many who were sent away at its end."""
    sale = await new_sale(number)
    await sale.join(*buyers(number))
    await sale.change("end")
    await sale.acknowledge()
    await sale.close()
    await sale.relay()
    assert await sale.closed() == "CLOSED"
    closed_ms = int(await sale.raw.hget(sale.keys.meta, "closed_ms"))
    await sale.raw.hset(sale.keys.meta, "closed_ms", closed_ms - LONG_AGO_MS)
    return sale


async def forget_when(sale: SaleDriver) -> None:
    """Let all that was posted be of long ago, and the relay that took the lock too."""
    await sale.raw.delete(sale.keys.relay)
    packed = await sale.raw.get(sale.keys.archive)
    if packed is not None:
        batch, _, ids = msgspec.msgpack.decode(packed)
        await sale.raw.set(sale.keys.archive, msgspec.msgpack.encode([batch, 0, ids]))
    await sale.raw.hset(sale.keys.meta, "posted_ms", 0)


async def registered(sale: SaleDriver) -> bool:
    return sale.id in await sale.room.sale_ids()


async def test_a_sale_is_archived_in_batches_and_served_no_more(
    new_sale: NewSale, buyers: Callable[[int], list[str]], house: House
) -> None:
    sale = await closed_long_ago(new_sale, buyers, 10)
    one = house.archiver(batch=4)
    for left in (6, 2, 0):
        await one.run_once()
        assert await sale.redis.hlen(sale.keys.tickets) > left, "not before Postgres has them"
        await house.postgres(sale)
        assert await sale.redis.hlen(sale.keys.tickets) == left
    await one.run_once()
    assert await registered(sale), "Postgres does not know yet that it is archived"
    await house.postgres(sale)
    await one.run_once()
    assert not await registered(sale)
    assert list(house.kept.values()) == ["DECLINED"] * 10
    assert house.metrics.registry.get_sample_value("fairline_archived_total") == 10
    assert (await sale.stats()).counts
    assert await one.run_once() == 0


async def test_a_sale_that_is_not_due_is_asked_about_seldom(
    new_sale: NewSale, buyers: Callable[[int], list[str]], house: House
) -> None:
    sale = await closed_long_ago(new_sale, buyers, 1)
    one = house.archiver(archive_after_s=30 * 86_400)
    await one.run_once()
    house.unsteady.calls.clear()
    await one.run_once()
    assert "archive" not in house.unsteady.calls
    assert house.broker.taken == []
    assert await registered(sale)


@pytest.mark.parametrize("step", ["archive", "unlink", "applied", "srem", "xdel"])
@pytest.mark.parametrize("how", ["refuse", "lose"])
async def test_whatever_breaks_off_is_taken_up_again_and_no_ticket_is_forgotten_unkept(
    new_sale: NewSale, buyers: Callable[[int], list[str]], house: House, step: str, how: str
) -> None:
    sale = await closed_long_ago(new_sale, buyers, 5)
    tickets = {key.decode() for key in await sale.raw.hkeys(sale.keys.tickets)}
    failures = 0
    for turn in range(60):
        if turn % 3 == 0:
            getattr(house.unsteady, how)(step)
        # A new process each time: nothing is known but what lies in Redis.
        one = house.archiver(batch=2)
        try:
            await one.run_once()
            await house.postgres(sale)
        except UnavailableError:
            failures += 1
        there = {key.decode() for key in await sale.raw.hkeys(sale.keys.tickets)}
        assert there | house.kept.keys() == tickets
        if not await registered(sale):
            break
        await forget_when(sale)
    assert failures
    assert not await registered(sale)
    assert house.kept.keys() == tickets


async def test_a_sale_whose_tickets_kafka_does_not_take_holds_up_no_other(
    new_sale: NewSale, buyers: Callable[[int], list[str]], house: House
) -> None:
    sales = sorted([await closed_long_ago(new_sale, buyers, 2) for _ in range(4)], key=lambda sale: sale.id)
    sick, well = sales[0], sales[2]
    asked: list[str] = []

    def acknowledges(_: object, fact: Fact) -> bool:
        asked.append(fact.sale_id)
        return fact.sale_id == well.id

    house.broker.acknowledges = acknowledges
    one = house.archiver()
    with pytest.raises(UnavailableError, match="none of 1 facts"):
        await one.run_once()
    assert asked == [sick.id]  # each costs its time, and a stop waits for the round
    while await registered(well):
        with pytest.raises(UnavailableError, match="none of 1 facts"):
            await one.run_once()
        await house.postgres(well)
    assert await registered(sick)
    assert await sick.redis.hlen(sick.keys.tickets) == 2


async def test_two_archivers_at_once_send_each_ticket_once(
    new_sale: NewSale, buyers: Callable[[int], list[str]], house: House
) -> None:
    sale = await closed_long_ago(new_sale, buyers, 9)
    pair = [house.archiver(), house.archiver()]
    while await registered(sale):
        for one in pair:
            await one.run_once()
        await house.postgres(sale)
    sent = [end.ticket_id for fact in house.broker.taken if isinstance(fact, TicketsArchived) for end in fact.tickets]
    assert (len(sent), len(set(sent))) == (9, 9)
