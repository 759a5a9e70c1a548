"""What the command line prints when things go wrong, or are called oddly."""

import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import attention_outliers.commands.main as module
from attention_outliers.commands.tables import Table
from segment.text.class_head import RowsError, rows_of


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


def test_a_word_without_a_row_names_the_way_out_of_the_shell_there_and_that_of_python_in_python(failing):
    with pytest.raises(RowsError, match=r"or give its rows: rows=\{'sky': \[row, …\]\}") as raised:
        rows_of(["sky"], 1000)
    printed = failing(raised.value)
    assert "no row of the classifier is called `sky`" in printed
    assert '--class-embeddings FILE, a JSON file such as {"sky": [0, 1]}' in printed
    assert "--set words=names" in printed
    assert "rows=" not in printed


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


@pytest.mark.parametrize(
    "words, message",
    [
        (["compare", "IMAGE", "-d", "norm,relativ-norm", "-o", "OUT"], "Did you mean `relative-norm`"),
        (["compare", "IMAGE", "-d", "norm", "--purify", "lof:neighbours=3", "-o", "OUT"], "`neighbours`"),
        (["compare", "IMAGE", "-d", "norm", "--purifiers", "zeros", "-o", "OUT"], "Did you mean `zero`"),
        (["probe", "IMAGE", "-m", "norms,entropie"], "Did you mean `entropy`"),
        (["classify", "IMAGE", "-c", "cat, dog", "-d", "sum"], "Did you mean `som`"),
        (["view", "IMAGE", "-d", "lofe", "-o", "OUT"], "Did you mean `lof`"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_part_is_refused_before_a_model_is_loaded(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("diagnostics.load_backbone", lambda *_, **__: pytest.fail("a model was loaded"))
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "a.png")
    places = {"IMAGE": str(tmp_path / "a.png"), "OUT": str(tmp_path / "out")}
    monkeypatch.setattr("sys.argv", ["outliers", *(places.get(word, word) for word in words)])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert stopped.value.code == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
