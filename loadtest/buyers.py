"""A buyer for locust: joins over HTTP, waits for the result on a WebSocket, asks the status, buys again.

Refusals that a sale gives by design (sold out, already bought, ...) are expected answers, everything else is a failure.
Besides locust's own figures it writes the history that the checker goes by (``--history``). Knows the contract only:
this process has neither the services nor their drivers.

Locust patches the whole process when it is imported, so this runs in an environment and a process of its own. It talks
to loopback addresses only, and stops by itself when nobody said for how long.
"""

import ipaddress
import random
import socket as sockets
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import gevent
import msgspec
import websocket
from locust import FastHttpUser, between, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from fairline.frames import SUBPROTOCOL, TicketFrame
from fairline.states import TERMINAL
from loadtest.recorder import Recorder

LONGEST_RUN_S: Final = 120.0
RESULT_WITHIN_S: Final = 30.0
RECONNECT_S: Final = 0.2
# Asking for what one has already: that is what the limit per buyer is for.
AGAIN_SHARE: Final = 0.2
EXPECTED: Final = frozenset({"sold_out", "already_bought", "over_limit", "sale_closed", "not_open"})
LOST: Final = 1006

_frame: Final = msgspec.json.Decoder(TicketFrame).decode


class _Kind(msgspec.Struct):
    type: str


_kind: Final = msgspec.json.Decoder(_Kind).decode


@events.init_command_line_parser.add_listener
def add_arguments(parser: LocustArgumentParser) -> None:
    """Our own options."""
    parser.add_argument("--sale", default="load", help="Id of the sale; it has to be open.")
    parser.add_argument("--history", required=True, help="A new file for the buyers' history, for fairline verify.")


@events.init.add_listener
def guard(environment: Environment, **_: Any) -> None:
    """Refuse what is not this machine; begin the history; end a run that nobody limited."""
    host = environment.host or getattr(environment.parsed_options, "host", None) or ""
    if not is_loopback(host):
        sys.exit(f"{host or 'no host'}: this load test is for loopback addresses only (--host http://127.0.0.1:PORT)")
    options = environment.parsed_options
    try:
        Buyer.history = Recorder(Path(options.history), sale_id=options.sale)
    except OSError as error:
        sys.exit(f"no history can be written: {error}")
    if options.run_time is None:
        gevent.spawn_later(LONGEST_RUN_S, environment.runner.quit)


def is_loopback(url: str) -> bool:
    """Whether every address behind a URL is on this machine."""
    name = urlsplit(url).hostname
    try:
        found = sockets.getaddrinfo(name, None) if name else []
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(each[4][0]).is_loopback for each in found)


@dataclass(slots=True)
class Held:
    """A ticket as its buyer knows it; asked for at ``sent_s``."""

    ticket_id: str
    token: str
    status_url: str
    ws_url: str
    sent_s: float
    state: str


class Buyer(FastHttpUser):
    """One after another: a new buyer each time, or the last one again."""

    history: Recorder
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
        key, sent_s = str(uuid.uuid4()), time.monotonic()
        call = self.history.sent("join", buyer_id=self.buyer_id, sku=sku, key=key)
        with self.client.post(
            f"/sales/{self.sale}/tickets",
            json={"sku": sku, "buyer_id": self.buyer_id},
            headers={"Idempotency-Key": key},
            name="join",
            catch_response=True,
        ) as answer:
            if not self.is_answered(call, answer):
                return None  # locust counts it as a failure
            said = answer.json()
            if answer.status_code in {200, 202} or said.get("code") in EXPECTED:
                answer.success()
            else:
                answer.failure(said.get("code", f"http_{answer.status_code}"))
        if not said.get("token"):
            return None
        return Held(
            sent_s=sent_s, **{name: said[name] for name in ("ticket_id", "token", "status_url", "ws_url", "state")}
        )

    def is_answered(self, call: int, answer: Any) -> bool:
        """Write down what came of a call; whether there was an answer at all."""
        if answer.status_code:
            self.history.answer(call, answer.status_code, answer.content or b"")
        else:
            self.history.unknown(call, why=type(answer.error).__name__)
        return bool(answer.status_code)

    def wait_for_result(self, held: Held) -> None:
        """Listen until the outcome; fires one request event ``result``, from sending the join to hearing its end."""
        deadline = time.monotonic() + RESULT_WITHIN_S
        error: Exception | None = None
        while held.state not in TERMINAL and time.monotonic() < deadline:
            try:
                self._listen(held, deadline)
            except (websocket.WebSocketException, OSError) as trouble:
                error = trouble
                gevent.sleep(random.uniform(RECONNECT_S / 2, RECONNECT_S))
        told = held.state in TERMINAL
        self.environment.events.request.fire(
            request_type="WS",
            name="result",
            response_time=(time.monotonic() - held.sent_s) * 1000,
            response_length=0,
            exception=None if told else error or TimeoutError(f"no result within {RESULT_WITHIN_S:g} s"),
            context={},
        )

    def _listen(self, held: Held, deadline: float) -> None:
        socket = self.history.opening(held.ticket_id)
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
                self.history.heard(socket, data)
                if _kind(data).type == "ticket":
                    frame = _frame(data)
                    held.state = frame.state
                    if frame.final:
                        connection.send_close()
                        return
        finally:
            connection.shutdown()
            self.history.closed(socket, code=LOST)

    def ask_status(self, held: Held) -> None:
        """Asked once more, the answer has to be the same."""
        call = self.history.sent("status", ticket_id=held.ticket_id)
        with self.client.get(
            urlsplit(held.status_url).path,
            headers={"Authorization": f"Bearer {held.token}"},
            name="status",
            catch_response=True,
        ) as answer:
            if self.is_answered(call, answer) and answer.status_code == 200:
                answer.success()
            else:
                answer.failure(f"status {answer.status_code}")
