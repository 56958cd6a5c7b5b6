"""What must hold: after each step (``watch``), and where nothing happens any more by itself (``at_rest``).

Numbers are those of the eight invariants. Not checked after a loss of data is what the design promises only without one
(D5, D5b): who was told SOLD_OUT while a later one got a unit, and an outcome without an order that Redis forgot.
"""

from fairline.states import LIVE, TERMINAL, State
from tests.model.basis import Step
from tests.model.scripts import CLOSED, HELD, OPEN, Scripts
from tests.model.system import System
from tests.model.world import Redis, Ticket, Told, Verdict, World

FORGETTABLE = frozenset({State.DECLINED, State.SOLD_OUT, State.LEFT, State.LAPSED})


def watch(system: System, before: World, step: Step) -> World:
    """The world after a step, with what buyers are told now, and with the fault if there is one."""
    world = step.world
    if system.deceived(world):
        return world._replace(fault=_sold_twice(system, world))
    if world.redis is not before.redis and system.up(world):
        world = _told(system, before, step)
    if not world.fault and (fault := _fault(system, world)):
        world = world._replace(fault=fault)
    return world


def _told(system: System, before: World, step: Step) -> World:
    """A terminal state is told at once: by the status call, by the notifier."""
    world = step.world
    told, faults, losses = list(world.told), list[str](), system.losses(step.world)
    first = not world.redis.epoch  # D5: after a recovery in order are those who show up in time
    for at, ticket in enumerate(world.redis.tickets):
        was = before.redis.tickets[at]
        if ticket is None or ticket is was:
            continue
        if was is not None and was.state is State.WAITING and ticket.state is State.ADMITTED:
            faults += _overtaking(system, world, at)
            if (at, ticket.lease) in before.deciding:
                faults.append(f"3 one outcome: two controllers hold lease {ticket.lease} of t{at}")
        if step.name in {"reserve", "decline"} and was is not None and was.lease != step.args[1]:
            faults.append(f"3 one outcome: t{at} is decided under lease {step.args[1]}, which had ended")
        if ticket.state in TERMINAL and (was is None or was.state is not ticket.state or told[at] is None):
            said = told[at]
            if said is not None and said.state is not ticket.state and not _forgotten(said, ticket, losses):
                faults.append(f"3 one outcome: t{at} was told {said.state}, now {ticket.state}")
            if ticket.state is State.SOLD_OUT and first and system.scenario.wishes[at].readmits is None:
                faults += _sold_to_a_later_one(system, world, at)
            told[at] = Told(ticket.state, losses, len(world.came) if ticket.state is State.SOLD_OUT else 0)
        if ticket.state is State.RESERVED and first:
            faults += _sold_past(system, world, at)
    return world._replace(told=tuple(told), fault="; ".join(faults[:1]))


def _forgotten(said: Told, ticket: Ticket, losses: int) -> bool:
    """D5: an outcome without an order may be forgotten with Redis; nobody is there to hear the other one."""
    return {said.state, ticket.state} <= FORGETTABLE and said.losses < losses


def _rank(world: World, at: int) -> int:
    return [each for each, _ in world.came].index(at)


def _overtaking(system: System, world: World, at: int) -> list[str]:
    """5: admitted while one who came before waits for the same thing."""
    sku = system.scenario.wishes[at].sku
    for other, ticket in system.scripts.those(world.redis, sku, State.WAITING):
        if ticket.seen and _rank(world, other) < _rank(world, at):
            return [f"5 in order: t{at} is admitted before t{other}, who came first"]
    return []


def _sold_to_a_later_one(system: System, world: World, at: int) -> list[str]:
    for other, _ in system.scripts.those(world.redis, system.scenario.wishes[at].sku, *HELD):
        if _rank(world, other) > _rank(world, at):
            return [f"5 in order: t{at} is told SOLD_OUT, but t{other}, who came later, has a unit"]
    return []


def _sold_past(system: System, world: World, at: int) -> list[str]:
    """5: one who stood in line already when an earlier one was told SOLD_OUT."""
    rank = _rank(world, at)
    for other, _ in system.scripts.those(world.redis, system.scenario.wishes[at].sku, State.SOLD_OUT):
        said = world.told[other]
        if said is not None and _rank(world, other) < rank < said.joined:
            return [f"5 in order: t{at} gets a unit after t{other}, who came first, was told SOLD_OUT"]
    return []


def _fault(system: System, world: World) -> str:
    """Of an instant."""
    if fault := _in_postgres(system, world):
        return fault
    if not system.up(world):
        return ""  # nobody is answered from this Redis
    redis, scripts = world.redis, system.scripts
    if sum(t is not None and t.state is State.ADMITTED for t in redis.tickets) > system.scenario.capacity:
        return "6 never faster than told: more are ADMITTED at a time than capacity allows"
    for sku in system.skus:
        if fault := _units(scripts, redis, sku, _wanted(system, world, sku)):
            return fault
    if not system.losses(world) and any(redis.tickets[at] is None for at, _ in world.came):
        return "8 nothing in secret: one who joined is in no state"
    return ""


def _wanted(system: System, world: World, sku: int) -> int:
    """The stock that the operator asked for last; after a loss, what was not acknowledged may be forgotten."""
    acts = system.scenario.acts[: world.acted]
    asked = [system.scenario.stocks[sku], *(int(act[2]) for act in acts if act[:2] == ("stock", sku))]
    return max(asked) if system.losses(world) else asked[-1]


def _units(scripts: Scripts, redis: Redis, sku: int, stock: int) -> str:
    item = redis.items[sku]
    seen = set(item.free_units)
    bought: dict[int, int] = {}
    for at, ticket in scripts.those(redis, sku, *HELD):
        for unit in ticket.units:
            if unit in seen:
                return f"1 never oversold: unit {unit} is in two hands"
            seen.add(unit)
        buyer = scripts.wishes[at].buyer
        bought[buyer] = bought.get(buyer, 0) + len(ticket.units)
        if bought[buyer] > scripts.limit:
            return f"7 one per buyer: buyer {buyer} holds {bought[buyer]} units, the limit is {scripts.limit}"
    if len(seen) > stock:
        return f"1 never oversold: {len(seen)} units are sold or on sale, the operator wants {stock}"
    return ""


def _sold_twice(system: System, world: World) -> str:
    """What Postgres proves a second time, whatever Redis does (V2, V3)."""
    sold = set[tuple[int, int]]()
    bought: dict[tuple[int, int], int] = {}
    for at, verdict in enumerate(world.postgres.verdicts):
        if verdict is None or verdict.reason:
            continue
        wish = system.scenario.wishes[at]
        if len(verdict.units) != wish.quantity:
            return f"4 no lost order: half of the order of t{at} is written"
        for unit in verdict.units:
            if (wish.sku, unit) in sold:
                return f"1 never oversold: unit {unit} is sold twice in Postgres"
            sold.add((wish.sku, unit))
        bought[wish[:2]] = bought.get(wish[:2], 0) + len(verdict.units)
        if bought[wish[:2]] > system.scenario.limit:
            return f"7 one per buyer: Postgres sold buyer {wish.buyer} {bought[wish[:2]]} units"
    return ""


def _in_postgres(system: System, world: World) -> str:
    if fault := _sold_twice(system, world):
        return fault
    for at, told in enumerate(world.told):
        row = world.postgres.verdicts[at]
        if row is not None and row.reason == "unit_taken" and not _somebody_has(system, world, row):
            return f"2 never undersold: t{at} is refused {row.units}, which nobody else has"
        if row is not None and not row.reason and told is not None and told.state is not State.CONFIRMED:
            return f"3 one outcome: Postgres confirms t{at}, whose buyer was told {told.state}"
        if told is not None and told.state is State.CONFIRMED and (row is None or row.reason):
            return f"4 no lost order: t{at} is told CONFIRMED, and Postgres has no such order"
    return ""


def _somebody_has(system: System, world: World, refused: Verdict) -> bool:
    sku = system.scenario.wishes[refused.ticket].sku
    sold = set(world.postgres.items[sku][2])
    for at, verdict in enumerate(world.postgres.verdicts):
        if verdict is not None and not verdict.reason and system.scenario.wishes[at].sku == sku:
            sold |= set(verdict.units)
    return not sold.isdisjoint(refused.units)


def at_rest(system: System, world: World) -> str:
    """Where only faults and people could still do something: is everybody told, is every unit sold or free?"""
    if not system.up(world):
        return "4 no lost order: the sale is halted for ever"
    unsold = (_unsold(system, world, sku) for sku in system.skus)
    if system.deceived(world):  # U4: once it shows, the sale halts and is rebuilt
        shown = any(row is not None and row.reason == "unit_taken" for row in world.postgres.verdicts)
        return next(filter(None, unsold), "") if shown else ""
    tickets = (_unended(system, world, at) for at, _ in world.came)
    return next(filter(None, (*tickets, *unsold, _unknown_to_postgres(world.redis))), "")


def _unended(system: System, world: World, at: int) -> str:
    redis, ticket, told, row = world.redis, world.redis.tickets[at], world.told[at], world.postgres.verdicts[at]
    lost = system.losses(world) and (ticket is None or not ticket.seen)
    if lost and told is not None and told.state in FORGETTABLE:
        return ""  # heard of it before the loss, and did not come back
    if ticket is None:
        known = redis.state == CLOSED or any(system.scripts.of_buyer(redis, at))
        return "" if known else f"3 one outcome: t{at} is unknown, and its buyer holds a token of it"
    if ticket.state is State.WAITING and row is None and _may_wait(system, redis, at):
        return ""
    if ticket.state in LIVE:
        holds = ticket.state is State.RESERVED or row is not None
        return f"{_NAME[holds]}: t{at} stays {ticket.state} for ever"
    if row is not None and ticket.state is not (State.RELEASED if row.reason else State.CONFIRMED):
        return f"3 one outcome: Postgres decided {row.reason or 'confirmed'} of t{at}, in Redis it is {ticket.state}"
    return ""


def _unknown_to_postgres(redis: Redis) -> str:
    if redis.acked < redis.version and redis.state != CLOSED:
        return "4 no lost order: Postgres never hears of a change of the sale"
    return "3 one outcome: the sale never closes" if redis.state == "ended" else ""


def never_rests(world: World) -> str:
    """Of a world from which no run comes to rest by itself."""
    holds = any(ticket is not None and ticket.state is State.RESERVED for ticket in world.redis.tickets)
    return f"{_NAME[holds]}: from here on the sale never comes to rest"


_NAME = {False: "2 never undersold", True: "4 no lost order"}


def _may_wait(system: System, redis: Redis, at: int) -> bool:
    """Paused by the operator, or in the line that is kept though all is sold."""
    sku = system.scenario.wishes[at].sku
    kept = system.scenario.keep_line and system.scripts.outlook(redis, sku) == "sold_out"
    return redis.state == "paused" or (redis.state == OPEN and kept)


def _unsold(system: System, world: World, sku: int) -> str:
    item = world.redis.items[sku]
    wishes, verdicts = system.scenario.wishes, world.postgres.verdicts
    sold = {u for at, v in enumerate(verdicts) if v and not v.reason and wishes[at].sku == sku for u in v.units}
    if item.free_units & sold:
        return f"2 never undersold: Redis offers {sorted(item.free_units & sold)} for sale, which Postgres has sold"
    lost = set(range(1, item.high + 1)) - item.withdrawn - item.free_units - sold
    if lost:
        return f"2 never undersold: {sorted(lost)} are neither free nor sold"
    if system.scenario.acts or system.losses(world):
        return ""
    for at, ticket in system.scripts.those(world.redis, sku, State.SOLD_OUT, State.DECLINED):
        if item.free >= wishes[at].quantity and (ticket.state is State.SOLD_OUT or ticket.too_few):
            return f"2 never undersold: {item.free} units are left, and t{at} was told that there are too few"
    return ""
