"""One sale in this process: its controller, keeper and relay, running until the sale is closed or the process stops."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp

from admission.controller import Controller
from admission.keeper import Keeper
from admission.relay import Relay
from admission.settings import AdmissionSettings
from admission.validators import Accept, Breaker, Check, Http, Simulated, lease_ms_for
from fairline.errors import FencedError, UnavailableError
from fairline.runtime.metrics import Metrics
from fairline.runtime.services import loop
from fairline.sale import Validator

# While nothing moves the rests grow up to these: a newcomer to an idle sale waits a tenth of a second, and an idle sale
# costs Redis 27 calls a second instead of 220.
LONGEST_TICK_MS: Final = 100
LONGEST_KEEP_MS: Final = 500


class Desk:
    """Everything this process does for one sale."""

    def __init__(
        self,
        sale_id: str,
        *,
        controller: Controller,
        keeper: Keeper,
        relay: Relay,
        shop: aiohttp.ClientSession,
        settings: AdmissionSettings,
        metrics: Metrics,
    ) -> None:
        self.sale_id = sale_id
        self._controller = controller
        self._keeper = keeper
        self._relay = relay
        self._shop = shop
        self._settings = settings
        self._metrics = metrics
        self._validator: Validator | None = None
        self._check: Check = Accept()
        self._lease_ms = settings.lease_ms
        self._over = asyncio.Event()

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve the sale until it is closed or the process stops; then finish what is in hand."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(stopping), name=f"{self.sale_id} stopping")
                for work, idle_ms, longest_ms in (
                    (self._admit, self._settings.tick_ms, LONGEST_TICK_MS),
                    (self._keep, self._settings.keep_ms, LONGEST_KEEP_MS),
                    (self._relay.run_once, self._settings.tick_ms, LONGEST_TICK_MS),
                ):
                    name = f"{self.sale_id} {work.__qualname__}"
                    group.create_task(self._loop(work, idle_ms / 1000, longest_ms / 1000, name), name=name)
            await self._controller.drain()
        finally:
            await self._controller.close()
        await self._relay.release()

    async def _forward(self, stopping: asyncio.Event) -> None:
        """Be over when the process stops, or when the sale is closed."""
        waits = [asyncio.create_task(event.wait()) for event in (stopping, self._over)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._over.set()  # also for a loop that missed its own cancellation
            for wait in waits:
                wait.cancel()

    async def _loop(self, work: Callable[[], Awaitable[int]], idle_s: float, longest_s: float, name: str) -> None:
        await loop(
            work,
            self._over,
            idle_s=idle_s,
            longest_idle_s=longest_s,
            later=(UnavailableError, FencedError),
            name=name,
        )

    async def _admit(self) -> int:
        view = self._keeper.view
        if view is None:
            return 0
        self._use(view.definition.validator)
        self._metrics.breaker_open.labels(self.sale_id).set(self._check.resting)
        return await self._controller.run_once(self._check, self._lease_ms)

    async def _keep(self) -> int:
        halted = self._metrics.halted.labels(self.sale_id)
        try:
            moved = await self._keeper.run_once()
        except FencedError:
            halted.set(1)
            self._metrics.servable.labels(self.sale_id).set(0)  # nobody can go on, and that is why
            raise
        halted.set(0)
        if self._keeper.over:
            self._over.set()
        return moved

    def _use(self, validator: Validator) -> None:
        """Take up a changed validator; batches under way keep theirs."""
        if validator == self._validator:
            return
        limits = self._settings
        self._validator = validator
        self._lease_ms = lease_ms_for(
            validator, lease_ms=limits.lease_ms, margin_ms=limits.margin_ms, tries=limits.validator_tries
        )
        self._check = self._adapter(validator)

    def _adapter(self, validator: Validator) -> Check:
        if validator.kind == "simulated":
            return Simulated(validator.decline_share, validator.seed)
        if validator.kind == "http":
            limits = self._settings
            return Http(
                self._shop,
                self.sale_id,
                url=validator.url or "",  # never an accept: without an address nobody is admitted
                timeout_s=validator.timeout_ms / 1000,
                tries=limits.validator_tries,
                # The next probe has to come while the ticket of the last one is kept apart.
                breaker=Breaker(
                    failures=limits.breaker_failures, rest_s=min(limits.breaker_rest_ms, self._lease_ms / 2) / 1000
                ),
                at_once=limits.validator_connections,
            )
        return Accept()
