"""A history survives its recorder: what was written is read, what was torn is left out, what never came is unknown."""

from pathlib import Path

import pytest

from fairline.frames import ProgressFrame, TicketFrame
from loadtest.history import HistoryError, Moved, Sample, read
from loadtest.recorder import Recorder

TICKET = (
    b'{"type":"ticket","sale_id":"s","ticket_id":"t-1","sku":"seat","state":"WAITING","reason":null,"quantity":1,'
    b'"arrival":1,"number":1,"epoch":0,"units":[],"final":false}'
)
PROGRESS = (
    b'{"type":"progress","sale_id":"s","state":"open","message":null,"rate":null,"epoch":0,"tail":1,'
    b'"items":{"seat":{"served":0,"waiting":1,"older":0,"outlook":"available"}},"server_time":"2030-01-01T00:00:00Z"}'
)


def test_what_is_recorded_is_read_again(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.jsonl", sale_id="s", seed=7) as recorder:
        create = recorder.sent("create", body={"sale_id": "s"})
        recorder.answered(create, status=201)
        join = recorder.sent("join", buyer_id="anna", sku="seat", key="k", quantity=2)
        recorder.answered(join, status=202, ticket_id="t-1", arrival=1, state="WAITING", token=True)
        recorder.unknown(recorder.sent("status", ticket_id="t-1"), why="TimeoutError")
        socket = recorder.opening("t-1")
        recorder.heard(socket, TICKET)
        recorder.closed(socket, code=1006)
        fault = recorder.fault("kill", target="redis", lost="some")
        recorder.healed(fault)
        recorder.write(Sample(asked_s=0.9, at_s=1.0, in_flight=0, counts={"seat": {"joined": 1, "WAITING": 1}}))
        recorder.write(Moved(at_s=1.0, ticket_ids=("t-1",)))
        recorder.rest(rested=True)
    whole = read(tmp_path.glob("*.jsonl"))
    assert (whole.sale_id, whole.began[0].seed, whole.torn) == ("s", 7, 0)
    assert [(call.sent.what, call.answer and call.answer.status) for call in whole.acts] == [("create", 201)]
    join_call, status = whole.calls
    assert join_call.answer is not None
    assert (join_call.sent.quantity, join_call.answer.arrival, join_call.answer.token) == (2, 1, True)
    assert join_call.received_s is not None
    assert join_call.received_s >= join_call.sent.at_s
    assert (status.answer, status.received_s) == (None, None)
    (frame,) = whole.frames
    assert isinstance(frame.frame, TicketFrame)
    assert frame.socket.opened_s <= frame.at_s
    (trouble,) = whole.faults
    assert trouble.fault.lost == "some"
    assert trouble.until_s is not None
    assert (len(whole.samples), len(whole.moved), whole.rests[0].rested) == (1, 1, True)


def test_an_answer_is_written_as_its_body_says_it(tmp_path: Path) -> None:
    bodies = [
        b'{"ticket_id":"t-1","arrival":5,"number":5,"position":null,"state":"CONFIRMED","reason":null,"units":[7],"token":"x"}',
        b'{"type":"about:blank","code":"sold_out","status":409}',
        b'{"state":"WAITING","token":null}',
        b"<html>",
        b"",
    ]
    with Recorder(tmp_path / "a.jsonl", sale_id="s") as recorder:
        for status, body in enumerate(bodies, 500):
            recorder.answer(recorder.sent("join"), status, body, retry_after_s=2.0)
    said = [call.answer for call in read([tmp_path / "a.jsonl"]).calls]
    assert [each and (each.status, each.code, each.state, each.units, each.token) for each in said] == [
        (500, "", "CONFIRMED", (7,), True),
        (501, "sold_out", "", None, False),
        (502, "", "WAITING", None, False),
        (503, "", "", None, False),
        (504, "", "", None, False),
    ]
    assert {each and each.retry_after_s for each in said} == {2.0}


def test_a_frame_for_everybody_is_written_once_and_heard_by_each(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Recorder(path, sale_id="s") as recorder:
        for ticket_id in ("t-1", "t-2", "t-3"):
            recorder.heard(recorder.opening(ticket_id), PROGRESS)
    assert path.read_bytes().count(b'"server_time"') == 1
    heard = read([path]).frames
    assert [frame.socket.ticket_id for frame in heard] == ["t-1", "t-2", "t-3"]
    assert all(isinstance(frame.frame, ProgressFrame) for frame in heard)


def test_a_recorder_that_died_in_the_middle_of_a_line_leaves_all_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Recorder(path, sale_id="s") as recorder:
        recorder.sent("join", buyer_id="anna", sku="seat")
        recorder.sent("join", buyer_id="bert", sku="seat")
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rindex(b"\n") + 1
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        history = read([path])
        assert [call.sent.buyer_id for call in history.calls] == ["anna"]
        assert history.torn == (end > last)


def test_a_line_that_is_broken_in_the_middle_is_told_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Recorder(path, sale_id="s") as recorder:
        recorder.sent("join", buyer_id="anna", sku="seat")
    path.write_bytes(path.read_bytes().replace(b'"sent"', b'"sant"') + b"{}\n")
    with pytest.raises(HistoryError, match=r"a\.jsonl:2: "):
        read([path])


def test_a_line_that_is_nested_endlessly_is_none_either(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Recorder(path, sale_id="s"):
        pass
    deep = b'{"type":"sent","at_s":1,"call":1,"what":"change","body":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    path.write_bytes(path.read_bytes() + deep + b"\n")
    with pytest.raises(HistoryError, match=r"a\.jsonl:2: "):
        read([path])


def test_the_files_of_several_recorders_are_one_history_in_the_order_of_time(tmp_path: Path) -> None:
    with Recorder(tmp_path / "b.jsonl", sale_id="s") as first, Recorder(tmp_path / "a.jsonl", sale_id="s") as second:
        calls = [each.sent("join", buyer_id=str(n), sku="seat") for n, each in enumerate([first, second, first])]
        assert calls == [1, 1, 2]
        second.answered(1, status=409, code="sold_out")
    whole = read(tmp_path.glob("*.jsonl"))
    assert [call.sent.buyer_id for call in whole.calls] == ["0", "1", "2"]
    assert [call.answer and call.answer.code for call in whole.calls] == [None, "sold_out", None]


def test_histories_of_two_sales_are_not_mixed_and_no_file_is_written_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Recorder(tmp_path / f"{name}.jsonl", sale_id=name).__exit__(None, None, None)
    with pytest.raises(HistoryError, match="is of sale b"):
        read(tmp_path.glob("*.jsonl"))
    with pytest.raises(FileExistsError):
        Recorder(tmp_path / "a.jsonl", sale_id="a")
    with pytest.raises(HistoryError, match="no history"):
        read([])


def test_a_line_that_names_a_socket_nobody_opened_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Recorder(path, sale_id="s") as recorder:
        recorder.heard(9, TICKET)
    with pytest.raises(HistoryError, match=r"a\.jsonl"):
        read([path])
