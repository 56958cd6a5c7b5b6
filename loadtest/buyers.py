"""A buyer for locust: joins over HTTP, waits for the result on a WebSocket, asks the status, buys again.

Refusals that a sale gives by design (sold out, already bought, ...) are expected answers, everything else is a failure.
Besides locust's own figures it keeps the log that the invariants are judged by (``--crowd-log``), in the words of
``fairline.demo.log``. Knows the contract only: this process has neither the services nor their drivers.

Locust patches the whole process when it is imported, so this runs in an environment and a process of its own. It talks
to loopback addresses only, and stops by itself when nobody said for how long.
"""

import ipaddress
import random
import socket
import sys
import time
import uuid
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import gevent
import msgspec
import websocket
from locust import FastHttpUser, between, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from fairline.demo.log import JOINED, LIVE, Call, Held, Log, Told
from fairline.frames import SUBPROTOCOL, TicketFrame

LONGEST_RUN_S: Final = 120.0
RESULT_WITHIN_S: Final = 30.0
RECONNECT_S: Final = 0.2
# Asking for what one has already: that is what the limit per buyer is for.
AGAIN_SHARE: Final = 0.2
EXPECTED: Final = frozenset({"sold_out", "already_bought", "over_limit", "sale_closed", "not_open"})

LOG: Final = Log()
_frame: Final = msgspec.json.Decoder(TicketFrame).decode


class _Kind(msgspec.Struct):
    type: str


_kind: Final = msgspec.json.Decoder(_Kind).decode


@events.init_command_line_parser.add_listener
def add_arguments(parser: LocustArgumentParser) -> None:
    """Our own options."""
    parser.add_argument("--sale", default="load", help="Id of the sale; it has to be open.")
    parser.add_argument("--crowd-log", default="", help="Where the buyers' own log goes at the end (JSON).")


@events.init.add_listener
def guard(environment: Environment, **_: Any) -> None:
    """Refuse what is not this machine; end a run that nobody limited."""
    host = environment.host or getattr(environment.parsed_options, "host", None) or ""
    if not is_loopback(host):
        sys.exit(f"{host or 'no host'}: this load test is for loopback addresses only (--host http://127.0.0.1:PORT)")
    LOG.began_s = time.monotonic()
    if environment.parsed_options is None or environment.parsed_options.run_time is None:
        gevent.spawn_later(LONGEST_RUN_S, environment.runner.quit)


@events.quitting.add_listener
def write_log(environment: Environment, **_: Any) -> None:
    """The buyers' own log, for the invariants."""
    if environment.parsed_options and environment.parsed_options.crowd_log:
        Path(environment.parsed_options.crowd_log).write_bytes(msgspec.json.encode(LOG))


def is_loopback(url: str) -> bool:
    """Whether every address behind a URL is on this machine."""
    name = urlsplit(url).hostname
    try:
        found = socket.getaddrinfo(name, None) if name else []
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(each[4][0]).is_loopback for each in found)


class Buyer(FastHttpUser):
    """One after another: a new buyer each time, or the last one again."""

    wait_time = between(0.05, 0.3)
    network_timeout = 15.0
    connection_timeout = 15.0

    def on_start(self) -> None:
        """Read what is on sale."""
        self.sale = self.environment.parsed_options.sale
        self.buyer_id = ""
        with self.client.get(f"/sales/{self.sale}", name="sale", catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(f"there is no sale {self.sale}")
                self.environment.runner.quit()
                raise gevent.GreenletExit
            self.skus = [item["sku"] for item in answer.json()["items"]]

    @task
    def buy(self) -> None:
        """Buy to the end, even when the run is over in the middle of it.

        Locust may end a user the moment it has begun (its rest was over in the same turn of the loop), and a request
        that was sent must be followed, or its ticket would be nobody's.
        """
        buying = gevent.spawn(self.buy_to_the_end)
        try:
            buying.get()
        except gevent.GreenletExit:
            buying.join(timeout=RESULT_WITHIN_S)
            raise

    def buy_to_the_end(self) -> None:
        """Join, wait for the result, ask the status."""
        if not self.buyer_id or random.random() > AGAIN_SHARE:
            self.buyer_id = f"load-{uuid.uuid4()}"
        held = self.join(random.choice(self.skus))
        if held is not None:
            self.wait_for_result(held)
            self.ask_status(held)

    def join(self, sku: str) -> Held | None:
        """A ticket of this request's own, if it got one."""
        call = Call(self.buyer_id, sku, str(uuid.uuid4()), time.monotonic(), attempts=1)
        LOG.calls.append(call)
        with self.client.post(
            f"/sales/{self.sale}/tickets",
            json={"sku": sku, "buyer_id": self.buyer_id},
            headers={"Idempotency-Key": call.key},
            name="join",
            catch_response=True,
        ) as answer:
            call.status = answer.status_code
            if not call.status:
                return None  # locust counts it as a failure
            call.answered_s = time.monotonic()
            said = answer.json()
            if call.status in {200, 202}:
                call.ticket_id = said["ticket_id"]
                call.word = LIVE if said["token"] is None else JOINED
                answer.success()
            else:
                call.word = said.get("code", f"http_{call.status}")
                if call.word in EXPECTED:
                    answer.success()
                else:
                    answer.failure(call.word)
        if call.word != JOINED:
            return None
        return LOG.tickets.setdefault(
            call.ticket_id,
            Held(
                ticket_id=call.ticket_id,
                sku=sku,
                buyer_id=self.buyer_id,
                arrival=said["arrival"],
                token=said["token"],
                status_url=said["status_url"],
                ws_url=said["ws_url"],
                sent_s=call.sent_s,
                answered_s=call.answered_s,
                told=[Told(call.answered_s, "join", said["state"], said.get("reason"))],
            ),
        )

    def wait_for_result(self, held: Held) -> None:
        """Listen until the outcome; fires one request event ``result``, from sending the join to hearing its end."""
        deadline = time.monotonic() + RESULT_WITHIN_S
        error: Exception | None = None
        while held.outcome is None and time.monotonic() < deadline:
            try:
                self._listen(held, deadline)
            except (websocket.WebSocketException, OSError) as trouble:
                error = trouble
                gevent.sleep(random.uniform(RECONNECT_S / 2, RECONNECT_S))
        told = held.outcome
        self.environment.events.request.fire(
            request_type="WS",
            name="result",
            response_time=((told.at_s if told else time.monotonic()) - held.sent_s) * 1000,
            response_length=0,
            exception=None if told else error or TimeoutError(f"no result within {RESULT_WITHIN_S:g} s"),
            context={},
        )

    def _listen(self, held: Held, deadline: float) -> None:
        LOG.connections += 1
        connection = websocket.create_connection(
            held.ws_url,
            subprotocols=[SUBPROTOCOL, held.token],
            timeout=max(0.1, deadline - time.monotonic()),
            suppress_origin=True,
        )
        try:
            while True:
                opcode, data = connection.recv_data()
                if opcode == websocket.ABNF.OPCODE_CLOSE:
                    return
                LOG.frames += 1
                if _kind(data).type == "ticket":
                    frame = _frame(data)
                    held.number = frame.number
                    held.told.append(Told(time.monotonic(), "socket", frame.state, frame.reason, frame.units))
                    if frame.final:
                        connection.send_close()
                        return
        finally:
            connection.shutdown()

    def ask_status(self, held: Held) -> None:
        """Asked once more, the answer has to be the same."""
        with self.client.get(
            urlsplit(held.status_url).path,
            headers={"Authorization": f"Bearer {held.token}"},
            name="status",
            catch_response=True,
        ) as answer:
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}")
                return
            said = answer.json()
            held.told.append(Told(time.monotonic(), "status", said["state"], said["reason"], tuple(said["units"])))
            answer.success()
