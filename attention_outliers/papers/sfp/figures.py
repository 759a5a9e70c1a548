"""The figures of SFP (Jin et al., ICCV 2025): main paper and supplement."""

from __future__ import annotations

import functools

import torch
from matplotlib.figure import Figure
from torch import Tensor

from attention_outliers.papers.clearclip.figures import sheet
from attention_outliers.papers.figure_maps import (
    attention,
    class_row,
    colors_of,
    folded,
    image,
    mask_map,
    patch_row,
    place_of,
    queries,
)
from attention_outliers.papers.inputs import FigureInputs, PaperFigure
from attention_outliers.papers.names import method_name
from diagnostics import Recorder, chain
from diagnostics.detectors.som import Som
from diagnostics.detectors.som_release import SomRelease
from diagnostics.edits.purify_at import PurifyAt
from diagnostics.purifiers.sfp_sum import SfpSum
from figures.maps.cell_grid import Cell, cell_grid
from segment.encoders.fusion import aggregate, similarity, thresholded

MAIN = "main"
BETA = 0.4
SHEET = ("clip", "clearclip", "sclip", "naclip", "sfp")  # supplement, Fig 3, in its order
MOST_IMAGES = 4
# Of 12: where Eq 4 tells outliers from the rest on real weights. The paper names no layer for its figure; at 11 the
# class token looks more at most patches than these at themselves, and nearly all are marked.
DETECTED_AT = 8
RELEASED_AT = 11  # Kimsure/SFP 2804f5b


def _detector(inputs: FigureInputs) -> Som:
    detector = Som()
    reason = inputs.backbone.lacking(detector.needs) or detector.unsupported_reason(inputs.layout)
    if reason:
        raise ValueError(f"SFP's detector can't run on `{inputs.backbone.spec}`: {reason}.")
    return detector


def marks_of(inputs: FigureInputs, layer: int, number: int = 0, *, released: bool = False) -> Tensor:
    """Which patches SFP's printed test marks at a layer, or the released one: (N) bool."""
    detector: Som | SomRelease = _detector(inputs)
    if released:
        detector = SomRelease()
    recording = inputs.record(*detector.needs, layers=[layer], number=number)
    return detector(recording.at(layer), inputs.layout).mask[0]


def object_and_background(inputs: FigureInputs) -> tuple[int, int]:
    """A patch in the middle, for the object, and one near a corner, for the background. Our choice."""
    return queries(inputs, 1)[0], inputs.grid[1] + 1


def overview(inputs: FigureInputs) -> Figure:
    layer = inputs.layer(11)
    detected_at = inputs.layer(DETECTED_AT)
    layout, matrix, mask = inputs.layout, attention(inputs, layer), marks_of(inputs, detected_at)
    thing, ground = object_and_background(inputs)
    to_itself = layout.patches(layout.patches(matrix[None], dim=1), dim=2)[0].diagonal()
    above: list[Cell | None] = [
        image(inputs, head="image", stars=[place_of(inputs, thing), place_of(inputs, ground)]),
        Cell(values=patch_row(inputs, matrix, thing), head="a  middle token", stars=[place_of(inputs, thing)]),
        Cell(values=patch_row(inputs, matrix, ground), head="b  corner token", stars=[place_of(inputs, ground)]),
        Cell(values=class_row(inputs, matrix), head="c  class token"),
        Cell(values=folded(layout, to_itself), head="d  to itself"),
    ]
    below: list[Cell | None] = [image(inputs, head=f"e  {int(mask.sum())} outliers", marked=mask_map(layout, mask))]
    specs = ("clip", "sclip", "sfp")
    for letter, spec, encoding in zip("fgh", specs, inputs.encoded(*specs), strict=True):
        below.append(
            Cell(values=colors_of(encoding.layout, encoding.patches[0]), head=f"{letter}  {method_name(spec)}")
        )
    note = (
        f"Attention of layer {layer}, mean over heads; outliers by Eq 4 at layer {detected_at}. Features as their "
        "first three principal components, which do not compare between maps."
    )
    return cell_grid({"attention": above, "features": below}, shared=False, note=note, title=inputs.names[0])


def with_som(inputs: FigureInputs, layers: list[int]) -> tuple[dict[int, Tensor], Tensor]:
    """What leaves these layers (1, T, D) where SOM purifies each of them on the way, and what it marked in any (N)."""
    recorder = Recorder("block_out", layers=layers)
    edit = PurifyAt(layers=tuple(layers), detector=_detector(inputs), purifier=SfpSum())
    with torch.no_grad():
        inputs.backbone.trunk(inputs.tensor(), tap=chain(edit, recorder))
    marked = torch.stack([mask[0] for mask in edit.masks.values()]).any(dim=0)
    return {layer: recorder.recording["block_out", layer] for layer in layers}, marked


def _channel_mean(inputs: FigureInputs, tokens: Tensor) -> Tensor:
    return inputs.layout.patches(tokens)[0].float().mean(dim=-1)


def steps(inputs: FigureInputs) -> Figure:
    layer = inputs.layer(9)
    layout = inputs.layout
    stock = inputs.record("block_out", layers=[layer])["block_out", layer]
    purified, mask = with_som(inputs, inputs.layers(*range(2, 10)))
    patches = layout.patches(purified[layer]).float()
    enhanced = aggregate(thresholded(similarity(patches), BETA), patches)[0]
    marked = mask_map(layout, mask)
    named = {"features": layout.patches(stock)[0].float(), "with SOM": patches[0], "with SOM and SAE": enhanced}
    norms: list[Cell | None] = [image(inputs, head="image", marked=marked)]
    colors: list[Cell | None] = [None]
    for words, features in named.items():
        norms.append(Cell(values=folded(layout, features.norm(dim=-1)), head=words))
        colors.append(Cell(values=colors_of(layout, features), head=words))
    note = (
        f"Layer {layer}. SOM purifies on the way, at layers 2 to 9; outlined is what it marks at any of them. SAE "
        "takes means weighted by cosine similarity. Colors: three principal components, which do not compare between "
        "maps."
    )
    return cell_grid({"norm": norms, "as colors": colors}, note=note, title=inputs.names[0])


def layers_with_som(inputs: FigureInputs) -> Figure:
    layers = inputs.layers(*range(2, 10))
    recording, (purified, _) = inputs.record("block_out", layers=layers), with_som(inputs, layers)

    def row(tokens: dict[int, Tensor]) -> list[Cell | None]:
        return [
            Cell(values=folded(inputs.layout, _channel_mean(inputs, tokens[layer])), head=f"layer {layer}", log=False)
            for layer in layers
        ]

    rows = {"without SOM": row({layer: recording["block_out", layer] for layer in layers}), "with SOM": row(purified)}
    maps = [cell.values for cells in rows.values() for cell in cells if cell is not None]
    limits = float(min(values.min() for values in maps)), float(max(values.max() for values in maps))
    note = "Mean over channels of the layer's output, on one color scale."
    return cell_grid(rows, limits=limits if limits[1] > limits[0] else None, note=note, title=inputs.names[0])


def bands(inputs: FigureInputs) -> Figure:
    layers = inputs.layers(2, 4, 6, 8, 10, 12)
    maps = {layer: attention(inputs, layer) for layer in layers}
    prefix = inputs.layout.prefix
    chosen = queries(inputs, 3)[1:]
    rows: dict[str, list[Cell | None]] = {
        "between patches": [
            image(inputs, head="image", stars=[place_of(inputs, patch) for patch in chosen]),
            *(
                Cell(values=maps[layer][prefix:, prefix:].cpu().numpy(), head=f"layer {layer}", log=True)
                for layer in layers
            ),
        ]
    }
    for patch in chosen:
        star = [place_of(inputs, patch)]
        rows[f"of patch {patch}"] = [
            image(inputs, stars=star),
            *(Cell(values=patch_row(inputs, maps[layer], patch), stars=star) for layer in layers),
        ]
    if inputs.layout.has_class_token:
        rows["of the class token"] = [image(inputs), *(Cell(values=class_row(inputs, maps[layer])) for layer in layers)]
    return cell_grid(rows, note="Attention, mean over heads; rows look at columns.", title=inputs.names[0])


def detected(inputs: FigureInputs) -> Figure:
    layer, last = inputs.layer(DETECTED_AT), inputs.layer(RELEASED_AT)
    rows: dict[str, list[Cell | None]] = {}
    for number, name in enumerate(inputs.names[:MOST_IMAGES]):
        tokens = inputs.record("block_out", layers=[layer], number=number)["block_out", layer]
        printed, released = marks_of(inputs, layer, number), marks_of(inputs, last, number, released=True)
        values = folded(inputs.layout, inputs.layout.patches(tokens)[0].float().norm(dim=-1))
        rows[name] = [
            image(inputs, number, head="image"),
            Cell(values=values, head=f"norm, layer {layer}"),
            *(
                image(inputs, number, head=f"{words}: {int(mask.sum())} outliers",
                      marked=mask_map(inputs.layout, mask))
                for words, mask in ((f"Eq 4, layer {layer}", printed), (f"as released, layer {last}", released))
            ),
        ]  # fmt: skip
    note = (
        "Eq 4 marks patches that see themselves less than the class token sees them. The release raises the class "
        "token's attention by half and keeps the ten patches that have most of it."
    )
    return cell_grid(rows, shared=False, note=note, title=inputs.model)


FIGURES = {
    f"{MAIN}-fig-1": PaperFigure(
        draw=overview,
        shows="attention of tokens and the class token, to itself, detected outliers, and output features",
        claim="a-c are hot at the same places, d is not",
        each=True,
    ),
    f"{MAIN}-fig-3": PaperFigure(
        draw=steps, shows="features before and after SOM and SAE", claim="outliers vanish, objects stand out", each=True
    ),
    f"{MAIN}-fig-5": PaperFigure(
        draw=layers_with_som,
        shows="features of layers 2 to 9, without SOM and with it at each of them",
        claim="outliers grow from layer 6 to 9 without SOM, and are suppressed with it",
        each=True,
    ),
    "supp-fig-1": PaperFigure(
        draw=bands,
        shows="attention between patches, of two patches and of the class token, by layer",
        claim="bands from layer 6 on, at the same places for every query",
        each=True,
    ),
    "supp-fig-2": PaperFigure(
        draw=detected, shows="norms and detected outliers of several images, by Eq 4 and as released",
        claim="their number differs by image",
    ),
    "supp-fig-3": PaperFigure(
        draw=functools.partial(sheet, methods=SHEET), shows="label maps by several methods", each=True,
        needs=("words",),
    ),
}  # fmt: skip
