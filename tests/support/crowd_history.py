"""The log of the demo's crowd as a history, so that the checker judges what the tests play besides the demo's verdict.

The log keeps one call for all attempts of a request, and no times of sockets: the first sending and the last answer
bracket a call, and a socket was opened after its join was sent. What is wider than the truth proves less, and accuses
nobody.
"""

import time
from typing import Any

import msgspec

from fairline.demo.log import JOINED, NO_ANSWER, Held, Log
from fairline.demo.watch import Seen
from fairline.frames import TicketFrame
from fairline.sale import SaleDefinition
from loadtest.history import (
    Answered,
    AnyRecord,
    Began,
    Fault,
    Heard,
    History,
    LostWrites,
    Moved,
    Opening,
    Rest,
    Sample,
    Sent,
    gather,
    order,
)


def history_of(
    definition: SaleDefinition, log: Log, seen: Seen, *, opened_s: float, rested: bool, lost: LostWrites = "none"
) -> History:
    """One history of everything that the crowd and its bystander noted."""
    now = time.monotonic()
    records: list[AnyRecord] = [
        Began(at_s=now, sale_id=definition.sale_id, wall_ms=time.time_ns() // 1_000_000),
        Sent(at_s=opened_s, call=-1, what="create", body=msgspec.to_builtins(definition)),
        Answered(at_s=opened_s, call=-1, status=201),
        Sent(at_s=opened_s, call=-2, what="open"),
    ]
    if lost != "none":
        records.append(Fault(at_s=opened_s, fault=-3, what="kill", target="redis", lost=lost))
    number = 0
    for call in log.calls:
        number += 1
        about: dict[str, Any] = {"buyer_id": call.buyer_id, "sku": call.sku, "key": call.key}
        records.append(Sent(at_s=call.sent_s, call=number, what="join", **about))
        if call.answered_s is not None and call.word != NO_ANSWER:
            held = log.tickets.get(call.ticket_id)
            told: dict[str, Any] = {"ticket_id": call.ticket_id} if call.ticket_id else {"code": call.word}
            if held is not None and call.word == JOINED:
                told |= {"arrival": held.arrival, "state": held.told[0].state, "token": True}
            records.append(Answered(at_s=call.answered_s, call=number, status=call.status, **told))
    for held in log.tickets.values():
        number += 1
        records += _told(held, number, definition.sale_id)
        number += len(held.told)
    since_s = opened_s - 1
    for sample in seen.samples:
        counts = {sku: each.states | {"joined": each.joined} for sku, each in sample.skus.items()}
        records.append(Sample(asked_s=since_s, at_s=sample.at_s, in_flight=sample.in_flight, counts=counts))
        since_s = sample.at_s
    if seen.listened:
        records.append(Moved(at_s=opened_s, ticket_ids=tuple(seen.moved)))
    if rested:
        records.append(Rest(at_s=now, rested=True))
    history = History()
    gather(records, history)
    order(history)
    return history


def _told(held: Held, number: int, sale_id: str) -> list[AnyRecord]:
    """The frames of all its sockets as if they were of one, and every status."""
    records: list[AnyRecord] = [Opening(at_s=held.sent_s, socket=number, ticket_id=held.ticket_id)]
    for call, told in enumerate(held.told, number + 1):
        if told.via == "status":
            records += [
                Sent(at_s=told.asked_s, call=call, what="status", ticket_id=held.ticket_id),
                Answered(
                    at_s=told.at_s,
                    call=call,
                    status=200,
                    ticket_id=held.ticket_id,
                    state=told.state,
                    reason=told.reason,
                    units=told.units,
                ),
            ]
        elif told.via == "socket":
            frame = TicketFrame(
                sale_id=sale_id,
                ticket_id=held.ticket_id,
                sku=held.sku,
                state=told.state,
                reason=told.reason,
                quantity=1,
                arrival=held.arrival,
                number=held.number,
                epoch=0,
                units=told.units or (),
                final=told.final,
            )
            raw = msgspec.Raw(msgspec.json.encode(frame))
            records.append(Heard(at_s=told.at_s, socket=number, frame=raw))
    return records
