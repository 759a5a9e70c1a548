"""What the command line loads before it works: help, lists and completion need neither torch nor numpy."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import click
import pytest
import typer

from attention_outliers.commands.complete import names_starting
from attention_outliers.commands.list import LISTS
from attention_outliers.commands.main import app

HEAVY = {"torch", "pandas", "xarray", "zarr", "matplotlib", "scipy", "sklearn", "open_clip", "timm", "rich"}
COMMANDS = [command.name for command in app.registered_commands]
RUN = """
import sys
from attention_outliers.commands.main import main
sys.argv = ["outliers", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    print("\\nLOADED", *sorted({name.partition(".")[0] for name in sys.modules}))
    print("CODE", stop.code)
"""


def started(*arguments, **environment):
    """Output and loaded modules of one start in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=True,
    )
    output, _, rest = done.stdout.partition("\nLOADED ")
    loaded, _, code = rest.partition("\nCODE ")
    assert code.strip() in ("0", "None"), done.stdout + done.stderr
    return output, set(loaded.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["datasets", "--help"],
        ["list"],
        ["datasets", "list"],
        ["figure", "list"],
        ["reproduce", "list"],
        ["list", "detectors", "--json"],
    ],
    ids=" ".join,
)
def test_what_needs_no_model_loads_no_heavy_library(arguments):
    output, loaded = started(*arguments)
    assert output.strip()
    assert loaded & HEAVY == set()


def test_no_help_of_a_command_loads_a_heavy_library():
    code = RUN.replace("try:\n    main()", f"for name in {COMMANDS}:\n    sys.argv = ['outliers', name, '--help']\n    "
                       "try:\n        main()\n    except SystemExit:\n        pass\ntry:\n    main()")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("Usage: outliers ") == len(COMMANDS) + 1
    assert set(done.stdout.partition("\nLOADED ")[2].split()) & HEAVY == set()


def test_the_check_sees_what_is_loaded():
    _, loaded = started("probe", "--help")
    assert "typer" in loaded
    done = subprocess.run([sys.executable, "-c", "import torch\n" + RUN, "--version"], capture_output=True, text=True)
    assert "torch" in done.stdout.partition("\nLOADED ")[2].split()


def test_every_list_has_all_names():
    from diagnostics.detectors import DETECTORS

    assert [row["name"] for row in LISTS["detectors"]().records()] == list(DETECTORS)
    for table in (make() for make in LISTS.values()):
        assert all(row["name"].strip() and str(list(row.values())[1]).strip() for row in table.records())


def completed(words, index):
    """What bash gets for a line of words whose word number `index` is incomplete."""
    output, loaded = started(_OUTLIERS_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(index))
    assert loaded & HEAVY == set()
    return output.split()


@pytest.mark.parametrize(
    "words, expected",
    [
        ("outliers prob", ["probe"]),
        ("outliers probe -b pock", ["pocket", "pocket:planted"]),
        ("outliers probe -b open", ["open_clip:", "openai:"]),
        ("outliers probe -m norms,ent", ["norms,entropy"]),
        ("outliers compare -d norm,som-", ["norm,som-release"]),
        ("outliers compare --purifiers zero,neighbor-me", ["zero,neighbor-mean", "zero,neighbor-median"]),
        ("outliers segment -M clip,clipt", ["clip,cliptrase", "clip,cliptrase-paper"]),
        ("outliers evaluate -d voc", ["voc20", "voc21"]),
        ("outliers evaluate -p sc", ["sc-clip", "sc-clip-l14", "sclip"]),
        ("outliers figure sfp/supp-fig-", ["sfp/supp-fig-1", "sfp/supp-fig-2", "sfp/supp-fig-3"]),
        ("outliers encode -t attn", ["attn_out"]),
        ("outliers list det", ["detectors"]),
    ],
)
def test_the_shell_completes_names_also_the_last_of_a_list(words, expected):
    assert sorted(set(completed(words, len(words.split()) - 1))) == sorted(expected)


def test_a_name_of_the_list_is_not_offered_again():
    assert names_starting("lof,l", ["lof", "lof-release"]) == ["lof,lof-release"]
    assert names_starting("lof,", ["lof", "som"]) == ["lof,som"]
    assert names_starting("a,l", ["lof"], several=False) == []


def parameters_of(command, path=()):
    """Every parameter of a command and of those below it, with the words that lead there."""
    for parameter in command.params:
        yield " ".join((*path, parameter.name or "")), parameter
    for name, below in getattr(command, "commands", {}).items():
        yield from parameters_of(below, (*path, name))


LISTED = {
    name: (parameter, kind)
    for name, parameter in parameters_of(typer.main.get_command(app))
    for kind in re.findall(r"see `outliers list (\w+)`", getattr(parameter, "help", "") or "", re.IGNORECASE)[:1]
}


@pytest.mark.parametrize("name", LISTED)
def test_an_option_whose_help_points_to_a_list_is_completed_from_that_list(name):
    parameter, kind = LISTED[name]
    names = {row["name"] for row in LISTS[kind]().records()}
    context = click.Context(click.Command("outliers"))
    completions = {item.value.rstrip(":") for item in parameter.shell_complete(context, "")}
    assert completions - {"pocket:planted"} == names


def test_options_of_backbones_detectors_methods_and_measures_are_among_those_completed():
    assert {kind for _, kind in LISTED.values()} >= {"backbones", "detectors", "methods", "measures", "purifiers"}
    assert len(LISTED) > 30


def test_options_that_all_commands_have_come_last_in_the_help():
    for name in ("list", "probe", "compare"):
        text = started(name, "--help")[0]
        heads = re.findall(r"^(\w[\w ]*):$", text, flags=re.MULTILINE)
        assert heads[:2] == ["Arguments", "Options"]
        assert heads[-1] == "Output"


def test_figures_and_engines_are_listed():
    from attention_outliers.papers.figures import PAPER_FIGURES
    from segment.evaluation.engines import ENGINES

    assert [row["name"] for row in LISTS["figures"]().records()] == list(PAPER_FIGURES)
    assert [row["name"] for row in LISTS["engines"]().records()] == list(ENGINES)
