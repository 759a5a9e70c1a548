"""CLIPtrase as printed: Eq 3-8 from images to labels, against a slow transcription."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import DBSCAN

from segment.decoding.mask_vote import MaskVote
from segment.decoding.masks.dbscan import Dbscan
from segment.encoders.encode_many import encode_many
from segment.method import TextFeatures
from segment.methods import METHODS


def transcribed(streams, features, text, grid, size, eps, min_samples):
    """Eq 3 to 8 for one image: q, k, v (H, T, d) and features (N, E), with loops. Returns labels and clusters."""
    heads, tokens, _ = streams[0].shape
    w = np.zeros((tokens, tokens))
    for i in range(tokens):
        for j in range(tokens):
            for x in streams:  # Eq 3
                for h in range(heads):
                    length = np.linalg.norm(x[h, i]) * np.linalg.norm(x[h, j])
                    w[i, j] += float(x[h, i] @ x[h, j]) / length / (3 * heads)
    w = w[1:, 1:]
    count = len(w)
    kept = [i for i in range(count) if sum(w[i]) / count - w[i, i] <= 1e-9]  # Eq 7
    rows = np.stack([w[i] / np.linalg.norm(w[i]) for i in kept])
    clusters = np.full(count, -1)
    clusters[kept] = DBSCAN(eps=eps, min_samples=min_samples).fit_predict(rows)  # Eq 4
    maps = []
    for k in range(clusters.max() + 1):  # Eq 5
        members = [w[i] for i in range(count) if clusters[i] == k]
        maps.append(sum(members) / len(members))
    prototypes = torch.tensor(np.stack(maps)).reshape(1, -1, *grid)
    masks = F.interpolate(prototypes, size=size, mode="bilinear", align_corners=False)[0].numpy().argmax(axis=0)  # Eq 6
    logits = torch.tensor((features / np.linalg.norm(features, axis=1, keepdims=True)) @ text.T)
    logits = logits.T.reshape(1, -1, *grid)
    pixel_labels = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)[0].numpy().argmax(axis=0)
    labels = pixel_labels.copy()
    for k in range(clusters.max() + 1):
        votes = [int((pixel_labels[masks == k] == c).sum()) for c in range(len(text))]
        labels[masks == k] = votes.index(max(votes))
    return labels, clusters


@pytest.mark.parametrize("eps, several", [(0.7, False), (0.08, True)])
def test_labels_are_those_of_equations_3_to_8(tiny, eps, several):
    text = F.normalize(torch.randn(4, 40, generator=torch.Generator().manual_seed(4)), dim=-1)
    generator = torch.Generator().manual_seed(0)
    images = 0.3 * torch.randn(2, 3, 64, 96, generator=generator)
    images[:, :, :, :48] += 2 * torch.tensor([1.0, -1.0, 0.5])[:, None, None]
    words = TextFeatures(features=text, owners=torch.arange(4), names=tuple("abcd"))
    encoding = encode_many(tiny, images, ["cliptrase-paper"])[0]
    masks = Dbscan(eps=eps, min_samples=3, unit_rows=True, enlarge=1, median=1)
    labels = MaskVote(masks=masks)(encoding, words, (64, 96)).maps[:, 0]
    heads = tiny.blocks[-1].qkv(tiny.trunk(images, stop=-2, positions="bicubic-offset"))
    for number in range(2):
        streams = [x[number].double().numpy() for x in heads[:3]]
        features = encoding.patches[number].double().numpy()
        expected, clusters = transcribed(streams, features, text.double().numpy(), (4, 6), (64, 96), eps, 3)
        assert np.array_equal(masks.clusters(encoding).labels[number].numpy(), clusters)
        assert (labels[number].numpy() == expected).mean() >= 0.999
        assert (len(set(clusters)) > 1) == several
    assert METHODS["cliptrase-paper"].scorer.masks == Dbscan(
        eps=0.7, min_samples=3, unit_rows=True, enlarge=1, median=1
    )


def test_the_paper_and_the_release_differ_in_features_and_in_what_is_clustered(tiny, images):
    released, printed = encode_many(tiny, images, ["cliptrase", "cliptrase-paper"])
    assert F.cosine_similarity(released.patches, printed.patches, dim=-1).mean() < 0.99
    assert not torch.allclose(released.extras["affinity"], printed.extras["affinity"], atol=1e-2)
