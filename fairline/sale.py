"""A sale as its operator writes it, and as everybody else reads it. Limits are here because each one bounds something.

Used as the body of ``POST /admin/sales``, inside ``sale.changed.v1`` events and by the command line.
"""

from datetime import datetime
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from fairline.ids import SaleId, Sku

MAX_ITEMS: Final = 50  # every script of a sale is handed two keys an item
MAX_STOCK: Final = 1_000_000
MAX_PER_BUYER: Final = 100

Rate = Annotated[float, Meta(gt=0, le=1_000_000, description="tickets a second; null for no limit")]
Capacity = Annotated[int, Meta(ge=1, le=1_000_000, description="tickets admitted at a time; null for no limit")]
Stock = Annotated[int, Meta(ge=0, le=MAX_STOCK)]
Instant = Annotated[datetime, Meta(tz=True, description="RFC 3339 with an offset")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Message = Annotated[str, Meta(max_length=500)]
Reason = Annotated[str, Meta(max_length=500)]
Share = Annotated[float, Meta(ge=0, le=1)]
TimeoutMs = Annotated[int, Meta(ge=1, le=60_000)]
Url = Annotated[str, Meta(pattern=r"^https?://[^\s]+$(?!\n)", max_length=2000)]


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing on sale and how many units of it there are."""

    sku: Sku
    name: Name
    stock: Stock


class Validator(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The shop's own check of an admitted ticket.

    ``accept`` says yes; ``simulated`` declines a share, the same tickets for the same seed; ``http`` asks the shop.
    """

    kind: Literal["accept", "simulated", "http"] = "accept"
    decline_share: Share = 0.0
    seed: int = 0
    url: Url | None = None
    timeout_ms: TimeoutMs = 1_000

    def fault(self) -> str | None:
        """What no single field can say of itself, or nothing. A field that nobody would look at is a mistake."""
        if self.kind == "http" and self.url is None:
            return "validator.url: is required for kind http"
        if self.kind != "http" and self.url is not None:
            return f"validator.url: is asked by kind http alone, not by {self.kind}"
        if self.kind != "simulated" and self.decline_share:
            return f"validator.decline_share: is of kind simulated alone, not of {self.kind}"
        if self.url is not None and not _names_a_host(self.url):
            return "validator.url: must name a host, and a port from 1 to 65535 if any"
        return None


class SaleDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator decides of a sale. ``sale_id``, items and limit stay; pace, message and times may change."""

    sale_id: SaleId
    name: Name
    items: Annotated[tuple[Item, ...], Meta(min_length=1, max_length=MAX_ITEMS)]
    per_buyer_limit: Annotated[int, Meta(ge=1, le=MAX_PER_BUYER)] = 1
    rate_per_s: Rate | None = None
    capacity: Capacity | None = None
    opens_at: Instant | None = None
    ends_at: Instant | None = None
    message: Message | None = None
    when_sold_out: Literal["close_line", "keep_line"] = "close_line"
    validator: Validator = Validator()

    def fault(self) -> str | None:
        """What no single field can say of itself, or nothing."""
        skus = [item.sku for item in self.items]
        if len(set(skus)) != len(skus):
            return "items: a sku is listed twice"
        if self.opens_at and self.ends_at and self.ends_at <= self.opens_at:
            return "ends_at: must be after opens_at"
        return self.validator.fault()


def _names_a_host(url: str) -> bool:
    try:
        at = urlsplit(url)
        return bool(at.hostname) and at.port != 0
    except ValueError:  # brackets that do not match, a port that is none
        return False
