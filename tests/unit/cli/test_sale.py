import json
from pathlib import Path

from tests.support.commands import fairline
from tests.unit.cli.conftest import SALE, FakeGateway

FULL = {
    "sale_id": "spring",
    "name": "Spring",
    "items": [{"sku": "teapot", "name": "teapot", "stock": 5}],
    "per_buyer_limit": 1,
    "rate_per_s": None,
    "capacity": None,
    "opens_at": None,
    "ends_at": None,
    "message": None,
    "when_sold_out": "close_line",
    "validator": {},
}


async def test_a_sale_is_created_from_flags(gateway: FakeGateway) -> None:
    ran = await fairline(
        *("sale", "create", "--id", "spring", "--name", "Spring", "--item", "teapot=5", "--item", "lamp=2:A lamp"),
        *("--rate", "50", "--limit", "2", "--validator", "simulated", "--decline-share", "0.1"),
        *("--opens-at", "2027-01-31T10:00:00+01:00"),
    )
    assert ran.code == 0, ran.err
    method, path, body = gateway.last
    assert (method, path) == ("POST", "/admin/sales")
    assert body == FULL | {
        "items": [{"sku": "teapot", "name": "teapot", "stock": 5}, {"sku": "lamp", "name": "A lamp", "stock": 2}],
        "rate_per_s": 50.0,
        "per_buyer_limit": 2,
        "validator": {"kind": "simulated", "decline_share": 0.1},
        "opens_at": "2027-01-31T10:00:00+01:00",
    }
    assert gateway.calls[-1][2] == "Bearer secret"
    assert "teapot" in ran.out


async def test_a_sale_is_created_from_a_file_with_flags_over_it(gateway: FakeGateway, tmp_path: Path) -> None:
    file = tmp_path / "sale.json"
    file.write_text(json.dumps({**FULL, "validator": {"kind": "accept"}}))
    assert (await fairline("sale", "create", str(file))).code == 0
    assert gateway.last[2] == FULL
    assert (await fairline("sale", "create", str(file), "--id", "summer", "--capacity", "9")).code == 0
    assert gateway.last[2] == FULL | {"sale_id": "summer", "capacity": 9}


async def test_what_is_no_sale_is_refused_in_one_sentence_before_anything_is_sent(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    unknown = tmp_path / "unknown.json"
    unknown.write_text(json.dumps({**FULL, "colour": "blue"}))
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    latin = tmp_path / "latin.json"
    latin.write_bytes(b'{"name": "caf\xe9"}')
    deep = tmp_path / "deep.json"
    deep.write_text('{"a":' * 100_000)
    for arguments, says in (
        (["--id", "spring"], "`name`"),
        (["--id", "Not Good", "--name", "x", "--item", "a=1"], "sale_id"),
        (["--id", "spring", "--name", "x", "--item", "a"], "SKU=STOCK"),
        (["--id", "spring", "--name", "x", "--item", "a=1", "--item", "a=2"], "a sku is listed twice"),
        (["--id", "spring", "--name", "x", "--item", "a=1", "--rate", "0"], "rate_per_s"),
        (["--id", "spring", "--name", "x", "--item", "a=1", "--validator-url", "http://shop/"], "kind http alone"),
        ([str(unknown)], "colour"),
        ([str(broken)], "not a sale in JSON"),
        ([str(latin)], "not a sale in JSON"),
        ([str(deep)], "not a sale in JSON"),
        (["--id", "spring", "--name", "x", "--item", f"a={'9' * 5000}"], "SKU=STOCK"),
        ([str(tmp_path / "absent.json")], "cannot be read"),
    ):
        ran = await fairline("sale", "create", *arguments)
        assert ran.code == 1, arguments
        assert says in ran.err
        assert ran.err.strip().count("\n") == 0, ran.err
    assert gateway.calls == []


async def test_json_prints_what_the_gateway_said_members_unknown_here_included(gateway: FakeGateway) -> None:
    assert (await fairline("sale", "show", "spring", "--json")).json == SALE


async def test_show_is_for_people_and_in_a_pipe_for_cut(gateway: FakeGateway) -> None:
    out = (await fairline("sale", "show", "spring")).out
    assert "50 a second" in out
    assert "teapot\t5\t2\t7" in out
    gateway.answers = [(200, SALE | {"rate_per_s": None, "capacity": 3, "acknowledged": False, "message": "hello"})]
    out = (await fairline("sale", "show", "spring")).out
    assert "as fast as it can, 3 at a time" in out
    assert "not yet" in out
    assert "hello" in out


async def test_the_list_is_read_page_by_page(gateway: FakeGateway) -> None:
    row = {"sale_id": "spring", "name": "Spring", "state": "open", "waiting": 7}
    lost = {"sale_id": "summer", "name": None, "state": "recovering", "waiting": None}
    gateway.answers = [(200, {"sales": [row], "next": "spring"}), (200, {"sales": [lost], "next": None})]
    assert (await fairline("sale", "list")).out == "spring\topen\t7\tSpring\nsummer\trecovering\t-\t-\n"
    assert [path for _, path, _, _ in gateway.calls] == ["/admin/sales", "/admin/sales?after=spring"]
    gateway.answers = [(200, {"sales": [row], "next": None})]
    assert (await fairline("sale", "list", "--json")).json == [row]


async def test_actions_go_to_their_own_addresses_with_a_reason(gateway: FakeGateway) -> None:
    for action in ("open", "pause", "resume", "end"):
        assert (await fairline("sale", action, "spring", "--reason", "because")).code == 0
        assert gateway.last == ("POST", f"/admin/sales/spring/{action}", {"reason": "because"})


async def test_a_rate_is_a_number_or_none(gateway: FakeGateway) -> None:
    assert (await fairline("rate", "spring", "50")).code == 0
    assert gateway.last == ("PATCH", "/admin/sales/spring", {"rate_per_s": 50.0, "reason": ""})
    assert (await fairline("rate", "spring", "none", "--reason", "go")).code == 0
    assert gateway.last == ("PATCH", "/admin/sales/spring", {"rate_per_s": None, "reason": "go"})
    asked = len(gateway.calls)
    for wrong in ("fast", "nan", "inf", "0"):
        ran = await fairline("rate", "spring", wrong)
        assert (ran.code, len(gateway.calls)) == (1, asked)
        assert f"'{wrong}'" in ran.err


async def test_stock_is_absolute_and_takes_the_next_version_by_itself(gateway: FakeGateway) -> None:
    done = {"sale_id": "spring", "sku": "teapot", "stock": 9, "version": 8}
    gateway.answers = [(200, done)]
    ran = await fairline("stock", "spring", "teapot", "9", "--version", "8")
    assert ran.code == 0, ran.err
    path = "/admin/sales/spring/items/teapot/stock"
    assert gateway.last == ("PUT", path, {"stock": 9, "version": 8, "reason": ""})
    assert "9 units" in ran.out
    asked = len(gateway.calls)
    gateway.answers = [(200, done)]
    assert (await fairline("stock", "spring", "teapot", "9", "--version", "0")).code == 0
    assert gateway.last[2]["version"] == 0, "a version that was given is the gateway's to refuse"
    assert len(gateway.calls) == asked + 1
    gateway.answers = [(200, SALE), (200, done | {"version": 4})]
    assert (await fairline("stock", "spring", "teapot", "9", "--json")).json["version"] == 4
    assert gateway.last == ("PUT", path, {"stock": 9, "version": 4, "reason": ""})
    ran = await fairline("stock", "spring", "lamp", "9")
    assert ran.code == 1
    assert "has no item lamp" in ran.err


async def test_stats_are_counts_and_refusals(gateway: FakeGateway) -> None:
    counts = {"joined": 7, "waiting": 7, "refused": {"sold_out": 3}, "items": [{}]}
    gateway.answers = [(200, counts), (200, counts)]
    assert (await fairline("stats", "spring")).out.split("\n")[:3] == [
        "joined             7",
        "waiting            7",
        "refused: sold_out  3",
    ]
    assert (await fairline("stats", "spring", "--json")).json == counts
