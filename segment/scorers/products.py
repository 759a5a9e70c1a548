"""Products of features with words, where the encoder has weighed unit vectors already; cosines elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from segment.method import Cosine, Encoding, Scorer, Scores, TextFeatures


@dataclass(frozen=True, kw_only=True)
class Products(Scorer):
    """Product of each patch with each query, in [-1, 1], at the grid's resolution.

    Of the encoding's extra `weighted` (B, N, E), means of unit vectors that are not brought to unit length again; of
    an encoding without it, the cosine.
    Source: m-arda-aydn/ITACLIP 521a33c, which averages features and scores of several views.
    """

    def __call__(self, encoding: Encoding, text: TextFeatures, size: tuple[int, int]) -> Scores:
        weighted = encoding.extras.get("weighted")
        if weighted is None:
            return Cosine()(encoding, text, size)
        products = weighted @ text.features.to(weighted).mT
        return Scores(encoding.layout.to_map(products).permute(0, 3, 1, 2))
