"""The shapes of all JSON that the gateway takes and gives; OpenAPI is written from them."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from fairline.ids import BuyerId, SaleId, Sku, TicketId
from fairline.sale import MAX_PER_BUYER, Capacity, Instant, Message, Name, Rate, Reason, Stock, Validator
from fairline.states import SaleState, State

Quantity = Annotated[int, Meta(ge=1, le=MAX_PER_BUYER, description=f"1 to {MAX_PER_BUYER} units")]
# Lua counts in doubles: whole numbers are exact below 2^53.
Version = Annotated[int, Meta(ge=1, le=10**15, description="above the version of the last change")]
KeyName = Annotated[
    str,
    Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$(?!\n)", description="1 to 64 lower-case letters, digits, . _ -"),
]
Outlook = Annotated[str, Meta(description="available, all_reserved or sold_out")]
Role = Literal["viewer", "operator", "admin"]
Slow = Literal["outbox", "orders", "old_orders"]
DeadLetterId = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,299}$(?!\n)", description="as the list names it")
]


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """What we send; more members may be added later and must be ignored by those who do not know them."""


class Incoming(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What we take: members that we do not know are refused."""


class JoinRequest(Incoming, frozen=True, kw_only=True):
    """A wish for a place in line. All units or none, or with ``accept_fewer`` at least one of them."""

    sku: Sku
    buyer_id: BuyerId
    quantity: Quantity = 1
    accept_fewer: bool = False


class JoinAnswer(Outgoing, frozen=True, kw_only=True):
    """A ticket for the one who asked for it. ``token`` is null for a live ticket of another request (R2).

    ``quantity`` is less than what was asked for once ``accept_fewer`` has had to make use of it.
    """

    ticket_id: TicketId
    token: str | None
    arrival: int
    number: int
    epoch: int
    position: int | None
    ahead: int | None
    state: State
    reason: str | None
    sku: Sku
    quantity: int
    status_url: str
    ws_url: str


class NewTicket(Outgoing, frozen=True, kw_only=True):
    """The ticket that stands for a RELEASED one, for its owner."""

    ticket_id: TicketId
    token: str
    status_url: str
    ws_url: str


class TicketAnswer(Outgoing, frozen=True, kw_only=True):
    """A ticket as its buyer sees it. ``outcome`` is the state once it is final.

    ``next_poll_s`` is null then, unless the buyer may still be readmitted: ``readmitted_as`` is the new ticket.
    """

    ticket_id: TicketId
    sale_id: SaleId
    sku: Sku
    state: State
    outcome: State | None
    reason: str | None
    position: int | None
    ahead: int | None
    eta_s: float | None
    quantity: int
    units: tuple[int, ...]
    arrival: int
    number: int
    epoch: int
    next_poll_s: float | None
    changed_at: datetime
    readmitted_as: NewTicket | None


class PublicItem(Outgoing, frozen=True, kw_only=True):
    """One thing on sale, for everybody. The fields mean what they mean in a progress frame (E1)."""

    sku: Sku
    name: str
    outlook: Outlook
    served: int
    waiting: int
    older: int


class PublicSale(Outgoing, frozen=True, kw_only=True):
    """A sale, for everybody."""

    sale_id: SaleId
    name: str
    state: SaleState
    message: str | None
    per_buyer_limit: int
    rate_per_s: float | None
    epoch: int
    opens_at: datetime | None
    ends_at: datetime | None
    items: tuple[PublicItem, ...]
    server_time: datetime


class OperatorItem(Outgoing, frozen=True, kw_only=True):
    """One thing on sale, for its operator. ``version`` is the one of the last change of its stock, 0 for none."""

    sku: Sku
    name: str
    stock: int
    version: int
    free: int
    outlook: Outlook
    waiting: int
    served: int


class OperatorValidator(Outgoing, frozen=True, kw_only=True):
    """The shop's own check, with everything that was left to its default."""

    kind: str
    decline_share: float
    seed: int
    url: str | None
    timeout_ms: int


class OperatorSale(Outgoing, frozen=True, kw_only=True):
    """A sale, for its operator. ``acknowledged``: Postgres has the last change of it."""

    sale_id: SaleId
    name: str
    state: SaleState
    items: tuple[OperatorItem, ...]
    per_buyer_limit: int
    rate_per_s: float | None
    capacity: int | None
    opens_at: datetime | None
    ends_at: datetime | None
    message: str | None
    when_sold_out: str
    validator: OperatorValidator
    epoch: int
    version: int
    acknowledged: bool
    server_time: datetime


class SaleRow(Outgoing, frozen=True, kw_only=True):
    """A sale in a list; ``name`` is null while it is recovering."""

    sale_id: SaleId
    name: str | None
    state: SaleState
    waiting: int | None


class SaleList(Outgoing, frozen=True, kw_only=True):
    """Sales in the order of their ids; ``next`` is the ``after`` of the next page, null on the last."""

    sales: tuple[SaleRow, ...]
    next: str | None


class SalePatch(Incoming, frozen=True, kw_only=True):
    """Absolute values; what is absent stays, null clears."""

    name: Name | UnsetType = UNSET
    rate_per_s: Rate | UnsetType | None = UNSET
    capacity: Capacity | UnsetType | None = UNSET
    opens_at: Instant | UnsetType | None = UNSET
    ends_at: Instant | UnsetType | None = UNSET
    message: Message | UnsetType | None = UNSET
    when_sold_out: Literal["close_line", "keep_line"] | UnsetType = UNSET
    validator: Validator | UnsetType = UNSET
    reason: Reason = ""


class ActionRequest(Incoming, frozen=True, kw_only=True):
    """Why the sale is opened, paused, resumed or ended; kept in its history."""

    reason: Reason = ""


class StockRequest(Incoming, frozen=True, kw_only=True):
    """The stock as it shall be, absolutely; the same again changes nothing (U3)."""

    stock: Stock
    version: Version
    reason: Reason = ""


class StockAnswer(Outgoing, frozen=True, kw_only=True):
    """The stock as it is now, known to Postgres."""

    sale_id: SaleId
    sku: Sku
    stock: int
    version: int


class Counts(Outgoing, frozen=True, kw_only=True):
    """Tickets now in each state, and running totals. joined = the sum of the nine states, at every read."""

    joined: int
    waiting: int
    admitted: int
    reserved: int
    confirmed: int
    declined: int
    sold_out: int
    released: int
    left: int
    lapsed: int
    asked: int
    refused: dict[str, int]
    admitted_total: int
    declined_by_reason: dict[str, int]


class ItemCounts(Counts, frozen=True, kw_only=True):
    """The same of one sku, and its stock: ``free`` units nobody holds, ``high`` the highest serial on sale."""

    sku: Sku
    stock: int
    free: int
    high: int
    withdrawn: int


class SaleCounts(Counts, frozen=True, kw_only=True):
    """The counts of a sale at one instant. ``in_flight``: admitted now; ``outbox``: facts not yet on Kafka.

    ``admission_share``: of the pace that may be used now; below 1 ``slow_because`` says why.
    """

    sale_id: SaleId
    state: SaleState
    in_flight: int
    outbox: int
    admission_share: float
    slow_because: Slow | None
    items: tuple[ItemCounts, ...]
    server_time: datetime


class KeyRequest(Incoming, frozen=True, kw_only=True):
    """A new operator key."""

    name: KeyName
    role: Role


class KeyRow(Outgoing, frozen=True, kw_only=True):
    """An operator key without the key: that is told once."""

    name: str
    role: Role
    created_at: datetime


class NewKey(KeyRow, frozen=True, kw_only=True):
    """A new operator key, told this once; only its SHA-256 is kept."""

    key: str


class KeyList(Outgoing, frozen=True, kw_only=True):
    """All operator keys by name. The one of FAIRLINE_OPERATOR_KEY is not stored and not listed."""

    keys: tuple[KeyRow, ...]


class DeadLetterRow(Outgoing, frozen=True, kw_only=True):
    """A record that was given up. ``verdict`` is that of its order, null for none; ``reason`` of the last attempt."""

    id: DeadLetterId
    kind: Literal["order", "result", "sale", "ticket"]
    state: Literal["open", "replayed", "readmitted", "discarded"]
    sale_id: str | None
    ticket_id: str | None
    verdict: Literal["confirmed", "failed"] | None
    reason: str
    attempts: int
    given_up_at: datetime | None
    readmitted_as: str | None
    handled_at: datetime | None


class DeadLetter(DeadLetterRow, frozen=True, kw_only=True):
    """The same with the record. Bytes that are no UTF-8 are shown as escapes; ``value_bytes`` are those that it has."""

    topic: str
    key: str | None
    value: str
    value_bytes: int
    headers: tuple[tuple[str, str], ...]


class DeadLetterList(Outgoing, frozen=True, kw_only=True):
    """In the order in which they became known; ``next`` is the ``cursor`` of the page after, null on the last."""

    dead_letters: tuple[DeadLetterRow, ...]
    next: str | None


class AuditRow(Outgoing, frozen=True, kw_only=True):
    """Who did what to what, and why. ``request_id`` finds it in the log of the gateway."""

    audit_id: int
    at: datetime
    operator: str
    role: Role
    action: str
    subject: str
    sale_id: str | None
    reason: str
    request_id: str


class AuditLog(Outgoing, frozen=True, kw_only=True):
    """The latest first; ``next`` is the ``cursor`` of the page after, null on the last."""

    acts: tuple[AuditRow, ...]
    next: str | None


class ProblemAnswer(Outgoing, frozen=True, kw_only=True):
    """A refusal (RFC 9457). ``code`` is stable; ``field``, ``lowest`` and the like are there where they apply."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str
    field: str | UnsetType = UNSET
