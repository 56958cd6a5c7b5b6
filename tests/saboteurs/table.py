"""One-line saboteurs: each breaks one rule of the product, and what must catch it is named beside it.

    python -m tests.saboteurs.table            writes the table of docs/guarantees.md anew

The product knows nothing of them: a test changes that line in a copy. ``line`` stands in its file exactly once, or the
test fails; so nothing here can go on breaking what is no longer there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from loadtest.checker import INVARIANTS
from tests.support.deployment import ROOT

PAGE: Final = ROOT / "docs" / "guarantees.md"
BEGIN: Final = "<!-- saboteurs: begin -->"
END: Final = "<!-- saboteurs: end -->"

_SCRIPTS: Final = "tests/integration/scripts"
_ADMISSION: Final = "tests/integration/admission"
_ORDERS: Final = "tests/integration/order_service"


@dataclass(frozen=True)
class Saboteur:
    """``caught_by`` is a test, by its node id, or the number of the invariant that the checker finds violated."""

    name: str
    breaks: str
    file: str
    line: str
    instead: str
    caught_by: str | int

    def change(self, text: str) -> str:
        """The text of its file with the one line changed; raises ``LookupError`` unless the line is there once."""
        if (found := text.count(self.line)) != 1:
            raise LookupError(f"{self.name}: its line stands in {self.file} {found} times: {self.line.strip()}")
        changed = text.replace(self.line, self.instead)
        if len(changed.splitlines()) != len(text.splitlines()):
            raise LookupError(f"{self.name}: it changes more than one line")
        return changed


BY_TESTS: Final = (
    Saboteur(
        name="reserve without the stock check",
        breaks="1, U1",
        file="admission/lua/reserve.lua",
        line="if item.back + math.max(0, item.high - item.first + 1) < takes then return 'NO_UNIT' end",
        instead="if takes < 1 then return 'NO_UNIT' end",
        caught_by=f"{_SCRIPTS}/test_reserve.py::"
        "test_without_units_enough_nothing_is_changed_and_the_next_ticket_is_tried",
    ),
    Saboteur(
        name="outbox entry forgotten",
        breaks="4, O2",
        file="admission/lua/reserve.lua",
        line="  post_order(keys.outbox, sale_id, epoch, id, ticket)",
        instead="",
        caught_by=f"{_SCRIPTS}/test_reserve.py::test_units_and_slots_are_taken_and_the_order_is_in_the_outbox",
    ),
    Saboteur(
        name="offset committed before the transaction",
        breaks="4, V5",
        file="order_service/writer.py",
        line="this = await self._decide([*due, *batch])",
        instead="_, this = await self._reader.commit(batch), await self._decide([*due, *batch])",
        caught_by=f"{_ORDERS}/test_writer.py::test_v5_no_offset_passes_before_its_verdict_is_written_and_told[commit]",
    ),
    Saboteur(
        name="release done twice",
        breaks="3, S1",
        file="fairline/states.py",
        line="(State.RESERVED, Event.RELEASE): State.RELEASED,",
        instead="(State.RESERVED, Event.RELEASE): State.RELEASED, (State.RELEASED, Event.RELEASE): State.RELEASED,",
        caught_by=f"{_SCRIPTS}/test_races.py::test_s1_forty_verdicts_of_both_kinds_at_once_settle_a_ticket_once",
    ),
    Saboteur(
        name="lease without fence: reserve does not ask whose lease it is",
        breaks="5, L2",
        file="admission/lua/reserve.lua",
        line="if ticket[F.state] ~= 'ADMITTED' or ticket[F.lease] ~= lease then return 'STALE' end",
        instead="if ticket[F.state] ~= 'ADMITTED' then return 'STALE' end",
        caught_by=f"{_SCRIPTS}/test_reserve.py::"
        "test_l2_an_ended_lease_reserves_nothing_once_the_ticket_is_in_other_hands",
    ),
    Saboteur(
        name="a fence that any Redis passes",
        breaks="D1",
        file="fairline/store/lua/shared/prelude.lua",
        line="return fence ~= ANY_FENCE and fence ~= instance()",
        instead="return not fence",
        caught_by=f"{_SCRIPTS}/test_fence.py::"
        "test_d1_every_script_refuses_a_foreign_or_absent_fence_and_changes_nothing[halted-admission-reserve]",
    ),
    Saboteur(
        name="a claim given up twice with each decline",
        breaks="1, L6",
        file="admission/lua/decline.lua",
        line="add(keys.items, ticket[F.sku] .. ':claims', -ticket[F.quantity])",
        instead="add(keys.items, ticket[F.sku] .. ':claims', -2 * ticket[F.quantity])",
        caught_by=f"{_SCRIPTS}/test_leases.py::"
        "test_a_declined_ticket_frees_claim_capacity_and_buyer_and_postgres_is_told",
    ),
    Saboteur(
        name="admit forgets whom it gave this lease",
        breaks="L1",
        file="admission/lua/admit.lua",
        line="if granted then",
        instead="if granted == lease then",
        caught_by=f"{_SCRIPTS}/test_admit.py::test_l1_the_same_lease_brings_the_same_tickets_and_admits_nobody_else",
    ),
    Saboteur(
        name="capacity without those in flight",
        breaks="6, L3",
        file="admission/lua/admit.lua",
        line="if capacity then room = math.min(room, capacity - in_flight) end",
        instead="if capacity then room = math.min(room, capacity) end",
        caught_by=f"{_SCRIPTS}/test_admit.py::test_l3_capacity_is_the_number_of_leases_in_redis",
    ),
    Saboteur(
        name="an ended lease goes to the back of the line",
        breaks="5, L5",
        file="fairline/store/lua/shared/requeue.lua",
        line="redis.call('ZADD', line, ticket[F.arrival], id)",
        instead="redis.call('ZADD', line, now, id)",
        caught_by=f"{_SCRIPTS}/test_leases.py::test_l5_an_ended_lease_goes_back_to_its_old_place_until_it_lapses",
    ),
    Saboteur(
        name="the line is sent home while an order may still come back",
        breaks="2, E2",
        file="admission/lua/sweep.lua",
        line="target_high > high) == 'sold_out' then",
        instead="target_high > high) ~= 'available' then",
        caught_by=f"{_SCRIPTS}/test_end.py::test_e2_nobody_is_swept_while_a_unit_may_still_come_back",
    ),
    Saboteur(
        name="a unit that somebody else was sold goes on sale again",
        breaks="1, U4",
        file="admission/lua/settle.lua",
        line="if not sold[unit] and not lost then redis.call(",
        instead="if not sold[unit] then redis.call(",
        caught_by=f"{_SCRIPTS}/test_settle.py::test_u4_unit_taken_is_not_put_back_and_halts_the_sale",
    ),
    Saboteur(
        name="an order is never sent again",
        breaks="4, O3",
        file="admission/lua/redrive.lua",
        line="  post_order(keys.outbox, meta[1], tonumber(meta[2]), id, ticket)",
        instead="",
        caught_by=f"{_SCRIPTS}/test_redrive.py::test_o3_the_same_order_is_sent_again_with_the_epoch_of_today",
    ),
    Saboteur(
        name="the relay removes what Kafka did not acknowledge",
        breaks="4, O1",
        file="admission/relay.py",
        line="done = [entry for (entry, _), ok in zip(entries, acknowledged, strict=True) if ok]",
        instead="done = [entry for (entry, _), ok in zip(entries, acknowledged, strict=True)]",
        caught_by=f"{_ADMISSION}/test_relay.py::test_o1_what_is_acknowledged_leaves_and_what_is_not_is_sent_again",
    ),
    Saboteur(
        name="the settler commits before it settles",
        breaks="3, S1",
        file="admission/settler.py",
        line="for sale_id, facts in by_sale.items():",
        instead="for sale_id, facts in (await self._reader.commit(records), by_sale.items())[1]:",
        caught_by=f"{_ADMISSION}/test_settler.py::test_redis_away_in_the_middle_commits_nothing_and_settles_later",
    ),
    Saboteur(
        name="a late answer of admit makes a lease longer",
        breaks="L4",
        file="admission/controller.py",
        line="return _Lease(old.id, min(old.ends, new.ends))",
        instead="return _Lease(old.id, new.ends)",
        caught_by=f"{_ADMISSION}/test_controller.py::test_l4_the_deadline_counts_from_before_the_first_call_of_admit",
    ),
    Saboteur(
        name="an order of before the rebuild is written all the same",
        breaks="1, V7",
        file="order_service/orders.py",
        line="    if order.epoch < sale.epoch:",
        instead="    if order.epoch < 0:",
        caught_by=f"{_ORDERS}/test_orders.py::test_v7_an_older_epoch_without_a_row_is_passed_over_in_silence",
    ),
    Saboteur(
        name="half an order is written",
        breaks="V3",
        file="order_service/queries/place_orders.sql",
        line="cardinality(w.units) = coalesce(c.units, 0) AS whole",
        instead="coalesce(c.units, 0) > 0 AS whole",
        caught_by=f"{_ORDERS}/test_orders.py::"
        "test_v3_in_one_batch_those_in_the_way_are_decided_alone_and_refuse_nobody",
    ),
    Saboteur(
        name="a redelivered order is told nothing",
        breaks="3, V5",
        file="order_service/orders.py",
        line="return Done((fact,), given_up=",
        instead="return Done((), given_up=",
        caught_by=f"{_ORDERS}/test_orders.py::test_v1_an_order_gets_one_row_and_its_repeats_the_same_verdict",
    ),
    Saboteur(
        name="the gateway ignores the Idempotency-Key",
        breaks="5, R2",
        file="gateway/joins.py",
        line="ids.new_ticket_id() if key is None else ids.ticket_id_for(sale_id, asked.sku, asked.buyer_id, key)",
        instead="ids.new_ticket_id()",
        caught_by="tests/integration/gateway/test_joins.py::"
        "test_forty_joins_at_once_with_one_key_are_one_ticket_and_one_token",
    ),
    Saboteur(
        name="whoever names a buyer gets that buyer's token",
        breaks="R2",
        file="gateway/joins.py",
        line='told=word != "LIVE"',
        instead="told=True",
        caught_by="tests/integration/gateway/test_joins.py::"
        "test_a_repeat_with_another_key_or_none_gets_the_live_ticket_without_its_token",
    ),
    Saboteur(
        name="a token opens every ticket of its sale",
        breaks="D4",
        file="fairline/tokens.py",
        line='if said["jti"] != ticket_id:',
        instead='if said["jti"] == "":',
        caught_by="tests/unit/kernel/test_tokens.py::test_a_token_is_for_one_ticket_of_one_sale",
    ),
    Saboteur(
        name="a gateway says sold out while units may come back",
        breaks="2, E2",
        file="gateway/board.py",
        line='row.outlook == "sold_out"',
        instead='row.outlook != "available"',
        caught_by="tests/unit/gateway/test_board.py::test_it_refuses_only_where_the_script_could_say_nothing_else",
    ),
    Saboteur(
        name="a notifier does not read what it did not hear",
        breaks="3",
        file="notifier/results.py",
        line="audience.reread()",
        instead="audience.reread([])",
        caught_by="tests/integration/notifier/test_trouble.py::test_a_killed_subscription_is_made_up_for",
    ),
    Saboteur(
        name="a notifier forgets whom one batch did not hold",
        breaks="3",
        file="notifier/hub.py",
        line="        if not self._unread:",
        instead="        if batch:",
        caught_by="tests/unit/notifier/test_hub.py::"
        "test_reads_are_handed_out_in_batches_and_a_ticket_that_moves_meanwhile_again",
    ),
)

# On the whole stack, in a sale of real buyers some of whose orders Postgres refuses.
BY_THE_CHECKER: Final = (
    Saboteur(
        name="five more of each go on sale than there are",
        breaks="1, U3",
        file="fairline/store/lua/sale_create.lua",
        line="sku .. ':high', stocks[at],",
        instead="sku .. ':high', stocks[at] + 5,",
        caught_by=1,
    ),
    Saboteur(
        name="a declined ticket keeps its claim to a unit",
        breaks="2, L6",
        file="admission/lua/decline.lua",
        line="    add(keys.items, ticket[F.sku] .. ':claims', -ticket[F.quantity])",
        instead="",
        caught_by=2,
    ),
    Saboteur(
        name="a notifier says CONFIRMED as soon as a unit is reserved",
        breaks="3, S1",
        file="notifier/results.py",
        line="state=ticket.state.value,",
        instead='state=ticket.state.value.replace("RESERVED", "CONFIRMED"),',
        caught_by=3,
    ),
    Saboteur(
        name="verdicts are told and their transaction is undone",
        breaks="4, V4",
        file="order_service/orders.py",
        line="decided, written = await _decide(connection, list(newest.values()))",
        instead="decided, written = await _decide(connection, [*newest.values()]); await connection.execute('ABORT')",
        caught_by=4,
    ),
    Saboteur(
        name="the last in line go first",
        breaks="5",
        file="admission/lua/admit.lua",
        line="line.page = redis.call('ZRANGE', line.key,",
        instead="line.page = redis.call('ZREVRANGE', line.key,",
        caught_by=5,
    ),
    Saboteur(
        name="the bucket is never emptied",
        breaks="6, P1",
        file="admission/lua/admit.lua",
        line="string.format('%.9g', tokens - #out / share)",
        instead="string.format('%.9g', tokens)",
        caught_by=6,
    ),
    Saboteur(
        name="a buyer may stand in line twice",
        breaks="7, R2",
        file="fairline/store/lua/join.lua",
        line="if other then",
        instead="if other == '' then",
        caught_by=7,
    ),
    Saboteur(
        name="whoever leaves a state is still counted in it",
        breaks="8, C1",
        file="fairline/store/lua/shared/prelude.lua",
        line="add(keys.counts, sku .. ':' .. from, -1)",
        instead="add(keys.counts, sku .. ':' .. from, 0)",
        caught_by=8,
    ),
)

SABOTEURS: Final = (*BY_TESTS, *BY_THE_CHECKER)


def rows() -> Iterator[str]:
    """The table of the page."""
    yield "| saboteur | breaks | in | caught by |"
    yield "|---|---|---|---|"
    names = list(INVARIANTS)
    for each in SABOTEURS:
        if isinstance(each.caught_by, int):
            catcher = f"the checker, as {each.caught_by} *{names[each.caught_by - 1]}*"
        else:
            catcher = f"`{each.caught_by.partition('[')[0].rpartition('::')[2]}`"
        yield f"| {each.name} | {each.breaks} | `{each.file}` | {catcher} |"


def written(page: str) -> str:
    """The page with the table as it is here; raises ``ValueError`` when it has no place for it."""
    before, found, rest = page.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not (found and closed):
        raise ValueError(f"the page has no place for the saboteurs: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n" + "\n".join(rows()) + f"\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
