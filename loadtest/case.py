"""The evidence of one sale, put in the order in which the invariants ask for it: each ticket's life, each act's time.

Whatever a client saw happened between two times of its clock: after it had sent the question (or opened the socket),
and before it had the answer. Only what is sure by these two times is ever held against the system.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Any, Final, Literal

from fairline.frames import TicketFrame
from fairline.ids import ticket_id_for
from fairline.states import LIVE, MOVES, TERMINAL, Event, State
from loadtest.finals import Finals
from loadtest.history import Act, Call, History, Socket

REFUSED: Final = range(400, 500)  # what was answered so did not happen
COME_BACK: Final = frozenset({425, 429})  # of those, what is to be asked again
CLOSED_WHILE_WAITING: Final = frozenset({"sale_closed", "not_enough_left"})
# D5: a Redis that lost writes may have forgotten these; CONFIRMED and RELEASED are rows of Postgres.
FORGETTABLE: Final = frozenset({State.LEFT, State.DECLINED, State.SOLD_OUT, State.LAPSED})


@dataclass(frozen=True, slots=True)
class Told:
    """A buyer was told a state, which was so at some moment after ``after_s`` and before ``at_s``."""

    after_s: float
    at_s: float
    via: str
    state: str
    reason: str | None = None
    units: tuple[int, ...] | None = None
    socket: Socket | None = None

    @property
    def final(self) -> bool:
        """Whether a buyer may take it for the end."""
        return self.state in TERMINAL

    def surely_before(self, other: "Told") -> bool:
        """Whether the other one speaks of no earlier moment; frames of one socket come in their order."""
        if self.socket is not None and self.socket is other.socket:
            return self.at_s <= other.at_s
        return self.at_s < other.after_s

    def __str__(self) -> str:
        said = f"{self.state} ({self.reason})" if self.reason else self.state
        return f"{said} by {self.via} at {self.at_s:.3f}"


@dataclass(slots=True)
class Life:
    """A ticket as its buyer knows it. It was made after ``asked_s`` (0: nobody knows) and before ``existed_s``."""

    ticket_id: str
    sku: str = ""
    buyer_id: str = ""
    asked_s: float = 0.0
    existed_s: float = inf
    arrivals: set[int] = field(default_factory=set)
    told: list[Told] = field(default_factory=list)
    asked_last_s: float = 0.0
    heard_last_s: float = 0.0

    @property
    def ends(self) -> list[Told]:
        """Every final state that was told."""
        return [told for told in self.told if told.final]

    @property
    def waiting_s(self) -> float:
        """The last moment of which it is sure that it came before one at which the ticket was WAITING."""
        return max((told.after_s for told in self.told if told.state == State.WAITING), default=0.0)

    def present_after(self, at_s: float) -> bool:
        """Whether its client showed up after that."""
        return max(self.asked_last_s, self.heard_last_s) > at_s


@dataclass(frozen=True, slots=True)
class Step:
    """From this time on, a setting may be ``most`` at the most."""

    from_s: float
    most: float


class Case:
    """All that is known. ``known`` is False where no client's history is."""

    def __init__(self, history: History | None, finals: Finals) -> None:
        self.history = history or History(sale_id=finals.sale_id)
        self.known = history is not None
        self.finals = finals
        self.redis, self.kafka, self.postgres = finals.redis, finals.kafka, finals.postgres
        self.lives: dict[str, Life] = {}
        self.joins: dict[str, list[Call]] = defaultdict(list)  # by the ticket that each asks for
        for call in self.history.calls:
            self._hear(call)
        for socket in self.history.sockets:
            life = self._life(socket.ticket_id)
            life.asked_last_s = max(life.asked_last_s, socket.opened_s)
        for frame in self.history.frames:
            life = self._life(frame.socket.ticket_id)
            life.heard_last_s = max(life.heard_last_s, frame.at_s)
            if isinstance(frame.frame, TicketFrame):
                self._frame(frame.frame, frame.socket, frame.at_s)
        for ticket_id in {*self.lives, *self.redis.tickets} & set(self.joins):
            self._asked(ticket_id)
        for lost, answers in self.redis.aliases.items():
            self._speaks_for(answers, lost)
        for life in self.lives.values():
            life.told.sort(key=lambda told: told.at_s)

    @cached_property
    def losses(self) -> list[float]:
        """When Redis may have forgotten writes (D5). A new epoch that no fault explains: a loss at an unknown time."""
        times = [each.fault.at_s for each in self.history.faults if each.fault.lost != "none"]
        explained = any(each.fault.target.startswith("redis") for each in self.history.faults)
        later_epoch = max(self.redis.epoch, self.postgres.epoch) > 0
        return times or ([inf] if later_epoch and not explained else [])

    @property
    def lossless(self) -> bool:
        """Whether every promise holds in full (D5b)."""
        return not self.losses

    @property
    def first_epoch(self) -> bool:
        """Whether the sale was never rebuilt."""
        return self.lossless and self.redis.epoch == 0

    @property
    def rested(self) -> bool:
        """Whether the end was waited for: what is on its way now is on its way for ever."""
        return bool(self.history.rests)

    def last_status(self, life: Life) -> Call | None:
        """Of those that were asked for at rest."""
        rested_s = min((rest.at_s for rest in self.history.rests), default=inf)
        asked = [call for call in self._statuses[life.ticket_id] if call.sent.at_s > rested_s]
        return asked[-1] if asked else None

    def came_back(self, life: Life) -> bool:
        """Whether its client showed up again after Redis may have forgotten it."""
        return any(loss == inf or life.present_after(loss) for loss in self.losses)

    def admission(self, life: Life) -> tuple[float, float] | None:
        """Two times between which it surely was admitted, as close as the evidence has them; None if unknown."""
        known = next((told for told in life.told if was_admitted(told.state, told.reason)), None)
        if known is None:
            return None
        record = self.redis.tickets.get(life.ticket_id)
        once = self.first_epoch and record is not None and not record.back  # then it waited only before that
        waits = [
            each.after_s for each in life.told if each.state == State.WAITING and (once or each.surely_before(known))
        ]
        begin_s = max([life.asked_s, *waits])
        return (begin_s, known.at_s) if begin_s < known.at_s else None

    def units_told(self, life: Life) -> tuple[int, ...]:
        """The units a buyer was told to have; where no answer told them, those of the row."""
        confirmed = [end for end in life.ends if end.state == State.CONFIRMED]
        row = self.postgres.orders.get(life.ticket_id)
        told = next((end.units for end in confirmed if end.units), row.units if row is not None else ())
        return told if confirmed else ()

    def acts(self, *what: Act) -> Iterator[Call]:
        """What operators did or may have done."""
        for act in self.history.acts:
            if act.sent.what in what and (act.answer is None or act.answer.status not in REFUSED):
                yield act

    @cached_property
    def created(self) -> dict[str, Any]:
        """The definition that the operator sent; where nobody recorded that, the widest limits it ever had."""
        for act in self.acts("create"):
            if act.sent.body is not None:
                return act.sent.body
        stocks = {sku: item.stock for sku, item in self.redis.items.items()}
        for fact in self.kafka.sales:
            stocks |= {item.sku: max(item.stock, stocks.get(item.sku, 0)) for item in fact.items}
        return {
            "items": [{"sku": sku, "stock": stock} for sku, stock in stocks.items()],
            "rate_per_s": _widest(self.redis.rate_per_s, *(fact.rate_per_s for fact in self.kafka.sales)),
            "capacity": _widest(self.redis.capacity, *(fact.capacity for fact in self.kafka.sales)),
            "per_buyer_limit": self.redis.per_buyer_limit,
        }

    def stock_steps(self, sku: str) -> list[Step]:
        """The most units there may have been so far. Lowering takes none away that is sold, so it never falls."""
        first = next((item["stock"] for item in self.created["items"] if item["sku"] == sku), 0)
        steps = [Step(0.0, first)]
        for act in self.acts("stock"):
            if act.sent.sku == sku and act.sent.body is not None:
                steps.append(Step(act.sent.at_s, max(steps[-1].most, act.sent.body["stock"])))
        return steps

    def raised_after(self, sku: str, at_s: float) -> bool:
        """Whether more stock may have been set after ``at_s``; or a change of which nobody knows the time."""
        had = next((item["stock"] for item in self.created["items"] if item["sku"] == sku), 0)
        for act in self.acts("stock"):
            if act.sent.sku != sku or act.sent.body is None:
                continue
            if act.sent.body["stock"] > had and (act.received_s or inf) > at_s:
                return True
            had = act.sent.body["stock"]
        return not self.known and any(fact.action == "stock" for fact in self.kafka.sales)

    def pace_steps(self, name: Literal["rate_per_s", "capacity"]) -> list[Step]:
        """What the limit may have been at the most, from each time on; ``inf`` is no limit.

        A change may count from when it was sent; the old value may count until the answer, and one whose answer was
        lost for ever.
        """
        edges: list[tuple[float, int, float]] = []
        for at, act in enumerate(self.acts("change"), 1):
            if act.sent.body is not None and name in act.sent.body:
                value = act.sent.body[name]
                edges.append((act.sent.at_s, at, inf if value is None else value))
                if act.received_s is not None and act.answer is not None and act.answer.status < 300:
                    edges.append((act.received_s, -at, 0.0))
        first = self.created.get(name)
        possible = {0: inf if first is None else float(first)}
        steps = [Step(0.0, possible[0])]
        unsure: set[int] = set()
        for at_s, at, value in sorted(edges):
            if at > 0:
                possible[at] = value
                unsure.add(at)
            else:
                unsure.discard(-at)
                possible = {number: each for number, each in possible.items() if number == -at or number in unsure}
            steps.append(Step(at_s, max(possible.values())))
        return steps

    @cached_property
    def _statuses(self) -> dict[str, list[Call]]:
        asked: dict[str, list[Call]] = defaultdict(list)
        for call in self.history.calls:
            if call.sent.what == "status":
                asked[call.sent.ticket_id].append(call)
        return asked

    def _life(self, ticket_id: str) -> Life:
        return self.lives.setdefault(ticket_id, Life(ticket_id))

    def _hear(self, call: Call) -> None:
        sent, answer = call.sent, call.answer
        ticket_id = sent.ticket_id or (answer.ticket_id if answer is not None else "")
        if sent.what == "join" and sent.key:
            self.joins[ticket_id_for(self.finals.sale_id, sent.sku, sent.buyer_id, sent.key)].append(call)
        elif sent.what == "join" and answer is not None and answer.token:
            self.joins[ticket_id].append(call)
        if not ticket_id:
            return
        life = self._life(ticket_id)
        life.asked_last_s = max(life.asked_last_s, sent.at_s)
        if answer is None or not answer.state:
            return
        if sent.what == "join":
            life.sku, life.buyer_id = sent.sku, sent.buyer_id
        if answer.arrival:
            life.arrivals.add(answer.arrival)
        life.existed_s = min(life.existed_s, answer.at_s)
        life.told.append(Told(sent.at_s, answer.at_s, sent.what, answer.state, answer.reason, answer.units))

    def _speaks_for(self, answers: str, lost: str) -> None:
        """D4: what was told of a lost ticket since then is told of the one that answers for it."""
        first, life = min(self.losses, default=inf), self._life(lost)
        other = self._life(answers)
        other.told += [told for told in life.told if told.at_s > first]
        life.told = [told for told in life.told if told.at_s <= first]
        for name in ("asked_last_s", "heard_last_s"):
            setattr(other, name, max(getattr(other, name), getattr(life, name)))
            setattr(life, name, min(first, getattr(life, name)))

    def _asked(self, ticket_id: str) -> None:
        """The requests that may have made a ticket: also those whose answers were lost."""
        life, joins = self._life(ticket_id), self.joins[ticket_id]
        life.sku, life.buyer_id = joins[0].sent.sku, joins[0].sent.buyer_id
        life.asked_s = min(call.sent.at_s for call in joins)
        life.asked_last_s = max(life.asked_last_s, *(call.sent.at_s for call in joins))

    def _frame(self, frame: TicketFrame, socket: Socket, at_s: float) -> None:
        life = self._life(frame.ticket_id)
        life.sku = frame.sku
        life.arrivals.add(frame.arrival)
        life.existed_s = min(life.existed_s, at_s)
        life.told.append(Told(socket.opened_s, at_s, "socket", frame.state, frame.reason, frame.units, socket))


def _widest(*limits: float | None) -> float | None:
    """The loosest of some limits, None being none at all."""
    return None if None in limits else max(limit for limit in limits if limit is not None)


def most_at(steps: list[Step], from_s: float, until_s: float | None = None) -> float:
    """The most that any step gives between two times, or at one."""
    first = bisect_right(steps, from_s, key=lambda step: step.from_s) - 1
    last = bisect_right(steps, from_s if until_s is None else until_s, key=lambda step: step.from_s)
    return max(step.most for step in steps[max(0, first) : max(1, last)])


def was_admitted(state: str, reason: str | None) -> bool:
    """Whether a ticket in this state has been admitted at least once."""
    if state == State.DECLINED:
        return reason not in CLOSED_WHILE_WAITING
    return state in {State.ADMITTED, State.RESERVED, State.CONFIRMED, State.RELEASED, State.LAPSED}


def _reachable(*, recovered: bool) -> dict[str, frozenset[str]]:
    """State -> what a ticket may be found in later. RESERVED goes back to the line only when a sale is rebuilt."""
    step = {
        state: {
            to for (source, event), to in MOVES.items() if source == state and (recovered or event != Event.RECOVER)
        }
        for state in State
    }
    found = {}
    for state in State:
        seen, todo = {state}, [state]
        while todo:
            for to in step[todo.pop()] - seen:
                seen.add(to)
                todo.append(to)
        found[str(state)] = frozenset(str(each) for each in seen)
    return found


REACHABLE: Final = _reachable(recovered=False)
REACHABLE_RECOVERED: Final = _reachable(recovered=True)
LIVE_STATES: Final = frozenset(str(state) for state in LIVE)
