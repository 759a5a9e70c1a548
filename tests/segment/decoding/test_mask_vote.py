"""Votes inside masks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.layout import Grid, Layout, Padding
from segment.decoding import mask_vote
from segment.decoding.mask_vote import MaskVote, majority_vote, mean_vote, pixel_labels
from segment.decoding.masks import MaskSource
from segment.encoders.encode_many import encode_many
from segment.method import Cosine, Encoding, TextFeatures
from segment.methods import METHODS


@dataclass(frozen=True, kw_only=True)
class Quarters(MaskSource):
    """A stand-in: the right half of the window is one region, the rest is none."""

    def __call__(self, encoding: Encoding, size: tuple[int, int]) -> Tensor:
        right = (torch.arange(size[1]) >= size[1] // 2).long() - 1
        return right.expand(len(encoding.patches), *size)


def text_of(queries: Tensor, owners: list[int] | None = None) -> TextFeatures:
    owners = list(range(len(queries))) if owners is None else owners
    names = tuple(f"class {number}" for number in range(max(owners) + 1))
    return TextFeatures(features=F.normalize(queries, dim=-1), owners=torch.tensor(owners), names=names)


@pytest.fixture
def encoding() -> Encoding:
    generator = torch.Generator().manual_seed(0)
    patches, class_token = torch.randn(2, 24, 8, generator=generator), torch.randn(2, 8, generator=generator)
    return Encoding(patches=patches, class_token=class_token, layout=Layout(1, Grid(4, 6)), padding=Padding(0, 0, 0, 0))


@pytest.fixture
def text() -> TextFeatures:
    return text_of(torch.randn(5, 8, generator=torch.Generator().manual_seed(1)), [0, 2, 1, 2, 0])


def slow_majority(labels: np.ndarray, regions: np.ndarray) -> np.ndarray:
    voted = labels.copy()
    for number in set(regions.flatten().tolist()) - {-1}:
        counts = Counter(labels[regions == number].tolist())
        most = max(counts.values())
        voted[regions == number] = min(label for label, count in counts.items() if count == most)
    return voted


def test_a_majority_is_counted_by_region_and_image_and_of_equal_labels_the_lowest_wins():
    labels = torch.tensor([[[2, 2, 1], [1, 0, 3]], [[0, 1, 1], [3, 3, 3]]])
    regions = torch.tensor([[[0, 0, 0], [0, 1, -1]], [[1, 1, 1], [-1, 0, 0]]])
    voted = majority_vote(labels, regions, 4)
    assert voted.tolist() == [[[1, 1, 1], [1, 0, 3]], [[1, 1, 1], [3, 3, 3]]]


def test_a_majority_is_that_of_a_slow_count():
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 4, (3, 9, 11), generator=generator)
    regions = torch.randint(-1, 6, (3, 9, 11), generator=generator)
    for image_labels, region, voted in zip(labels, regions, majority_vote(labels, regions, 4), strict=True):
        assert np.array_equal(voted.numpy(), slow_majority(image_labels.numpy(), region.numpy()))


def test_where_there_is_no_region_labels_and_scores_stay():
    nowhere = torch.full((2, 3, 4), -1)
    labels = torch.randint(0, 5, (2, 3, 4), generator=torch.Generator().manual_seed(0))
    maps = torch.rand(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(majority_vote(labels, nowhere, 5), labels)
    assert torch.equal(mean_vote(maps, nowhere), maps)


def test_a_region_number_without_pixels_changes_nothing():
    labels, regions = torch.tensor([[[1, 0, 2]]]), torch.tensor([[[0, 2, 2]]])
    assert majority_vote(labels, regions, 3).tolist() == [[[1, 0, 0]]]
    assert mean_vote(torch.tensor([[[[1.0, 2, 4]]]]), regions).tolist() == [[[[1, 3, 3]]]]


def test_a_mean_vote_gives_each_region_the_mean_of_each_query():
    maps = torch.tensor([[[[1.0, 3, 5, 7]], [[0.0, 0, 2, 2]]]])
    voted = mean_vote(maps, torch.tensor([[[0, 0, -1, 1]]]))
    assert voted.tolist() == [[[[2, 2, 5, 7]], [[0, 0, 2, 2]]]]
    assert maps[0, 0, 0, 0] == 1


@pytest.mark.parametrize("held", [1, 2 * 13 * 17 * 2, 2**26])
def test_pixel_labels_are_the_best_class_however_many_maps_are_held_at_once(monkeypatch, held):
    monkeypatch.setattr(mask_vote, "HELD", held)
    maps = torch.rand(2, 5, 4, 6, generator=torch.Generator().manual_seed(3))
    owners = torch.tensor([0, 2, 1, 2, 0])
    large = F.interpolate(maps, size=(13, 17), mode="bilinear", align_corners=False)
    classes = torch.stack([large[:, owners == number].amax(dim=1) for number in range(3)], dim=1)
    assert torch.equal(pixel_labels(maps, owners, (13, 17)), classes.argmax(dim=1))


@pytest.mark.parametrize("held", [1, 2**26])
def test_of_equally_good_classes_the_lowest_wins_in_whatever_order_queries_come(monkeypatch, held):
    monkeypatch.setattr(mask_vote, "HELD", held)
    assert (pixel_labels(torch.ones(1, 4, 2, 2), torch.tensor([3, 1, 2, 1]), (4, 4)) == 1).all()


def test_majority_scores_are_one_for_the_label_of_the_vote(encoding, text):
    scores = MaskVote(masks=Quarters())(encoding, text, (64, 96))
    assert scores.by_class
    assert scores.maps.shape == (2, 1, 64, 96)
    assert set(scores.maps.unique().tolist()) <= {0, 1, 2}
    labels = scores.maps[:, 0]
    unvoted = pixel_labels(Cosine()(encoding, text, (64, 96)).maps, text.owners, (64, 96))
    assert torch.equal(labels[:, :, :48], unvoted[:, :, :48])
    for image, voted in zip(unvoted[:, :, 48:], labels[:, :, 48:], strict=True):
        assert (voted == image.flatten().bincount().argmax()).all()


def test_mean_scores_are_those_of_the_queries_averaged_in_the_mask(encoding, text):
    scores = MaskVote(vote="mean", masks=Quarters())(encoding, text, (64, 96))
    assert not scores.by_class
    large = F.interpolate(Cosine()(encoding, text, (64, 96)).maps, size=(64, 96), mode="bilinear", align_corners=False)
    assert torch.equal(scores.maps[..., :48], large[..., :48])
    means = large[..., 48:].mean(dim=(2, 3), keepdim=True)
    assert torch.allclose(scores.maps[..., 48:], means.expand(-1, -1, 64, 48), atol=1e-6)


def test_without_a_vote_the_scores_are_plain_cosines_and_no_masks_are_made(encoding, text):
    scores = MaskVote(vote="none")(encoding, text, (64, 96))  # the encoding has no affinity
    assert torch.equal(scores.maps, Cosine()(encoding, text, (64, 96)).maps)


def test_the_class_prior_multiplies_by_the_class_tokens_logits(encoding, text):
    scores = MaskVote(vote="none", class_prior=True)(encoding, text, (64, 96)).maps
    for b in range(2):
        for query in range(5):
            logit = 100 * float(F.cosine_similarity(encoding.class_token[b], text.features[query], dim=0))
            for n in range(24):
                cosine = float(F.cosine_similarity(encoding.patches[b, n], text.features[query], dim=0))
                assert float(scores[b, query, n // 6, n % 6]) == pytest.approx(logit * cosine, abs=1e-4)


def test_a_class_prior_without_class_token_is_refused_with_the_way_out(encoding, text):
    with pytest.raises(ValueError, match="set `class_prior=false`"):
        MaskVote(class_prior=True)(replace(encoding, class_token=None), text, (64, 96))


@pytest.mark.parametrize("name", ["cliptrase", "cliptrase-paper"])
@pytest.mark.parametrize("vote", ["majority", "mean"])
def test_a_window_is_scored_alike_alone_and_in_a_batch_and_every_time(tiny, images, name, vote):
    method = METHODS.build(f"{name}:vote={vote}")
    text = text_of(torch.randn(4, 40, generator=torch.Generator().manual_seed(4)))
    encoded = encode_many(tiny, images, [method])[0]
    together = method.scorer(encoded, text, (64, 96)).maps
    assert torch.equal(method.scorer(encoded, text, (64, 96)).maps, together)
    for number in range(2):
        alone = encode_many(tiny, images[number : number + 1], [method])[0]
        assert torch.allclose(method.scorer(alone, text, (64, 96)).maps[0], together[number], atol=1e-5)


def test_where_every_patch_is_noise_the_patches_own_labels_stay(tiny, images):
    method = METHODS.build("cliptrase:masks=dbscan(eps=1e-9,min_samples=2)")
    text = text_of(torch.randn(4, 40, generator=torch.Generator().manual_seed(4)))
    encoded = encode_many(tiny, images, [method])[0]
    assert (method.scorer.masks.clusters(encoded).labels == -1).all()
    scores = method.scorer(encoded, text, (64, 96)).maps[:, 0]
    assert torch.equal(scores, pixel_labels(Cosine()(encoded, text, (64, 96)).maps, text.owners, (64, 96)))


def test_masks_of_a_second_backbone_take_the_place_of_clusters_by_spec(tiny, images):
    method = METHODS.build("cliptrase:masks=affinity(vfm=tiny(registers=4),threshold=0.9)")
    text = text_of(torch.randn(4, 40, generator=torch.Generator().manual_seed(4)))
    scores = method.scorer(encode_many(tiny, images, [method])[0], text, (64, 96))
    assert scores.maps.shape == (2, 1, 64, 96)
    assert scores.by_class
