"""Dead letters and the audit log. Viewers look, operators act (S2). The order service has both, Redis the tickets."""

from typing import Any, Final, Literal

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from fairline.ids import readmission_of
from fairline.runtime import logs
from fairline.store.room import Room
from gateway.answers import AnyRequest, answer, request_id_of
from gateway.auth import Keyring, operator_of
from gateway.bodies import OPERATORS_LIMIT_BYTES, Body
from gateway.openapi import OPT, Doc
from gateway.problems import Problem
from gateway.records import Records
from gateway.routes.reports import LIMIT, checked_query
from gateway.sale_desk import check_text
from gateway.schemas import ActionRequest, AuditLog, DeadLetter, DeadLetterId, DeadLetterList, DeadLetterRow

PATH: Final = "/admin/dead-letters/{dead_letter_id:str}"
_PAGE: Final = {
    "sale_id": (str, "only those of this sale"),
    "limit": LIMIT,
    "cursor": (str, "the `next` of the page before"),
}
_STATE: Final = (str, "only those that are open, replayed, readmitted or discarded")
# What readmit.lua says, and what the operator reads.
_WHY_NOT: Final = {
    "UNKNOWN": "ticket_archived",
    "NOT_RELEASED": "not_released",
    "SALE_CLOSED": "sale_closed",
    "LIVE": "has_live_ticket",
    "ALREADY_BOUGHT": "already_bought",
    "OVER_LIMIT": "over_limit",
    "SOLD_OUT": "sold_out",
}


def _doc(summary: str, kind: type, what: str, *, who: Literal["viewer", "operator"] = "viewer", **more: Any) -> Any:
    problems = ("bad_gateway", *more.pop("problems", ()))
    return {OPT: Doc(tag="operators", summary=summary, who=who, answers={200: (kind, what)}, problems=problems, **more)}


def _act_doc(summary: str, *problems: str) -> Any:
    return _doc(
        summary,
        DeadLetterRow,
        "the dead letter as it is now; again: the same",
        who="operator",
        body=ActionRequest,
        body_required=False,
        problems=("unknown_dead_letter", "already_handled", *problems),
    )


_LIST: Final = _doc(
    "List dead letters",
    DeadLetterList,
    "a page, after a look at their topics",
    query=_PAGE | {"state": _STATE},
    problems=("invalid_query",),
)
_SHOW: Final = _doc("Show a dead letter", DeadLetter, "it and its record", problems=("unknown_dead_letter",))
_REPLAY: Final = _act_doc("Send a record again that has no verdict", "order_failed", "record_too_large")
_DISCARD: Final = _act_doc("Close a dead letter")
_READMIT: Final = _act_doc(
    "Give the buyer of a failed order a new ticket at the old place",
    *("no_verdict", "no_ticket", "order_confirmed", "recovering", *_WHY_NOT.values()),
)
_AUDIT: Final = _doc("Who did what", AuditLog, "a page, the latest first", query=_PAGE, problems=("invalid_query",))


class _Letter(msgspec.Struct):
    """What a readmission needs to know of a dead letter: one with a verdict, and so with a sale and a ticket."""

    state: str
    sale_id: str
    ticket_id: str


def dead_letters(
    keyring: Keyring, room: Room, records: Records, *, body_timeout_s: float
) -> list[ControllerRouterHandler]:
    """The routes, served by these."""
    viewer, operator = [keyring.needs("viewer")], [keyring.needs("operator")]
    reason = Body(ActionRequest, limit_bytes=OPERATORS_LIMIT_BYTES, within_s=body_timeout_s, may_be_empty=True)

    async def asked(request: AnyRequest, dead_letter_id: str, act: str) -> bytes:
        body = await reason.read(request.scope, request.receive)
        check_text("reason", body.reason)
        who = operator_of(request)
        said = {"operator": who.name, "role": who.role, "reason": body.reason, "request_id": request_id_of(request)}
        done = await records.act(f"dead-letters/{_known(dead_letter_id)}/{act}", said)
        logs.get(__name__).info("operator", operator=who.name, action=f"dead_letter.{act}", dead_letter=dead_letter_id)
        return done

    @get("/admin/dead-letters", guards=viewer, opt=_LIST)
    async def list_dead_letters(request: AnyRequest) -> Response[bytes]:
        return answer(await records.look("dead-letters", checked_query(request, _PAGE | {"state": _STATE})))

    @get(PATH, guards=viewer, opt=_SHOW)
    async def show_dead_letter(dead_letter_id: FromPath[str]) -> Response[bytes]:
        return answer(await records.look(f"dead-letters/{_known(dead_letter_id)}", {}))

    @post(f"{PATH}/replay", status_code=200, guards=operator, opt=_REPLAY)
    async def replay_dead_letter(request: AnyRequest, dead_letter_id: FromPath[str]) -> Response[bytes]:
        return answer(await asked(request, dead_letter_id, "replay"))

    @post(f"{PATH}/discard", status_code=200, guards=operator, opt=_DISCARD)
    async def discard_dead_letter(request: AnyRequest, dead_letter_id: FromPath[str]) -> Response[bytes]:
        return answer(await asked(request, dead_letter_id, "discard"))

    @post(f"{PATH}/readmit", status_code=200, guards=operator, opt=_READMIT)
    async def readmit_dead_letter(request: AnyRequest, dead_letter_id: FromPath[str]) -> Response[bytes]:
        # Whether it may be, in Postgres; the ticket, in Redis; that it is, in Postgres. Each may be repeated, and what
        # breaks off between them is finished by the same call again: the new ticket's id follows from the old one's.
        said = await asked(request, dead_letter_id, "readmit")
        new = await _new_ticket(room, said)
        if new is None:
            return answer(said)
        return answer(await records.act(f"dead-letters/{dead_letter_id}/readmitted", {"ticket_id": new}))

    @get("/admin/audit", guards=viewer, opt=_AUDIT)
    async def show_audit(request: AnyRequest) -> Response[bytes]:
        return answer(await records.look("audit", checked_query(request, _PAGE)))

    return [
        list_dead_letters,
        show_dead_letter,
        replay_dead_letter,
        readmit_dead_letter,
        discard_dead_letter,
        show_audit,
    ]


def _known(dead_letter_id: str) -> str:
    try:
        return str(msgspec.convert(dead_letter_id, DeadLetterId))
    except msgspec.ValidationError:
        raise Problem("unknown_dead_letter") from None


async def _new_ticket(room: Room, said: bytes) -> str | None:
    """Put the buyer of a dead letter back into line; the new ticket, or nothing where Postgres knows it already."""
    letter = msgspec.json.decode(said, type=_Letter)
    word = await room.readmit(letter.sale_id, letter.ticket_id)
    if letter.state == "readmitted":  # asked again all the same: Redis may have lost the new ticket since
        return None
    if word in _WHY_NOT:
        raise Problem(_WHY_NOT[word])
    return readmission_of(letter.sale_id, letter.ticket_id)
