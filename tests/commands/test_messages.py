"""What the command line prints when things go wrong, or are called oddly."""

import os

import pandas as pd
import pytest

import attention_outliers.commands.main as module
from attention_outliers.commands.tables import Table


@pytest.fixture
def failing(monkeypatch, capsys):
    """Runs the command line with a body that raises; returns what it printed."""

    def run(error):
        def app(**_):
            raise error

        monkeypatch.setattr(module, "app", app)
        with pytest.raises(SystemExit) as stopped:
            module.main()
        assert stopped.value.code == 1
        return capsys.readouterr().err

    return run


def test_an_error_without_a_text_says_what_it_is(failing):
    assert "not enough memory. Take a smaller --batch, a smaller --size" in failing(MemoryError())
    assert "error: ValueError" in failing(ValueError())
    assert "ulimit -u" in failing(RuntimeError("can't start new thread"))


def test_other_runtime_errors_are_not_hidden(monkeypatch):
    def app(**_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(module, "app", app)
    with pytest.raises(RuntimeError, match="a bug"):
        module.main()


def test_an_error_is_reported_in_a_terminal_without_columns(failing, monkeypatch):
    monkeypatch.setenv("COLUMNS", "0")
    assert "error: no such thing" in failing(ValueError("no such thing"))


def test_a_name_that_is_no_utf8_can_be_reported(failing):
    assert "bad%FF.png" in failing(ValueError(os.fsdecode(b"bad\xff.png")))


def test_brackets_in_names_are_no_markup():
    frame = pd.DataFrame({"[/]": [1.0, 2.0]}, index=pd.Index(["[wooden] chair", "[/b]"], name="[red]class"))
    text = Table.of_frame(frame).text()
    for name in ("[/]", "[wooden] chair", "[/b]", "[red]class"):
        assert name in text
