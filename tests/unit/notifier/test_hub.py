"""Who is connected, and what of them is to be read."""

from notifier.hub import Audience, Client, Hub
from notifier.mailbox import Mailbox
from tests.unit.notifier.test_mailbox import FakeWire


def a_client(ticket_id: str, sku: str = "seat") -> Client:
    return Client(
        ticket_id=ticket_id, sku=sku, mailbox=Mailbox(FakeWire(), limit=1), finish_in=lambda _seconds, _code: None
    )


def test_a_sale_gets_its_audience_with_its_first_client_and_loses_it_with_its_last() -> None:
    hub, seen = Hub(), []
    hub.watch(
        first=lambda audience: seen.append(("first", audience.sale_id, len(audience))),
        last=lambda audience: seen.append(("last", audience.sale_id, len(audience))),
    )
    anna, berta = a_client("a"), a_client("b")
    audience = hub.attach("sale", anna)
    assert hub.attach("sale", berta) is audience
    assert seen == [("first", "sale", 1)]
    hub.detach(audience, anna)
    hub.detach(audience, anna)
    assert seen == [("first", "sale", 1)]
    assert hub.get("sale") is audience
    hub.detach(audience, berta)
    hub.detach(audience, berta)
    assert seen == [("first", "sale", 1), ("last", "sale", 0)]
    assert hub.get("sale") is None


def test_a_sale_that_comes_back_gets_a_new_audience_which_the_old_one_cannot_end() -> None:
    hub = Hub()
    anna, berta = a_client("a"), a_client("b")
    old = hub.attach("sale", anna)
    hub.detach(old, anna)
    new = hub.attach("sale", berta)
    assert new is not old
    hub.detach(old, anna)
    assert hub.get("sale") is new


def test_sales_do_not_mix() -> None:
    hub = Hub()
    one, other = hub.attach("one", a_client("a")), hub.attach("other", a_client("a"))
    one.take_unread(9)
    other.take_unread(9)
    one.reread(["a"])
    assert one.take_unread(9) == [("a", "seat")]
    assert other.take_unread(9) == []


def test_a_new_client_is_to_be_read_and_is_greeted_once() -> None:
    audience, anna = Audience("sale"), a_client("a", "stall")
    audience.add(anna)
    assert audience.unread.is_set()
    assert audience.take_unread(9) == [("a", "stall")]
    assert not audience.unread.is_set()
    assert (audience.new, audience.greeted) == ({anna}, set())
    assert audience.greet(anna)
    assert not audience.greet(anna)
    assert (audience.new, audience.greeted) == (set(), {anna})


def test_only_tickets_that_are_connected_here_are_read_each_once_and_in_order() -> None:
    audience = Audience("sale")
    for ticket_id in "abc":
        audience.add(a_client(ticket_id))
    audience.take_unread(9)
    audience.reread(["c", "x", "a", "c"])
    assert audience.take_unread(9) == [("c", "seat"), ("a", "seat")]
    audience.reread()
    assert audience.take_unread(9) == [("a", "seat"), ("b", "seat"), ("c", "seat")]


def test_reads_are_handed_out_in_batches_and_a_ticket_that_moves_meanwhile_again() -> None:
    audience = Audience("sale")
    for ticket_id in "abc":
        audience.add(a_client(ticket_id))
    assert audience.take_unread(2) == [("a", "seat"), ("b", "seat")]
    assert audience.unread.is_set()
    audience.reread(["a"])
    assert audience.take_unread(2) == [("c", "seat"), ("a", "seat")]
    assert not audience.unread.is_set()


def test_two_windows_of_a_ticket_are_read_once_and_told_both() -> None:
    audience, one, other = Audience("sale"), a_client("a"), a_client("a")
    audience.add(one)
    audience.add(other)
    assert audience.take_unread(9) == [("a", "seat")]
    assert set(audience.of("a")) == {one, other}
    audience.remove(one)
    assert audience.of("a") == (other,)
    audience.reread(["a"])
    audience.remove(other)
    assert audience.of("a") == ()
    assert audience.take_unread(9) == []
    audience.reread()
    assert audience.take_unread(9) == [], "nobody is read for, or kept, who is gone"
