"""Specs of parts, settings of protocols, numbers that are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bad_input.harness import Case, Result, arguments, refused, works
from bad_input.products import photo, take

MEASURE = ["probe", "a.png", "--backbone", "tiny", "--layers", "12", "--out", "r.zarr"]
CLASSIFY = ["classify", "a.png", "--backbone", "tiny", "-c", "cat, dog"]
SEGMENT = ["segment", "a.png", "--backbone", "tiny", "--size", "64", "--no-overlays", "--out", "s", "-c", "cat, dog"]
EVALUATE = [
    "evaluate",
    "--dataset",
    "folder",
    "--root",
    "data",
    "--backbone",
    "tiny",
    "-M",
    "clip",
    "--workers",
    "1",
    "--out",
    "e",
]

NUMBERS = ("nan", "inf", "-inf", "1e999", "-1", "0", "", "x", "1,5")
DETECTORS = ("norm:threshold", "relative-norm:ratio", "lof:threshold", "massive:threshold")
BROKEN = (
    "lof(",
    "lof)",
    "lof(neighbors=3",
    "lof(neighbors=3))",
    "lof:neighbors=3,neighbors=4",
    "lof:neighbors=3threshold=2",
    "lof:neighbors=3.5",
    "lof:neighbors=",
    "lof:=3",
    "lof:unknown=3",
    "lof:neighbors=3:threshold=2",
    "lof:neighbors==3",
    "lof:neighbors=0x10",
    "lof:neighbors=99999999999999999999",
    "lof:__class__=3",
    "lof:tap=nowhere",
    "loof",
    "lof|norm",
    "../lof",
    "лоф",
    "(" * 3000,
    "lof(" * 2000 + ")" * 2000,
)


def with_image(arguments: list[str], *more: str) -> Callable[[], list[str]]:
    return lambda: [photo("a.png"), [*arguments, *more]][1]  # type: ignore[return-value]


def with_data(*more: str) -> Callable[[], list[str]]:
    return lambda: [take("data"), [*EVALUATE, *more]][1]  # type: ignore[return-value,func-returns-value]


def cases() -> Iterator[Case]:
    for spec in BROKEN:
        yield refused(
            f"detector `{spec[:40]}`",
            with_image(CLASSIFY, "-p", "zero", "-d", spec),
            spec.split(":")[0][:6] if spec[0] != "(" else "detector",
        )
    for place in DETECTORS:
        for number in ("nan", "inf", "1e999", "x", ""):
            spec = f"{place}={number}"
            yield refused(f"detector `{spec}`", with_image(CLASSIFY, "-p", "zero", "-d", spec), place.split(":")[1])
    for number in NUMBERS:
        yield refused(f"--set scale={number}", with_data("--set", f"scale={number}"), "scale")
        yield refused(
            f"method with scale={number}",
            with_image(SEGMENT, "-M", f"clip:scale={number}"),
            "scale" if number != "1,5" else "5",
        )
    for number in ("nan", "inf", "1e999", "-1", "0"):
        yield refused(f"--scale {number}", with_image(SEGMENT, "-M", "clip", "--scale", number), "scale")
    yield refused("--scale 1e308", with_image(SEGMENT, "-M", "clip", "--scale", "1e308"), "scale")
    yield refused("--set scale=1e308", with_data("--set", "scale=1e308"), "scale")
    for number in ("nan", "inf", "-1", "2"):
        yield refused(f"--threshold {number}", with_image(SEGMENT, "-M", "clip", "--threshold", number), "threshold")
        yield refused(f"--smallest-area {number}", with_image(SEGMENT, "-M", "clip", "--smallest-area", number), "area")
        yield refused(f"--set threshold={number}", with_data("--set", f"threshold={number}"), "threshold")
    for setting in (
        "scale",
        "scale=",
        "=40",
        "unknown=1",
        "scale=40,threshold=1",
        "",
        "windows=nowhere",
        "size=0",
        "size=-5",
        "size=short:",
        "size=9999999999",
        "metric=x",
        "iterations=-1",
    ):
        yield refused(
            f"--set `{setting}`",
            with_data("--set", setting),
            setting.split("=")[0] if setting.split("=")[0] else setting,
        )
    yield refused("--set twice", with_data("--set", "scale=40", "--set", "scale=50"), "scale")
    for size in (
        "0",
        "-5",
        "x",
        "short:",
        "short:0",
        "0x9",
        "9x",
        "1e3",
        "nan",
        "short:nan",
        "64x64x64",
        "99999999",
        "native:3",
    ):
        yield refused(f"--size {size}", with_image(MEASURE, "--size", size, "--measures", "norms"), size)
    for layers in ("0", "13", "-13", "x", "1-", "3-1", "1,,2", "", "1.5", "nan", "1-99999999999"):
        yield refused(
            f"--layers `{layers}`",
            with_image([*MEASURE[:4], "--out", "r.zarr"], "--layers", layers),
            layers or "layers",
        )
    for windows in (
        "slide:crop=0",
        "slide:crop=-1,stride=1",
        "slide:stride=0",
        "slide:crop=64,stride=99",
        "nowhere",
        "slide:crop=nan",
        "center:size=0",
    ):
        yield refused(
            f"--windows {windows}",
            with_image(SEGMENT, "-M", "clip", "--windows", windows),
            windows.partition("=")[0].partition(":")[2].split("=")[0] or windows,
        )
    yield refused(
        "--set refine=pamr:iterations=-1",
        arguments(
            "evaluate --dataset shapes:scenes=1,height=64,width=64 -b tiny -M clip --workers 1 --out r "
            "--set refine=pamr:iterations=-1"
        ),
        "iterations",
    )
    for refine in (
        "pamr:iterations=-1",
        "pamr:iterations=nan",
        "pamr:dilations=0",
        "pamr:dilations=",
        "nowhere",
        "vote",
    ):
        yield refused(
            f"--refine {refine}",
            with_image(SEGMENT, "-M", "clip", "--refine", refine),
            refine.partition(":")[2].partition("=")[0] or refine,
        )
    for method in (
        "naclip:gaussian=1e308",
        "naclip:gaussian=nan",
        "clip:kernel=x",
        "clip,clip",
        "",
        "nowhere",
        "sc-clip:detector=(",
        "clip:alpha=inf",
    ):
        yield refused(
            f"-M `{method}`",
            with_image(SEGMENT, "-M", method),
            {"": "method", "clip,clip": "clip", "nowhere": "nowhere"}.get(method)
            or method.partition(":")[2].partition("=")[0],
        )
    for backbone in (
        "",
        "nowhere",
        "tiny:x",
        "tiny@x.pt",
        "pocket:nowhere",
        "open_clip:nowhere",
        "open_clip:ViT-B-16@no.pt",
        "openai:no.pt",
        "timm:nowhere",
        "timm:vit_tiny_patch16_224@no.pt",
        ":",
        "timm:",
        "hf-hub:",
        "timm:resnet18",
    ):
        yield refused(
            f"-b `{backbone}`",
            with_image(["probe", "a.png", "--out", "r.zarr"], "-b", backbone),
            backbone.rpartition("@")[2].rpartition(":")[2] or backbone.strip(":") or "backbone",
        )
    for option, value in (
        ("--batch", "0"),
        ("--batch", "x"),
        ("--batch", "-3"),
        ("--batch", "1e9"),
        ("--precision", "fp8"),
        ("--maps", "-1"),
    ):
        yield refused(f"{option} {value}", with_image(MEASURE, option, value), option, usage=True)
    for device in ("nowhere", "cuda:99", "cpu:-1", ""):
        yield refused(f"--device `{device}`", with_image(MEASURE, "--device", device), device or "device")
    yield refused("an unknown option", with_image(MEASURE, "--nowhere"), "--nowhere", usage=True)
    yield refused("an unknown command", lambda: ["nowhere"], "nowhere", usage=True)
    yield refused("no image", lambda: ["probe", "--backbone", "tiny"], "images", usage=True)
    for measure in (
        "nowhere",
        "norms:ratio=nan",
        "norms:ratio=inf",
        "norms,norms",
        "norms:ratio=0",
        "top-channels:k=0",
        "top-channels:k=-1",
        "query-attention:patches=9999",
    ):
        yield refused(
            f"measure `{measure}`",
            with_image(MEASURE, "--measures", measure),
            measure.partition(":")[2].partition("=")[0] or measure.split(",")[0][:4],
        )
    yield works(
        "settings in brackets", with_image(CLASSIFY, "-p", "zero", "-d", "lof(neighbors=3, threshold=2)"), _classified
    )


def _classified(result: Result) -> None:
    assert "a.png" in result.out, result.out
