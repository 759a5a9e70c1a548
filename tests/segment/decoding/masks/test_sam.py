"""Point prompts, and masks by SAM."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from diagnostics.layout import Grid
from segment.decoding.masks import MASKS
from segment.decoding.masks.dbscan import Dbscan
from segment.decoding.masks.sam import Prompts, SamMasks, TransformersSam, point_prompts, regions_by_points


def squares(image: torch.Tensor, prompts: Prompts) -> torch.Tensor:
    """A stand-in for SAM: a mask is a square of 16 pixels round each point of its cluster, surest in the center."""
    y, x = torch.meshgrid(torch.arange(image.shape[1]) + 0.5, torch.arange(image.shape[2]) + 0.5, indexing="ij")
    far = torch.stack([torch.maximum((x - px).abs(), (y - py).abs()) for px, py in prompts.points])
    return torch.stack([(8 - far[inside]).amax(dim=0) for inside in prompts.inside])


def test_points_are_the_centers_of_clustered_patches_own_ones_against_all_others():
    points, inside = point_prompts(torch.tensor([0, -1, 1, 1, -1, 0]), Grid(2, 3), (32, 48))
    assert points.tolist() == [[8, 8], [40, 8], [8, 24], [40, 24]]  # (x, y)
    assert inside.tolist() == [[True, False, False, True], [False, True, True, False]]


def test_centers_stretch_with_the_window():
    points, _ = point_prompts(torch.tensor([0, 0]), Grid(1, 2), (10, 100))
    assert points.tolist() == [[25, 5], [75, 5]]


def test_each_pixel_goes_to_the_surest_mask_and_to_none_where_there_is_none():
    clusters = torch.tensor([0, -1, 1, 0, -1, 1])
    regions = regions_by_points(torch.zeros(3, 32, 48), clusters, Grid(2, 3), squares, (32, 48))
    columns = torch.arange(48)
    expected = torch.where(columns < 16, 0, torch.where(columns < 32, -1, 1)).expand(32, 48)
    assert torch.equal(regions, expected)


def test_where_all_is_noise_no_mask_is_asked_for():
    def never(image, prompts):
        raise AssertionError

    regions = regions_by_points(torch.zeros(3, 8, 8), torch.full((4,), -1), Grid(2, 2), never, (8, 8))
    assert torch.equal(regions, torch.full((8, 8), -1))


def test_without_the_library_the_error_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'attention-outliers\[sam\]'"):
        TransformersSam("facebook/sam-vit-base", "cpu")


def test_points_can_only_come_from_clusters_of_patches():
    with pytest.raises(ValueError, match="`clusters` should be a mask source that clusters patches"):
        SamMasks(clusters=SamMasks())
    assert MASKS.build("sam(clusters=dbscan(eps=0.5))") == SamMasks(clusters=Dbscan(eps=0.5))


def test_a_revision_of_sam_is_asked_for_by_name(monkeypatch, tmp_path):
    asked = []

    class Part:
        @classmethod
        def from_pretrained(cls, name, *, revision):
            asked.append((name, revision))
            return torch.nn.Identity()

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(SamModel=Part, SamProcessor=Part))
    (tmp_path / "sam@here").mkdir()
    for model in ("org/sam", "org/sam@4f2a", f"{tmp_path}/sam@here"):
        TransformersSam(model, "cpu")
    assert asked[::2] == asked[1::2] == [("org/sam", "main"), ("org/sam", "4f2a"), (f"{tmp_path}/sam@here", "main")]


@pytest.fixture(scope="module")
def tiny_sam(tmp_path_factory):
    """A folder with a random SAM of two small blocks, as transformers writes it."""
    transformers = pytest.importorskip("transformers", reason="masks by SAM need the library transformers")
    torch.manual_seed(0)
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": 16,
            "output_channels": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 8,
            "window_size": 4,
            "global_attn_indexes": [1],
            "num_pos_feats": 8,
            "mlp_dim": 32,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 8, "image_embedding_size": 8},
        mask_decoder_config={
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "mlp_dim": 32,
            "iou_head_hidden_dim": 16,
        },
    )
    processor = transformers.SamImageProcessor(
        size={"longest_edge": 64},
        pad_size={"height": 64, "width": 64},
        mask_size={"longest_edge": 16},
        mask_pad_size={"height": 16, "width": 16},
    )
    folder = tmp_path_factory.mktemp("sam")
    transformers.SamModel(config).save_pretrained(folder)
    transformers.SamProcessor(processor).save_pretrained(folder)
    return str(folder)


def test_sams_masks_are_as_large_as_the_window_one_for_each_cluster(tiny_sam):
    segmenter = TransformersSam(tiny_sam, "cpu")
    image = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0))
    prompts = point_prompts(torch.tensor([0, 1, 1, 2, 2, -1]), Grid(2, 3), (32, 48))
    masks = segmenter(image, prompts)
    assert masks.shape == (3, 32, 48)
    assert torch.isfinite(masks).all()
    # Each mask answers to its own points: other points for cluster 0 leave that of cluster 1 alone.
    moved = segmenter(image, prompts._replace(inside=prompts.inside[[1, 1, 2]]))
    assert torch.allclose(moved[1:], masks[1:], atol=1e-4)
    assert torch.allclose(moved[0], masks[1], atol=1e-4)


def test_sam_answers_for_every_window_of_a_batch(tiny_sam, make_encoding, halves):
    encoding = make_encoding(
        (2, 4),
        affinity=halves(2, 4).expand(2, -1, -1),
        kept=torch.ones(2, 8, dtype=torch.bool),
        image=torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(0)),
    )
    source = SamMasks(model=tiny_sam, clusters=Dbscan(eps=0.5, min_samples=2))
    regions = source(encoding, (32, 64))
    assert regions.shape == (2, 32, 64)
    assert regions.dtype == torch.int64
    assert regions.min() >= -1
    assert regions.max() <= 1
    clusters = source.clusters.clusters(encoding).labels[1]
    segmenter = TransformersSam(tiny_sam, "cpu")
    expected = regions_by_points(encoding.extras["image"][1], clusters, Grid(2, 4), segmenter, (32, 64))
    assert torch.equal(regions[1], expected)


def test_a_model_that_is_not_there_is_reported_with_the_way_out(tiny_sam, tmp_path):
    with pytest.raises(OSError, match="SAM could not be loaded from"):
        TransformersSam(str(tmp_path / "nothing"), "cpu")
