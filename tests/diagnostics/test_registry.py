"""Spec strings become parts with typed settings; wrong names and values say what was meant."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import pytest

from diagnostics import registry as registries
from diagnostics.registry import (
    BrokenPart,
    Registry,
    UnknownName,
    Value,
    adopt,
    carried_parts,
    parse_spec,
    split_specs,
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part with one setting of each kind.

    More words.
    """

    count: int = 3
    share: float = 0.5
    name: str = "x"
    on: bool = False
    numbers: tuple[int, ...] = ()
    kind: Literal["a", "b"] = "a"
    maybe: int | None = None


PARTS = Registry("part", {"part": Part, "other": Part})


def test_a_name_alone_has_the_defaults():
    assert PARTS.build("part") == Part()


def test_each_kind_of_setting_is_read():
    built = PARTS.build("part:count=7,share=1e-2,name=lof,on=true,numbers=3+5,kind=b,maybe=2")
    assert built == Part(count=7, share=0.01, name="lof", on=True, numbers=(3, 5), kind="b", maybe=2)
    assert PARTS.build("part:maybe=none") == Part()


def test_dashes_in_settings_mean_underscores():
    assert parse_spec("a:one-two=3") == ("a", {"one_two": "3"})


@pytest.mark.parametrize(
    "spec, message",
    [
        ("prat", "Did you mean `part`"),
        ("part:cuont=2", "Did you mean `count`"),
        ("part:count=two", "`count` of part `part` should be int; got `two`"),
        ("part:on=perhaps", "bool"),
        ("part:kind=c", "one of a, b; got `c`"),
        ("part:count", "field=value"),
    ],
)
def test_wrong_specs_say_what_was_expected(spec, message):
    with pytest.raises(ValueError, match=message):
        PARTS.build(spec)


def test_an_unknown_name_lists_all_that_are_known():
    with pytest.raises(UnknownName, match="other, part"):
        PARTS["nothing-like-it"]


def test_functions_can_be_parts_too():
    def double(value: int = 2) -> int:
        return 2 * value

    assert Registry("function", {"double": double}).build("double:value=4") == 8


def test_parts_are_described_by_their_first_line():
    assert PARTS.describe()["part"] == "A part with one setting of each kind."


@pytest.mark.parametrize(
    "text, specs",
    [
        ("a,b", ["a", "b"]),
        ("a b;c", ["a", "b", "c"]),
        ("a:x=1,y=2,b", ["a:x=1,y=2", "b"]),
        ("a, b:x=1+2,\n c:y=3,z=4", ["a", "b:x=1+2", "c:y=3,z=4"]),
        ("", []),
    ],
)
def test_several_specs_in_one_text_keep_their_settings(text, specs):
    assert split_specs(text) == specs


@dataclass(frozen=True, kw_only=True)
class Outer:
    """A part that holds another."""

    inner: Part = Part()
    maybe: Part | None = None
    count: int = 1


Registry("part", {"part": Part}, part=Part, aliases={"short": "part"})
OUTERS = Registry("outer", {"outer": Outer})


def test_a_part_inside_a_part_is_built_by_its_own_registry():
    assert OUTERS.build("outer:inner=part").inner == Part()
    built = OUTERS.build("outer:inner=part(count=2,share=0.1),count=5,maybe=part:count=9")
    assert built == Outer(inner=Part(count=2, share=0.1), count=5, maybe=Part(count=9))
    with pytest.raises(ValueError, match="there is no part `prat`"):
        OUTERS.build("outer:inner=prat")


def test_a_second_name_builds_the_same_part_and_is_not_listed():
    registry = Registry("part", {"part": Part}, aliases={"short": "part"})
    assert registry.build("short:count=4") == Part(count=4)
    assert list(registry) == ["part"]


def test_brackets_must_be_closed():
    with pytest.raises(ValueError, match="close every bracket"):
        OUTERS.build("outer:inner=part(count=2")


def test_specs_with_brackets_stay_whole():
    text = "a:b=c(d=1,e=2),f=3,g:h=i(j=4) k"
    assert split_specs(text) == ["a:b=c(d=1,e=2),f=3", "g:h=i(j=4)", "k"]


@dataclass(frozen=True, kw_only=True)
class Named(Part):
    """A part with a setting that needs no name."""

    bare: ClassVar[str] = "name"


@pytest.mark.parametrize(
    "spec, built",
    [
        ("named", Named()),
        ("named:ECOD", Named(name="ECOD")),
        ("named:ECOD,count=2", Named(name="ECOD", count=2)),
        ("named(ECOD)", Named(name="ECOD")),
        ("named:name=ECOD", Named(name="ECOD")),
        ("named:count=2", Named(count=2)),
    ],
)
def test_a_part_may_take_one_setting_without_its_name(spec, built):
    assert Registry("part", {"named": Named}).build(spec) == built


# Parts by where they are


def test_a_part_is_imported_when_it_is_asked_for():
    registry = Registry("kind", {"fraction": "fractions:Fraction", "broken": "no_such_module:x"})
    from fractions import Fraction

    assert list(registry) == ["fraction", "broken"]
    assert len(registry) == 2
    assert registry["fraction"] is Fraction
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        registry["broken"]


def test_a_registry_reads_like_a_dictionary():
    registry = Registry("part", {"a": Part, "b": Named})
    assert dict(registry) == {"a": Part, "b": Named} == dict(registry.items())
    assert list(registry.values()) == [Part, Named]
    assert registry.get("c") is None
    assert registry.get("c", Part) is Part
    assert registry.get("a") is Part
    assert "a" in registry
    assert "c" not in registry


@dataclass(frozen=True)
class Setting(Value):
    """A value with one number."""

    number: int = 1
    spec: str = ""
    summary: str = "one number"

    def named(self, spec):
        return replace(self, spec=spec)

    def changed(self, fields):
        return replace(self, **{key: int(text) for key, text in fields.items()})


def test_a_value_is_a_part_that_specs_change():
    registry = Registry("setting", {"a": Setting()})
    assert registry["a"] == Setting(spec="a")
    assert registry.build("a:number=4") == Setting(number=4, spec="a:number=4")
    ready = Setting(number=9)
    assert registry.build(ready) is ready
    assert registry.describe() == {"a": "one number"}


# Parts at run time


@pytest.fixture
def grouped():
    """A registry whose parts go to other processes, forgotten afterwards."""
    registry = Registry("part", {"part": Part}, group="test-parts")
    yield registry
    registries._GROUPS.pop("test-parts")
    registries._CARRIED.pop("test-parts", None)


def test_a_registered_part_is_built_and_taken_away_again(grouped):
    assert grouped.register("named", Named) is Named
    assert grouped.build("named:ECOD") == Named(name="ECOD")
    assert list(grouped) == ["part", "named"]
    grouped.unregister("named")
    assert list(grouped) == ["part"]
    with pytest.raises(ValueError, match="was not registered at run time"):
        grouped.unregister("part")
    with pytest.raises(UnknownName, match="registered at run time"):
        grouped.unregister("named")


def test_register_decorates_and_takes_a_place_as_well(grouped):
    @grouped.register("doubled")
    def double(value: int = 2) -> int:
        """Twice."""
        return 2 * value

    assert grouped.build("doubled:value=4") == 8
    grouped.register("fraction", "fractions:Fraction")
    assert grouped["fraction"].__name__ == "Fraction"
    assert grouped.describe()["doubled"] == "Twice."
    assert grouped.describe()["fraction"].startswith("This class implements rational numbers")


def test_a_name_that_is_taken_is_refused_unless_replaced_on_purpose(grouped):
    with pytest.raises(ValueError, match="there is a part `part` already"):
        grouped.register("part", Named)
    grouped.register("part", Named, replace=True)
    assert grouped["part"] is Named
    grouped.unregister("part")
    assert grouped["part"] is Part
    with pytest.raises(ValueError, match="letters, digits"):
        grouped.register("a:b", Named)


def test_the_same_definition_may_come_again_as_when_a_cell_is_run_twice(grouped):
    def define():
        @dataclass(frozen=True)
        class Again:
            """A part."""

        return Again

    first, second = define(), define()
    grouped.register("again", first)
    grouped.register("again", second)
    assert grouped["again"] is second


def test_assignment_replaces_and_putting_the_first_one_back_undoes_it(grouped, monkeypatch):
    assert grouped["part"] is Part
    with monkeypatch.context() as patch:
        patch.setitem(grouped, "part", Named)
        patch.setitem(grouped, "new", Named)
        assert grouped["part"] is Named
    assert grouped["part"] is Part
    assert list(grouped) == ["part"]
    assert not [part for part in carried_parts() if part.group == "test-parts"]


# Parts on their way to other processes


class _Constant:
    """A value without a name of its own."""


CONSTANT = _Constant()


def test_a_registered_part_is_carried_as_its_place_or_with_the_reason_why_not(grouped):
    module = "a_module_with_parts"
    place = type(sys)(module)
    place.Part, place.VALUE = type("Part", (), {"__module__": module, "__qualname__": "Part"}), _Constant()
    main = type("InMain", (), {"__module__": "__main__", "__qualname__": "InMain"})
    sys.modules[module] = place
    try:
        grouped.register("class", place.Part)
        grouped.register("value", place.VALUE)
        grouped.register("place", "fractions:Fraction")
        grouped.register("main", main)
        grouped.register("local", lambda: None)
        grouped.register("loose", _Constant())
        carried = {part.name: part for part in carried_parts() if part.group == "test-parts"}
    finally:
        del sys.modules[module]
    assert carried["class"].target == f"{module}:Part"
    assert carried["value"].target == f"{module}:VALUE"
    assert carried["place"].target == "fractions:Fraction"
    assert "notebook or script" in carried["main"].unsupported_reason
    assert "inside a function" in carried["local"].unsupported_reason
    assert "no constant of a module" in carried["loose"].unsupported_reason
    assert all("--workers 1" in carried[name].unsupported_reason for name in ("main", "local", "loose"))


def test_an_adopted_part_is_known_and_one_that_cannot_come_says_why(grouped):
    adopt(
        [
            registries.Carried("test-parts", "fraction", "fractions:Fraction"),
            registries.Carried("test-parts", "mine", "", "`Mine` was defined in a notebook"),
        ]
    )
    assert list(grouped) == ["part", "fraction", "mine"]
    assert grouped["fraction"].__name__ == "Fraction"
    with pytest.raises(BrokenPart, match="`mine` can't be used: `Mine` was defined in a notebook"):
        grouped.build("mine")
    assert {part.name for part in carried_parts() if part.group == "test-parts"} == {"fraction", "mine"}


# Parts of other packages

PROJECT = """
[attention_outliers.test-outside]
good = brought:Good
part = brought:Good
{extra}
"""
BROUGHT = 'class Good:\n    "From another package."\n'
ASK = """
import sys
from diagnostics.registry import BrokenPart, Registry
registry = Registry("part", {"part": int}, group="test-outside")
print(registry.describe())
assert "brought" not in sys.modules or BROKEN
assert registry["good"].__name__ == "Good"
assert registry["part"] is int
for name in set(registry) - {"good", "part"}:
    try:
        registry[name]
    except BrokenPart as error:
        print(error)
    else:
        raise AssertionError(name)
print("usable", [name for name, _ in registry.items()], len(registry.values()))
"""


def run_beside(folder, extra=""):
    """What a process says that has a package `beside` installed, with these further entry points."""
    info = folder / "beside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: beside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(PROJECT.format(extra=extra))
    (folder / "brought.py").write_text(BROUGHT)
    (folder / "raising.py").write_text("raise RuntimeError('needs a licence')\nX = 1\n")
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); BROKEN = {bool(extra)}\n{ASK}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_parts_of_an_installed_package_are_listed_unloaded_and_a_taken_name_stays(tmp_path):
    output = run_beside(tmp_path)
    assert "'good': 'From another package.'" in output
    assert "'beside/part': \"can't be used: the name `part` is taken by this project" in output


def test_a_broken_entry_point_is_listed_with_its_error_and_breaks_no_other(tmp_path):
    output = run_beside(tmp_path, "gone = no_such_module:X\nabsent = brought:Absent\nraises = raising:Y")
    assert "part `gone` of the package `beside` (no_such_module:X) can't be loaded" in output
    assert "No module named 'no_such_module'" in output
    assert "has no attribute 'Absent'" in output
    assert "RuntimeError: needs a licence" in output
    assert "usable ['part', 'good'] 2" in output


@pytest.mark.parametrize(
    "spec", ["part(", "part(count=2", "part:count=2)", "part)", "outer:inner=part(count=2", "part(count=2)x", "part()("]
)
def test_brackets_that_do_not_fit_are_refused_wherever_they_are(spec):
    with pytest.raises(ValueError, match="bracket"):
        parse_spec(spec)
    assert parse_spec("part()") == parse_spec("part") == ("part", {})


@pytest.mark.parametrize("spec", ["part:count=1,count=2", "part(share=0.1,count=1,count=1)", "part:on-top=1,on_top=2"])
def test_a_setting_given_twice_is_refused(spec):
    with pytest.raises(ValueError, match=r"sets `(count|on_top)` twice, to 1 and"):
        parse_spec(spec)


@pytest.mark.parametrize(
    "spec", ["part:name=a kind=b", "part:name=akind=b", "part:count=3,name=x on=true", "part:name=a==b"]
)
def test_a_lost_comma_is_refused(spec):
    with pytest.raises(ValueError, match=r"has two `=` in .* comma"):
        PARTS.build(spec)


@pytest.mark.parametrize("value", ["timm:vit@/data/a=b.pt", "/data/a=b", "part(count=2)", "part:count=2"])
def test_an_equals_sign_inside_a_path_or_a_part_stays(value):
    assert parse_spec(f"part:name={value}") == ("part", {"name": value})


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "1e999"])
def test_numbers_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match=f"`share` of part `part` should be a finite number; got `{text}`"):
        PARTS.build(f"part:share={text}")
    with pytest.raises(ValueError, match="`count` of part `part` should be a finite number"):
        PARTS.build(f"part:count={10**400}")


def test_a_setting_that_is_required_is_named():
    def part(place: str, count: int = 2, *, root: str) -> str:
        return f"{root}/{place}" * count

    registry = Registry("kind", {"part": part})
    with pytest.raises(ValueError, match="kind `part` should be given `place`, `root`: part:place=…,root=…"):
        registry.build("part")
    assert registry.build("part:place=a", root="b") == "b/ab/a"
