"""Every key of Redis. No key's name is put together anywhere else, in Lua least of all.

    key                          type    members                                     written by
    fairline:sales               set     ids of the sales to serve (O4)              sale_create (before), archiving
    fairline:{whole}             string  identity of the Redis that has every sale   rememberer, adopting
    fairline:{whole}:LOOK        string  the same, while somebody looks; expires     rememberer
    fairline:keys                hash    SHA-256 of an operator's key -> its record  gateway
    fairline:{S}:meta            hash    definition, state, fence, epoch, pace       sale_*, admit
    fairline:{S}:items           hash    SKU:field -> number (see below)             all that move stock
    fairline:{S}:counts          hash    SKU:state and running totals                all that move tickets
    fairline:{S}:tickets         hash    ticket_id -> record (TicketRecord)          all that move tickets
    fairline:{S}:live            hash    SKU:buyer -> live ticket                    join, every terminal move
    fairline:{S}:held            hash    SKU:buyer -> slots held, packed list        reserve, settle
    fairline:{S}:leases          zset    ADMITTED ticket -> deadline, ms             admit, every move out of ADMITTED
    fairline:{S}:reserved        zset    RESERVED ticket -> next redrive, ms         reserve, redrive, settle
    fairline:{S}:outbox          stream  facts not yet on Kafka                      every script with a fact
    fairline:{S}:aliases         hash    lost ticket -> the ticket that answers       show
    fairline:{S}:recovery        string  who rebuilds the sale, on which Redis (D2)  claim; expires
    fairline:{S}:relay           string  which relay works now (saves work only)     relay; expires
    fairline:{S}:comparing   string  somebody compared it with Postgres lately       reconciler; expires
    fairline:{S}:compared    string  what that found                                 reconciler; expires
    fairline:{S}:archive         string  tickets that Postgres is asked to keep (C2) archive, unlink
    fairline:{S}:grant:LEASE     string  the tickets of one admit call (L1)          admit; expires
    fairline:{S}:line:SKU        zset    WAITING ticket -> arrival                   join, admit, leave, sweep, ...
    fairline:{S}:parked:SKU      zset    the same, of those not there (D3)           admit, show, sweep, ...
    fairline:{S}:returned:SKU    zset    free serials that were held before (U1)     reserve, settle, stock
    fairline:{S}:withdrawn:SKU   set     serials taken off sale                      stock

    channel fairline:{S}:moved: packed list of the tickets that a script has just moved

``{S}`` is the sale's id in braces: one cluster slot (C3). A sale's keys have no expiry while it lives; when it is
archived, ``meta``, ``items`` and ``counts`` are left (C2).

Fields of ``items``: ``stock`` (asked for), ``version`` (the operator's, of the last change), ``high`` (highest serial
on sale), ``target`` (what high becomes once Postgres knows), ``asked`` (the sale's version that asked for it),
``next`` (first serial never taken), ``number`` (last place number given), ``served``, ``claims`` (units that ADMITTED
tickets will take), ``back`` (units wanted by WAITING tickets that were admitted before, or readmitted), ``unsold`` (how
many serials had come back, once the sale is archived).
"""

import uuid
from collections.abc import Sequence
from typing import Final

SALES: Final = "fairline:sales"
WHOLE: Final = "fairline:{whole}"
OPERATOR_KEYS: Final = "fairline:keys"


def a_look() -> str:
    """A key for one look whether Redis has every sale."""
    return f"{WHOLE}:{uuid.uuid4().hex}"


class SaleKeys:
    """The keys of one sale, under the names by which the headers of the scripts ask for them.

    ``skus`` are those that a call is about, in the order in which the script is told of them.
    """

    def __init__(self, sale_id: str, skus: Sequence[str] = (), *, lease: str = "") -> None:
        at = f"fairline:{{{sale_id}}}:"
        self.sale_id = sale_id
        self.skus = tuple(skus)
        self.meta = f"{at}meta"
        self.items = f"{at}items"
        self.counts = f"{at}counts"
        self.tickets = f"{at}tickets"
        self.live = f"{at}live"
        self.held = f"{at}held"
        self.leases = f"{at}leases"
        self.reserved = f"{at}reserved"
        self.outbox = f"{at}outbox"
        self.aliases = f"{at}aliases"
        self.recovery = f"{at}recovery"
        self.relay = f"{at}relay"
        self.comparing = f"{at}comparing"
        self.compared = f"{at}compared"
        self.archive = f"{at}archive"
        self.grant = f"{at}grant:{lease}"
        self.line = tuple(f"{at}line:{sku}" for sku in self.skus)
        self.parked = tuple(f"{at}parked:{sku}" for sku in self.skus)
        self.returned = tuple(f"{at}returned:{sku}" for sku in self.skus)
        self.withdrawn = tuple(f"{at}withdrawn:{sku}" for sku in self.skus)
        self.moved = f"{at}moved"
