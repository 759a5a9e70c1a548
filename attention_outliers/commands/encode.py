"""`outliers encode`: dense tokens of any block or tap, in one file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.fit import check_fit, check_layers
from attention_outliers.commands.options import Images, Model, Passes, ProfileFile, check_inputs, profile_spec, profiled
from attention_outliers.commands.output import Output

OutOption = Annotated[Path, typer.Option("--out", "-o", help="The file to write, such as features.safetensors.")]
LayerOption = Annotated[
    int, typer.Option("--layer", "-l", help="1…L as in the papers; 0 is the embedding, -1 the last block.")
]
TapOption = Annotated[
    str,
    typer.Option(
        "--tap", "-t", autocompletion=complete.taps, help="Which place in the block; see `outliers list taps`."
    ),
]
ProjectOption = Annotated[
    bool,
    typer.Option("--project", help="Final norm and projection on top: the space of the text. For block_out."),
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        "-M",
        autocompletion=complete.methods,
        help="Dense features of a segmentation method in place of a tap, such as clearclip or "
        "sc-clip:purifier=median; see `outliers list methods`. Goes without --layer, --tap and --project.",
    ),
]
PrefixOption = Annotated[bool, typer.Option("--prefix", help="Also the class token and registers, as NAME/prefix.")]


def _parts(method: str | None) -> list[Any]:
    """What may hold pairs of tokens: a method's encoder."""
    if method is None:
        return []
    from segment.methods import METHODS

    return [METHODS.build(method).encoder]


def encode(
    images: Images,
    *,
    out: OutOption,
    layer: LayerOption = -1,
    tap: TapOption = "block_out",
    project: ProjectOption = False,
    method: MethodOption = None,
    prefix: PrefixOption = False,
    profile: ProfileFile = None,
    model: Model,
    passes: Passes,
    show: Output,
) -> None:
    """Write dense tokens, or a method's dense features: one tensor (rows, cols, D) for each image, by its name.

    Read them with safetensors.torch.load_file(FILE). An interrupted run resumes.

    Example: outliers encode photos/ --layer 8 --out features.safetensors
    """
    if method is not None and (layer, tap, project) != (-1, "block_out", False):
        raise ValueError("`--method` makes its own features; leave --layer, --tap and --project out.")
    check_inputs(images)
    if profile is not None and method is not None:
        method = profiled(method, profile)
    elif profile is not None:
        model = replace(model, edit=[*(model.edit or ()), f"purify-at:detector={profile_spec(profile)}"])
    options = passes.options(show)
    check_layers(model.backbone, [layer])
    check_fit(model, images, passes.size, _parts(method))
    backbone = model.load(show)
    show.padding(options.size, backbone)
    if method is None:
        import diagnostics

        left_out = diagnostics.encode(
            backbone, images, layer=layer, tap=tap, project=project, out=out, prefix=prefix, options=options
        )
    else:
        from segment.features import encode_images

        options = options.changed(positions=model.positions)
        left_out = encode_images(backbone, images, method, out=out, prefix=prefix, options=options)
    show.left_out(left_out)
    show.path("features", out)
