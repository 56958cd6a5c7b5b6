"""What is played: how many buyers ask for what, in which order, at which pace the sale admits them.

Everything at random comes from the seed, so the same seed asks the same things in the same order.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from fairline.sale import Item, SaleDefinition, Validator

# The seed's own scenario, which Fairline sets out to beat.
BUYERS: Final = 1_000
REQUESTS: Final = 10_000
ITEMS: Final = 4
STOCK: Final = 100
DECLINE_SHARE: Final = 0.1

NAMES: Final = ("Harbour lights, print", "Two-day pass", "Night train, sleeper", "Blue teapot", "Signed copy")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One sale and the crowd that comes to it. ``rate_per_s`` and ``capacity`` are unlimited when absent."""

    sale_id: str
    seed: int
    buyers: int = BUYERS
    requests: int = REQUESTS
    items: int = ITEMS
    stock: int = STOCK
    decline_share: float = DECLINE_SHARE
    per_buyer_limit: int = 1
    rate_per_s: float | None = None
    capacity: int | None = None
    name: str = "Fairline's demonstration sale"

    @property
    def skus(self) -> tuple[str, ...]:
        """What is on sale."""
        return tuple(f"item-{number}" for number in range(1, self.items + 1))

    def definition(self) -> SaleDefinition:
        """The sale as its operator creates it."""
        return SaleDefinition(
            sale_id=self.sale_id,
            name=self.name,
            items=tuple(
                Item(sku=sku, name=NAMES[at % len(NAMES)], stock=self.stock) for at, sku in enumerate(self.skus)
            ),
            per_buyer_limit=self.per_buyer_limit,
            rate_per_s=self.rate_per_s,
            capacity=self.capacity,
            validator=Validator(kind="simulated", decline_share=self.decline_share, seed=self.seed),
        )

    def asked(self) -> Iterator[tuple[str, str, str]]:
        """(buyer, sku, idempotency key) of each purchase request, in the order in which they are sent."""
        chance = random.Random(self.seed)  # noqa: S311 - a repeatable crowd, nothing secret
        buyers = [f"buyer-{number:0{len(str(self.buyers))}}" for number in range(1, self.buyers + 1)]
        skus = self.skus
        for number in range(1, self.requests + 1):
            yield chance.choice(buyers), chance.choice(skus), f"{self.seed}-{number}"
