"""The header of a script is its contract: it lists the slots that the body uses and the words that it returns.

And what no script may do: put a key's name together, assign a global, ask the caller for the time.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from fairline.states import MOVES, Event, State
from fairline.store.keys import SaleKeys
from fairline.store.scripts import Script, TicketRecord
from tests.support.scripts import ALL_SCRIPTS, script_of, shared_parts

_SLOT = re.compile(r"^\s*(?:(KEYS|ARGV)\s+)?(\d+)(\*?)\s+(\S+)(\s+)(\S.*)$")
_OUTCOME = re.compile(r"^\s{6}([A-Z][A-Z_]*)\s{2,}\S")
_KINDS = {"hash", "set", "zset", "stream", "string"}
# What a body may say in capitals between quotes besides an outcome: commands of Redis, and states of tickets.
_COMMANDS = {"GT", "LIMIT", "PX"}


@dataclass
class Header:
    """What the header of a script declares, read apart from ``fairline.store.scripts``, which it checks."""

    keys: list[str]
    repeated: list[str]
    args: list[str]
    outcomes: set[str]
    shape: str


def read_header(source: str) -> Header:
    """Read it; raises ``ValueError`` where it is not in the form."""
    opening, header, _ = re.split(r"--\[\[|--\]\]", source, maxsplit=2)
    if opening:
        raise ValueError("something stands before the header")
    slots, returns = header.split("\nReturns ")
    found = Header([], [], [], set(), returns.splitlines()[0])
    kind = ""
    for line in slots.splitlines():
        match = _SLOT.match(line)
        if not match:
            continue
        kind, number, star, name, gap, said = match[1] or kind, int(match[2]), match[3], match[4], match[5], match[6]
        into = found.args if kind == "ARGV" else found.repeated if star else found.keys
        expected = len(into) + 1 + (len(found.keys) if star else 0)
        if number != expected or (found.repeated and kind == "KEYS" and not star):
            raise ValueError(f"{kind} {number} {name} should be {expected}, and those with a star are the last")
        if len(gap) < 2:
            raise ValueError(f"{kind} {number}: two spaces between name and meaning")
        if kind == "KEYS" and said.split()[0] not in _KINDS:
            raise ValueError(f"KEYS {number}: {said.split()[0]} is no type of a key")
        into.append(name)
    found.outcomes = {match[1] for line in returns.splitlines() if (match := _OUTCOME.match(line))}
    return found


def faults_of(source: str) -> list[str]:
    """What is wrong with a script's header when it is compared with its body."""
    try:
        header = read_header(source)
    except ValueError as error:
        return [str(error)]
    body = _without_comments(source.partition("--]]")[2])
    return [*_faults_of_slots(header, body), *_faults_of_outcomes(header, body)]


def _without_comments(body: str) -> str:
    return re.sub(r"--[^\n]*", "", body)


def _faults_of_slots(header: Header, body: str) -> list[str]:
    faults = []
    used = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", body)}
    if used != set(range(1, len(header.args) + 1)):
        faults.append(f"ARGV used: {sorted(used)}; declared: {header.args}")
    fixed = {int(number) for number in re.findall(r"KEYS\[(\d+)\]", body)}
    # A repeated group is reached as KEYS[before + at], the next one as KEYS[before + #skus + at]; a script of one
    # sku may name its slots; sale_fact's slice(before, #skus) is the whole group after that slot.
    plain = set(range(1, len(header.keys) + 1))
    first = len(header.keys)
    groups = re.findall(r"KEYS\[(\d+)((?: \+ #skus)*) \+ at\]", body)
    groups += re.findall(r"slice\((\d+)((?: \+ #skus)*), #skus\)", body)
    reached = {(int(before), hops.count("#skus")) for before, hops in groups}
    named = {first + 1 + hop for hop in range(len(header.repeated))} & fixed
    reached |= {(first, number - first - 1) for number in named}
    if fixed - named != plain:
        faults.append(f"KEYS used: {sorted(fixed)}; declared: {header.keys}")
    if reached != {(first, hop) for hop in range(len(header.repeated))}:
        faults.append(f"groups of KEYS used: {sorted(reached)}; declared after {first}: {header.repeated}")
    return faults


def _faults_of_outcomes(header: Header, body: str) -> list[str]:
    said = set(re.findall(r"'([A-Z][A-Z_]+)'", body))
    commands = set(re.findall(r"redis\.call\(\s*'([A-Z]+)'", body)) | _COMMANDS
    states = set(re.findall(r"(?:state\] [=~]=|F\.state\][^\n]*?=) '([A-Z_]+)'", body)) | _counted_states(body)
    returned = set(re.findall(r"answer\(\s*'([A-Z_]+)'", body)) | set(re.findall(r"return '([A-Z_]+)'", body))
    words = (said - commands - states) | returned | (said & header.outcomes)
    # FENCED is every script's and no header's (D1).
    words -= {"FENCED"}
    return [] if words == header.outcomes else [f"words: {sorted(words)}; declared: {sorted(header.outcomes)}"]


def _counted_states(body: str) -> set[str]:
    """States that stand in a call for their counts."""
    calls = re.findall(r"numbers\(keys\.counts, sku,([^)]*)\)", body)
    return {word for call in calls for word in re.findall(r"'([A-Z]+)'", call)}


SCRIPTS = pytest.mark.parametrize(("package", "name"), ALL_SCRIPTS)


@SCRIPTS
def test_a_header_lists_exactly_the_slots_and_words_of_its_body(package: str, name: str) -> None:
    assert faults_of(script_of(package, name).source) == []


@SCRIPTS
def test_the_caller_reads_a_header_as_this_test_does(package: str, name: str) -> None:
    script = script_of(package, name)
    header = read_header(script.source)
    assert (script.keys, script.repeated, script.args) == (header.keys, header.repeated, header.args)
    assert set(script.outcomes) == header.outcomes
    shape = re.match(r"\{(\w+)", header.shape)
    assert shape
    assert shape[1] in {"outcome", *header.outcomes}, header.shape


@SCRIPTS
def test_every_key_of_a_header_is_one_of_a_sale_s_and_of_the_type_in_the_table_of_keys(package: str, name: str) -> None:
    script = script_of(package, name)
    keys = SaleKeys("a-sale", ("chair", "table"), lease="x")
    table = dict(re.findall(r"fairline:\{S\}:([a-z]+)\S*\s+(hash|set|zset|stream|string)\s", _table_of_keys()))
    for each in script.keys:
        assert isinstance(getattr(keys, each), str)
    for each in script.repeated:
        assert len(getattr(keys, each)) == 2
    declared = dict(re.findall(r"\d\*?\s+([a-z]+)\s+(hash|set|zset|stream|string)\s", script.header))
    assert {each: table[each] for each in declared} == declared


@SCRIPTS
def test_c3_all_keys_of_a_script_are_in_the_one_slot_of_its_sale(package: str, name: str) -> None:
    script = script_of(package, name)
    keys = SaleKeys("a-sale", ("chair", "table"), lease="x{y}")
    handed = [getattr(keys, each) for each in script.keys]
    handed += [key for each in script.repeated for key in getattr(keys, each)]
    # What a cluster hashes of a key: what stands between its first brace and the next closing one.
    assert {key.partition("{")[2].partition("}")[0] for key in handed} == {"a-sale"}


def _table_of_keys() -> str:
    import fairline.store.keys  # noqa: PLC0415 - its docstring is what is read

    return fairline.store.keys.__doc__ or ""


BODIES = [(f"{package} {name}", script_of(package, name).body) for package, name in ALL_SCRIPTS]
BODIES += [(f"shared {name}", text) for name, text in shared_parts()]


def names_put_together(body: str) -> list[str]:
    """Calls whose key is not a slot or a variable that holds one (a key's name is made in Python only)."""
    body = _without_comments(body)
    calls = re.findall(r"redis\.call\(\s*'([A-Z]+)'\s*(?:,\s*([^,()]+?)\s*)?[,)]", body)
    free = {"TIME", "INFO", "PUBLISH"}
    return [f"{command} {key}" for command, key in calls if command not in free and (".." in key or "'" in key)] + (
        re.findall(r"['\"]fairline:[^'\"]*['\"]", body)
    )


def globals_assigned(body: str) -> list[str]:
    """Names that are assigned and were never made local: Redis refuses that when it runs, a reader sooner."""
    body = re.sub(r"'[^'\n]*'", "''", _without_comments(body))
    local = {n for names in re.findall(r"local ([\w, ]+?)(?: =|\n|$)", body) for n in re.split(r",\s*", names)}
    local |= set(re.findall(r"local function (\w+)", body))
    local |= {n for names in re.findall(r"for ([\w, ]+) (?:in|=)", body) for n in re.split(r",\s*", names)}
    local |= {n for names in re.findall(r"function \w*\(([\w, ]*)\)", body) for n in re.split(r",\s*", names)}
    for _ in range(4):  # fields of a table are no variables; tables are nested
        body = re.sub(r"\{[^{}]*\}", "", body)
    statements = (each.strip() for each in re.split(r"\n|\bthen\b|\bdo\b|\belse\b|;", body))
    targets = [re.match(r"(?!local\b|for\b)([^=<>~(]+?) = ", each) for each in statements]
    assigned = {name.strip() for each in targets if each for name in each[1].split(",")}
    assigned = {name for name in assigned if name.isidentifier()}
    functions = set(re.findall(r"^(?!\s*local)\s*function (\w+)", body, re.MULTILINE))
    return sorted((assigned | functions) - local)


@pytest.mark.parametrize(("what", "body"), BODIES, ids=[what for what, _ in BODIES])
def test_no_key_is_named_no_global_assigned_and_no_random_drawn_in_lua(what: str, body: str) -> None:
    assert names_put_together(body) == []
    assert globals_assigned(body) == []
    assert "math.random" not in body, "a lease, an id: the caller makes it (L1)"
    assert not re.search(r"ARGV\[\d+\] *[=~]=", body), "an argument is text: compare it after tonumber"


@SCRIPTS
def test_the_fence_is_asked_before_anything_is_written(package: str, name: str) -> None:
    body = _without_comments(script_of(package, name).body)
    if name == "adopt":
        assert "redis.call('HGET', meta, 'fence') ~= was" in body
        return
    asked = re.search(r"\b(fenced|in_hand)\(", body)  # in_hand asks whether it is halted, and in the caller's hand
    assert asked is not None
    written = re.search(r"'(HSET|HDEL|HINCRBY|ZADD|ZREM|ZPOPMAX|SADD|SREM|SET|XADD|PUBLISH|DEL|UNLINK)'", body)
    assert written is None or asked.start() < written.start()


def test_lua_has_the_very_table_of_moves_and_the_very_record() -> None:
    head = script_of("fairline.store", "join").text
    moves = re.search(r"local MOVES = \{(.*?)\}\n", head)
    fields = re.search(r"local F = \{(.*?)\}\n", head)
    assert moves
    assert fields
    said = {
        (State(state), Event(event)): State(target)
        for state, event, target in re.findall(r'\["(\w+):(\w+)"\] = "(\w+)"', moves[1])
    }
    assert said == dict(MOVES)
    numbered = {name: int(at) for name, at in re.findall(r"(\w+) = (\d+)", fields[1])}
    assert list(numbered) == list(TicketRecord.__struct_fields__)
    assert list(numbered.values()) == list(range(1, len(numbered) + 1))


@SCRIPTS
def test_a_script_uses_only_fields_and_moves_that_there_are(package: str, name: str) -> None:
    script = script_of(package, name)
    assert set(re.findall(r"F\.(\w+)", script.text)) <= set(TicketRecord.__struct_fields__)
    moves = set(re.findall(r"(?:move\(keys, id, ticket|target\(ticket), '(\w+)'", script.text))
    assert moves <= {event.value for event in Event}


# The checkers themselves: each of these must be refused.

GOOD = """--[[
good: a header as it should be.

KEYS  1 meta       hash    the sale
      2* line      zset    one for each sku
      3* returned  zset    one for each sku
ARGV  1 lease  text
      2 skus   packed list
Returns {outcome}
      DONE   it is done
      STALE  it is not
--]]
local meta, lease, skus = KEYS[1], ARGV[1], cmsgpack.unpack(ARGV[2])
if fenced(meta) then return answer('FENCED') end
for at, sku in ipairs(skus) do redis.call('ZADD', KEYS[1 + at], 1, redis.call('ZCARD', KEYS[1 + #skus + at])) end
if lease == '' then return answer('STALE') end
return answer('DONE')
"""


def test_a_good_header_is_accepted() -> None:
    assert faults_of(GOOD) == []


BAD: dict[str, Callable[[str], str]] = {
    "a slot that is not used": lambda s: s.replace("ARGV[1], c", "'x', c"),
    "a slot that is not declared": lambda s: s.replace("      2 skus   packed list\n", ""),
    "another slot in the body": lambda s: s.replace("answer('DONE')", "answer('DONE', KEYS[7])"),
    "a group that is not used": lambda s: s.replace("KEYS[1 + #skus + at]", "KEYS[1 + at]"),
    "a group that is not declared": lambda s: s.replace("      3* returned  zset    one for each sku\n", ""),
    "a group before a single key": lambda s: s.replace("1 meta ", "1* meta"),
    "a group counted wrongly": lambda s: s.replace("KEYS[1 + #skus + at]", "KEYS[2 + #skus + at]"),
    "a number twice": lambda s: s.replace("2 skus", "1 skus"),
    "a wrong number with a star": lambda s: s.replace("3* returned", "4* returned"),
    "a key of no type": lambda s: s.replace("hash    the sale", "heap    the sale"),
    "a name that runs into its meaning": lambda s: s.replace("2 skus   packed", "2 skus packed"),
    "a word that is never returned": lambda s: s.replace("answer('STALE')", "answer('DONE')"),
    "a word that is not declared": lambda s: s.replace("      STALE  it is not\n", ""),
    "something before the header": lambda s: "local x = 1\n" + s,
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_header_is_refused(fault: str) -> None:
    bad = BAD[fault](GOOD)
    assert bad != GOOD
    assert faults_of(bad) != []


@pytest.mark.parametrize(
    "line",
    [
        "redis.call('GET', 'fairline:sales')",
        "redis.call('GET', KEYS[1] .. ':more')",
        "redis.call('HSET', meta .. sku, 'a', 1)",
        'local key = "fairline:{x}:meta"',
    ],
)
def test_a_key_named_in_lua_is_refused(line: str) -> None:
    assert names_put_together(GOOD) == []
    assert names_put_together(GOOD + line) != []


@pytest.mark.parametrize("line", ["done = 1\n", "a, b = 1, 2\n", "function helper() end\n", "  sku, done = 1, 2\n"])
def test_a_global_is_refused(line: str) -> None:
    assert globals_assigned(GOOD) == []
    assert globals_assigned(GOOD + line) != []


def _named_script(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, source: str) -> Script[Any]:
    (tmp_path / "lua" / "shared").mkdir(parents=True)
    (tmp_path / "lua" / "shared" / "prelude.lua").write_text("")
    (tmp_path / "lua" / "bad.lua").write_text(source)
    monkeypatch.setattr("fairline.store.scripts.files", lambda _: tmp_path)
    return Script("anywhere", "bad", Any)


def test_the_caller_refuses_a_file_without_a_header_and_a_wrong_number(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="does not begin with its header"):
        _named_script(tmp_path / "a", monkeypatch, "return 1")
    with pytest.raises(ValueError, match="ARGV 3 should be 2"):
        _named_script(tmp_path / "b", monkeypatch, GOOD.replace("2 skus", "3 skus"))


async def test_the_caller_refuses_arguments_that_do_not_fit_before_anything_is_sent() -> None:
    script = script_of("admission", "sweep")
    with pytest.raises(TypeError, match="sweep takes"):
        await script(None, SaleKeys("a-sale"), most=1)  # type: ignore[arg-type]  # nothing is sent
