"""The sale that stays open after the demo, for a person to join: paced, with a crowd already in line."""

from typing import Final

import msgspec

from fairline.cli.client import Address, Operator
from fairline.demo.http import Connection
from fairline.sale import Item, SaleDefinition, Validator

SALE_ID: Final = "try-it"
IN_LINE: Final = 120
RATE_PER_S: Final = 2.0  # a minute until it is a visitor's turn: long enough to watch, short enough to wait for
STOCK: Final = 200


async def open_for_people(at: Address) -> str:
    """Create and open it, put the crowd in line; its id."""
    skus = ("teapot", "lamp")
    sale = SaleDefinition(
        sale_id=SALE_ID,
        name="Try it: join the line",
        items=tuple(Item(sku=sku, name=f"A blue {sku}", stock=STOCK) for sku in skus),
        rate_per_s=RATE_PER_S,
        message="This is the demo's second sale. Two buyers are let in every second.",
        validator=Validator(kind="simulated", decline_share=0.1, seed=1),
    )
    async with Operator(at) as operator:
        await operator.create(sale)
        await operator.act(SALE_ID, "open")
    with Connection(at.url) as connection:
        for number in range(IN_LINE):
            body = msgspec.json.encode({"sku": skus[number % len(skus)], "buyer_id": f"somebody-{number}"})
            await connection.post(f"/sales/{SALE_ID}/tickets", body, idempotency_key=str(number))
    return SALE_ID
