"""SFP as printed: outliers purified at every layer and onwards, attention enhanced, maps of all layers integrated."""

from __future__ import annotations

from segment.encoders.printed_sfp import PrintedSfp
from segment.method import Method
from segment.methods.sfp import PAPER

METHOD = Method(
    encoder=PrintedSfp(),
    paper=PAPER,
    summary="Eq 4-11 as printed: outliers purified at every layer, joint q-q and k-k attention, maps of all layers",
    page="sfp",
    departures=(
        "Eq 4 writes one attention map: heads are averaged (our choice); detector=som(heads=vote) lets them vote.",
        "Eq 5 divides by 8 whatever the number of neighbors, as printed; purifier=mean divides by the true number.",
        "Eq 5 has nothing for a patch whose neighbors are all outliers: the empty sum makes it zero.",
        "The class token is never purified, since Eq 4 ranges over patches.",
        "Eq 6 keeps the class token and registers among the keys (our choice).",
        "Eq 7 mixes the tokens themselves; each head's attention counts equally (our choice). values=projected mixes "
        "projected values, as Fig 2 draws it.",
        "The FFN of Eq 7 is the block's own, with its norm in front.",
        "Eq 8-9 take the attention among patches, heads averaged, without the class token's row and column (our "
        "choice).",
        "Eq 10 repeats rows, then columns, 6 times (our choice: the paper gives no number). A column that is an "
        "outlier at every layer stays zero.",
        "The last norm and the projection come after Eq 11 (our choice); norm_at=before puts them in front.",
    ),
)
