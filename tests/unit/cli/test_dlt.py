import json

from tests.support.commands import fairline
from tests.unit.cli.conftest import FakeGateway

ROW = {
    "id": "orders-0-7-1f3a9c0d",
    "kind": "order",
    "state": "open",
    "sale_id": "spring",
    "ticket_id": "11111111-1111-4111-8111-111111111111",
    "verdict": "failed",
    "reason": "CheckViolationError:\n no such unit",
    "attempts": 3,
    "given_up_at": "2026-01-01T00:00:00Z",
    "readmitted_as": None,
    "handled_at": None,
    "invented_later": "yes",
}


def a_page(*rows: object, **more: object) -> tuple[int, object]:
    return 200, {"dead_letters": list(rows), "next": None} | more


async def test_the_open_ones_are_listed_one_a_line(gateway: FakeGateway) -> None:
    gateway.answers = [a_page(ROW)]
    ran = await fairline("dlt", "list", "--sale", "spring")
    assert gateway.last[:2] == ("GET", "/admin/dead-letters?sale_id=spring&state=open")
    row = [ROW["id"], "open", "failed", "spring", ROW["ticket_id"], "3", "CheckViolationError: no such unit"]
    assert ran.out == "\t".join(map(str, row)) + "\n"


async def test_all_pages_are_listed_also_after_an_empty_one(gateway: FakeGateway) -> None:
    gateway.answers = [a_page(ROW, next="7"), a_page(next="8"), a_page(ROW | {"id": "c"})]
    ran = await fairline("dlt", "list", "--state", "discarded", "--json")
    assert [row["id"] for row in json.loads(ran.out)] == [ROW["id"], "c"]
    assert [path for _, path, _, _ in gateway.calls] == [
        "/admin/dead-letters?state=discarded",
        "/admin/dead-letters?state=discarded&cursor=7",
        "/admin/dead-letters?state=discarded&cursor=8",
    ]


async def test_one_is_shown_with_its_record(gateway: FakeGateway) -> None:
    record = {"topic": "fairline.orders", "key": "k", "value": "{]", "headers": [["ce_type", "order.placed.v1"]]}
    gateway.answers = [(200, ROW | record)]
    ran = await fairline("dlt", "show", str(ROW["id"]))
    assert gateway.last[:2] == ("GET", f"/admin/dead-letters/{ROW['id']}")
    for line in ("header ce_type  order.placed.v1", "{]", "fairline.orders", "CheckViolationError: no such unit"):
        assert line in ran.out


async def shown_value(gateway: FakeGateway, value: str, size: int | None) -> str:
    record: dict[str, object] = {
        "topic": "fairline.orders",
        "key": "\x1b[2J",
        "value": value,
        "value_bytes": size,
        "headers": [],
    }
    gateway.answers = [(200, ROW | record)]
    out = (await fairline("dlt", "show", str(ROW["id"]))).out
    assert "\x1b" not in out, "a terminal would obey it"
    return out.partition("\nvalue ")[2].strip()


async def test_a_record_is_shown_as_what_it_is(gateway: FakeGateway) -> None:
    pretty = await shown_value(gateway, '{"units":[1],"sku":"s\\u001b"}', 30)
    lines = pretty.splitlines()
    assert [line.strip() for line in lines] == ["{", '"units": [', "1", "],", '"sku": "s\\u001b"', "}"]
    assert len({len(line) - len(line.lstrip()) for line in (lines[1], lines[4])}) == 1
    assert await shown_value(gateway, "Grüße, {]", 11) == "Grüße, {]"
    assert await shown_value(gateway, "\\xff is text here", 17) == "\\xff is text here"
    assert await shown_value(gateway, "\\xff\\xfe", 2) == "2 bytes, not all text: \\xff\\xfe"
    assert await shown_value(gateway, "a\x00\x1b[31m", 7) == "7 bytes, not all text: a\\x00\\x1b[31m"
    assert await shown_value(gateway, '"\x9b31m"', 7) == '"\\x9b31m"', "JSON may hold such a letter"
    assert await shown_value(gateway, "a\x07", None) == "2 bytes, not all text: a\\x07", "a gateway of before"


async def test_each_act_is_a_call_for_each_letter_with_the_reason(gateway: FakeGateway) -> None:
    for act, state, says in (
        ("replay", "replayed", "a is replayed."),
        ("readmit", "readmitted", "a is readmitted as ticket new."),
        ("discard", "discarded", "a is discarded."),
    ):
        new = "new" if act == "readmit" else None
        gateway.answers = [(200, ROW | {"id": name, "state": state, "readmitted_as": new}) for name in ("a", "b")]
        ran = await fairline("dlt", act, "a", "b", "--reason", "they called")
        assert ran.out.splitlines()[0] == says
        assert gateway.last == ("POST", f"/admin/dead-letters/b/{act}", {"reason": "they called"})


async def test_a_refusal_ends_it_names_its_letter_and_what_was_done_before_is_printed(gateway: FakeGateway) -> None:
    refusal = {"code": "order_failed", "detail": "Readmit."}
    gateway.answers = [(200, ROW | {"id": "a", "state": "replayed"}), (409, refusal)]
    ran = await fairline("dlt", "replay", "a", "b", "c")
    assert (ran.code, ran.out, ran.err) == (1, "a is replayed.\n", "b: Readmit. (order_failed)\n")
    assert len(gateway.calls) == 2
