"""CLIPtrase as printed: cosine correlations in place of attention (Eq 3), clustered by Eq 4-6, denoised by Eq 7."""

from __future__ import annotations

from segment.decoding.mask_vote import MaskVote
from segment.decoding.masks.dbscan import Dbscan
from segment.encoders.correlation import Correlation
from segment.method import Decode, Method, Paper

METHOD = Method(
    encoder=Correlation(weights="correlation", affinity_layer=-1, denoise="self"),
    # 0.7 and 3 on all datasets (§5.1); prototypes go straight to the pixels, as no smoothing is printed.
    scorer=MaskVote(masks=Dbscan(eps=0.7, min_samples=3, unit_rows=True, enlarge=1, median=1)),
    decode=Decode(scale=100),  # the trained scale of CLIP
    paper=Paper(title="CLIPtrase", venue="ECCV 2024"),
    summary="mean cosine of queries, keys and values in place of attention; Eq 3-8",
    page="cliptrase",
    departures=(
        "Eq 7 keeps every patch where weights are cosines; it can act with similarity=inner-product alone.",
        "Where it takes patches out, rows of the others keep all columns: a prototype needs a value at every patch.",
        "Whether residual and FFN stay is not printed; they stay here, as in the release.",
        "The interpolation of prototypes to pixels is not printed; it is bilinear here.",
    ),
)
