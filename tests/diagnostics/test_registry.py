"""Spec strings become parts with typed settings; wrong names and values say what was meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from diagnostics.registry import Registry, UnknownName, parse_spec, split_specs


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
    "spec, said",
    [
        ("prat", "Did you mean `part`"),
        ("part:cuont=2", "Did you mean `count`"),
        ("part:count=two", "`count` of part `part` should be int; got `two`"),
        ("part:on=perhaps", "bool"),
        ("part:kind=c", "one of a, b; got `c`"),
        ("part:count", "field=value"),
    ],
)
def test_wrong_specs_say_what_was_expected(spec, said):
    with pytest.raises(ValueError, match=said):
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
