"""CLIPtrase as released: three self-attentions in the last block, patches clustered by block L-1, a vote by mask."""

from __future__ import annotations

from segment.decoding.mask_vote import MaskVote
from segment.encoders.correlation import Correlation
from segment.method import Decode, Method, Paper

METHOD = Method(
    encoder=Correlation(),
    scorer=MaskVote(),
    decode=Decode(scale=100),  # the trained scale of CLIP, which the release takes
    paper=Paper(title="CLIPtrase", venue="ECCV 2024", code="leaves162/CLIPtrase 2b7de61"),
    summary="q-q, k-k and v-v attention; clusters of correlated patches vote",
    page="cliptrase",
    departures=(
        "At other depths than 12 the block whose correlations are clustered is the last but one (our choice).",
        "The release knows windows of 224 and 336 pixels; DBSCAN's settings for other grids follow a rule of ours.",
        "With several windows each holds its own vote, and overlaps vote once more; the release has one center crop.",
        "On VOC20 the release multiplies by the class token's logits; that is a setting here: class_prior=true.",
        "Background words count as their class before the vote.",
    ),
)
