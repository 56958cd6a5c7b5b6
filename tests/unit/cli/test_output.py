import io

import pytest

from fairline.cli.output import show_rows


def test_on_a_terminal_brackets_are_text_and_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", terminal)
    show_rows(("name",), [("Concert [vip]",), ("[/b] sale",)])
    said = terminal.getvalue()
    assert "Concert [vip]" in said
    assert "[/b] sale" in said
