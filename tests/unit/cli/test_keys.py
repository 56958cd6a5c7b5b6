from tests.support.commands import fairline
from tests.unit.cli.conftest import FakeGateway

KEY = {"name": "ada", "role": "viewer", "created_at": "2027-01-31T10:00:00Z", "key": "fl_secret"}


async def test_a_new_key_goes_to_standard_output_alone(gateway: FakeGateway) -> None:
    gateway.answers = [(201, KEY), (201, KEY)]
    ran = await fairline("key", "add", "ada", "--role", "viewer")
    assert ran.out == "fl_secret\n"
    assert "not shown again" in ran.err
    assert gateway.last == ("POST", "/admin/keys", {"name": "ada", "role": "viewer"})
    assert (await fairline("key", "add", "ada", "--json")).json == KEY
    assert gateway.last[2] == {"name": "ada", "role": "operator"}


async def test_the_list_shows_names_and_roles(gateway: FakeGateway) -> None:
    rows = {"keys": [{name: value for name, value in KEY.items() if name != "key"}]}
    gateway.answers = [(200, rows), (200, rows)]
    assert (await fairline("key", "list")).out == "ada\tviewer\t2027-01-31 10:00\n"
    assert (await fairline("key", "list", "--json")).json == rows


async def test_a_revoked_key_is_named(gateway: FakeGateway) -> None:
    gateway.answers = [(204, None), (204, None)]
    assert (await fairline("key", "revoke", "ada")).out == "ada is revoked.\n"
    assert gateway.last == ("DELETE", "/admin/keys/ada", None)
    assert (await fairline("key", "revoke", "ada", "--json")).json == {"name": "ada", "revoked": True}
