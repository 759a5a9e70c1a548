"""Segmenting images by words: against a plain way through every step, and what holds for any run."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from diagnostics.backbones import load_backbone
from diagnostics.detectors.base import Detector
from diagnostics.images import ImageError, normalize, resize, to_tensor
from diagnostics.layout import pad_to_patches, padding_to_patches
from diagnostics.options import RunOptions
from segment import segmenter as module
from segment.decoding.refine import Refiner
from segment.decoding.windows import Slide
from segment.encoders.encode_many import encode_many
from segment.method import Cosine, Decode, Scorer, Scores, TextFeatures
from segment.methods import METHODS
from segment.segmenter import Segmenter


def words_for(backbone) -> TextFeatures:
    """Five queries of four classes, the first the background with two; at right angles to what patches share.

    Random words would all but agree, since patches of a random model point the same way.
    """
    encodings = encode_many(
        backbone, torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2)), ["maskclip"]
    )
    shared = F.normalize(encodings[0].patches[0].mean(dim=0), dim=0)
    features = torch.randn(5, len(shared), generator=torch.Generator().manual_seed(1))
    return TextFeatures(
        features=F.normalize(features - (features @ shared)[:, None] * shared, dim=-1),
        owners=torch.tensor([0, 0, 1, 2, 3]),
        names=("rest", "cat", "dog", "grass"),
        background=0,
    )


@pytest.fixture(scope="module")
def text(tiny) -> TextFeatures:
    return words_for(tiny)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blobs of color with some noise, so that labels differ from place to place."""
    dice = np.random.default_rng(seed)
    blobs = Image.fromarray(dice.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((width, height))
    return np.clip(np.asarray(blobs).astype(int) + dice.integers(-20, 20, (height, width, 3)), 0, 255).astype(np.uint8)


def slow_scores(
    backbone, method: str, text: TextFeatures, array: np.ndarray, shown, crop: int, stride: int, truth=None
) -> Tensor:
    """Cosines of every window, one by one, stretched, added up, divided, and brought to the image's size.

    `truth` (H, W): true labels of the array; each pixel that is shown has the one under its center.
    """
    small = resize(Image.fromarray(array), *shown, resampling="opencv")
    image = normalize(to_tensor(small), backbone.mean, backbone.std)
    height, width = shown
    total, hits = torch.zeros(len(text.owners), height, width), torch.zeros(height, width)
    y_count = max(height - crop + stride - 1, 0) // stride + 1
    x_count = max(width - crop + stride - 1, 0) // stride + 1
    for y in range(y_count):
        for x in range(x_count):
            y2, x2 = min(y * stride + crop, height), min(x * stride + crop, width)
            y1, x1 = max(y2 - crop, 0), max(x2 - crop, 0)
            window = image[None, :, y1:y2, x1:x2]
            pad = padding_to_patches(window.shape[-2:], backbone.patch_size)
            regions = None
            if truth is not None:
                rows = [int((row + 0.5) * array.shape[0] / height) for row in range(y1, y2)]
                cols = [int((col + 0.5) * array.shape[1] / width) for col in range(x1, x2)]
                regions = torch.tensor([[[int(truth[row, col]) for col in cols] for row in rows]])
            encoded = encode_many(backbone, window, [method], labels=regions)[0]
            cosines = F.normalize(encoded.patches, dim=-1) @ text.features.mT
            grid = encoded.layout.grid
            maps = cosines[0].mT.reshape(1, -1, grid.rows, grid.cols)
            large = F.interpolate(maps, size=pad_to_patches(window, backbone.patch_size).shape[-2:], mode="bilinear")
            total[:, y1:y2, x1:x2] += large[0, :, pad.top : pad.top + y2 - y1, pad.left : pad.left + x2 - x1]
            hits[y1:y2, x1:x2] += 1
    return F.interpolate((total / hits)[None], size=array.shape[:2], mode="bilinear")[0]


@pytest.mark.parametrize(
    "size, shape, shown, crop, stride",
    [
        ("short:96", (70, 105), (96, 144), 64, 32),  # the field's grid, 2 x 4 windows
        ("short:96", (150, 120), (120, 96), 64, 32),
        ("100x75", (90, 120), (75, 100), 40, 30),  # windows that are no whole patches
        ("native", (50, 130), (50, 130), 64, 32),  # shorter than the crop
    ],
)
def test_it_equals_a_plain_way_through_every_step(tiny, text, size, shape, shown, crop, stride):
    array = photo(*shape)
    segmenter = Segmenter(tiny, "maskclip", text, size=size, windows=Slide(crop=crop, stride=stride))
    scores = segmenter.scores(array)[0]
    expected = slow_scores(tiny, "maskclip", text, array, shown, crop, stride)
    assert torch.allclose(scores, expected, atol=1e-5)
    answer = next(segmenter(array))
    probability = (40 * expected).softmax(dim=0)
    best = torch.stack([probability[text.owners == number].amax(dim=0) for number in range(4)])
    assert answer.labels.shape == shape
    assert (answer.labels == best.argmax(dim=0).numpy()).mean() > 0.999
    assert np.allclose(answer.confidence, best.amax(dim=0).numpy(), atol=1e-3)
    assert len(np.unique(answer.labels)) > 1


def blocks_of_labels(height: int, width: int, seed: int) -> np.ndarray:
    """Rectangles of the classes 0 to 3 and of 255, none of them whole patches."""
    return np.kron(np.random.default_rng(seed).choice([0, 1, 2, 3, 255], (5, 4)), np.ones((40, 40), int))[
        :height, :width
    ].astype(np.uint8)


WITHIN = "cliptrase-paper:vote=none,within=class"


def test_true_labels_are_cut_into_the_same_windows_as_their_images(tiny, text):
    arrays = {"a": photo(70, 105), "b": photo(150, 120, 1), "c": photo(60, 140, 2)}
    truths = {name: blocks_of_labels(*array.shape[:2], seed) for seed, (name, array) in enumerate(arrays.items())}
    shown = {"a": (96, 144), "b": (120, 96), "c": (96, 224)}
    segmenter = Segmenter(tiny, ["clip", WITHIN], text, size="short:96", windows=Slide(crop=64, stride=32), batch=5)
    for name, (plain, within) in zip(arrays, segmenter.many(arrays.items(), labels=truths.__getitem__), strict=True):
        scores = slow_scores(tiny, WITHIN, text, arrays[name], shown[name], 64, 32, truths[name])
        probability = (100 * scores).softmax(dim=0)
        best = torch.stack([probability[text.owners == number].amax(dim=0) for number in range(4)])
        assert (within.labels == best.argmax(dim=0).numpy()).mean() > 0.999
        assert np.allclose(within.confidence, best.amax(dim=0).numpy(), atol=1e-3)
        assert (within.labels != plain.labels).any()


def test_true_labels_of_a_whole_image_stand_for_it(tiny, text):
    array = photo(50, 90, 3)
    truth = blocks_of_labels(50, 90, 3)
    segmenter = Segmenter(tiny, WITHIN, text, size="native", windows="whole")
    answer = next(segmenter([("photo", array)], labels=lambda name: {"photo": truth}[name]))
    scores = slow_scores(tiny, WITHIN, text, array, (50, 90), 90, 90, truth)
    best = torch.stack([scores[text.owners == number].amax(dim=0) for number in range(4)])
    assert (answer.labels == best.argmax(dim=0).numpy()).mean() > 0.999


def test_a_method_that_looks_at_the_truth_is_refused_without_and_others_do_not_ask_for_it(tiny, text):
    with pytest.raises(ValueError, match="looks at the true labels"):
        next(Segmenter(tiny, WITHIN, text)(photo(40, 50)))

    def never(name):
        raise AssertionError

    next(Segmenter(tiny, "clip", text)(photo(40, 50), labels=never))
    with pytest.raises(ImageError, match=r"\(h, w\) = \(40, 50\); got float64 of \(40, 50\)"):
        next(Segmenter(tiny, WITHIN, text, strict=True)(photo(40, 50), labels=lambda name: np.zeros((40, 50))))


def test_without_settings_the_short_side_is_one_and_a_half_crops(tiny, text):
    assert str(Segmenter(tiny, "clip", text).size) == "short:96"
    assert str(Segmenter(tiny, "clip", text, windows="center:size=48").size) == "short:48"


@pytest.mark.parametrize("batch", [1, 3, 8, 100])
def test_images_together_equal_images_one_by_one(tiny, text, batch):
    arrays = [photo(60, 90), photo(90, 60, 1), photo(60, 90, 2), photo(40, 200, 3)]
    segmenter = Segmenter(tiny, "sclip", text, batch=batch)
    for array, answer in zip(arrays, segmenter(arrays), strict=True):
        alone = next(Segmenter(tiny, "sclip", text, batch=1)(array))
        assert np.allclose(answer.confidence, alone.confidence, atol=1e-5)
        assert (answer.labels == alone.labels).mean() > 0.999
        assert answer.labels.shape == array.shape[:2]


def test_several_methods_equal_each_alone_and_come_in_their_order(tiny, text):
    specs = ["clearclip", "clip", "naclip:scale=20"]
    arrays = [photo(60, 90), photo(60, 90, 1)]
    together = list(Segmenter(tiny, specs, text).many(arrays))
    for place, spec in enumerate(specs):
        for answer, alone in zip(together, Segmenter(tiny, spec, text)(arrays), strict=True):
            assert answer[place].method == spec
            assert np.array_equal(answer[place].labels, alone.labels)
            assert np.allclose(answer[place].confidence, alone.confidence, atol=1e-6)


def test_several_methods_are_asked_for_by_name(tiny, text):
    with pytest.raises(ValueError, match=r"segmenter\.many"):
        Segmenter(tiny, ["clip", "sclip"], text)(photo(60, 60))


def test_the_methods_own_decoding_holds_unless_another_is_given(tiny, text):
    array = photo(60, 90)
    soft = next(Segmenter(tiny, "clip:scale=1", text)(array))
    assert soft.confidence.max() < 0.5
    hard = next(Segmenter(tiny, "clip:scale=1", text, decode=Decode(scale=1e4))(array))
    assert hard.confidence.mean() > 0.9
    rest = next(Segmenter(tiny, "clip:scale=1,threshold=0.9", text)(array))
    assert (rest.labels == 0).all()


def test_images_of_an_iterator_are_opened_only_a_few_ahead(tiny, text):
    pulled = 0

    def endless():
        nonlocal pulled
        while True:
            pulled += 1
            yield photo(64, 64, pulled)

    run = Segmenter(tiny, "clip", text, batch=4)(endless())
    names = [next(run).name for _ in range(3)]
    assert names == ["image-0001", "image-0002", "image-0003"]
    assert pulled <= 3 + 1 + 5  # in work, and a few for each of up to four threads


def test_windows_of_several_small_images_share_a_batch(tiny, text, monkeypatch):
    sizes = []

    def counted(backbone, images, methods, **options):
        sizes.append(len(images))
        return encode_many(backbone, images, methods, **options)

    monkeypatch.setattr(module, "encode_many", counted)
    arrays = [photo(64, 64, number) for number in range(6)]
    list(Segmenter(tiny, "clip", text, windows="whole", size="native", batch=4)(arrays))
    assert sizes == [4, 2]


def test_where_memory_runs_out_the_batch_is_halved(tiny, text, monkeypatch):
    def scarce(backbone, images, methods, **options):
        if len(images) > 2:
            raise torch.OutOfMemoryError("no memory left")
        return encode_many(backbone, images, methods, **options)

    array = photo(60, 90)
    expected = next(Segmenter(tiny, "clip", text)(array))
    monkeypatch.setattr(module, "encode_many", scarce)
    answer = next(Segmenter(tiny, "clip", text)(array))
    assert np.allclose(answer.confidence, expected.confidence, atol=1e-5)


def test_files_are_named_below_the_folder_they_share(tiny, text, tmp_path):
    for name in ("a/one.png", "b/two.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(photo(50, 70)).save(tmp_path / name)
    answers = list(Segmenter(tiny, "clip", text)([tmp_path / "a", str(tmp_path / "b" / "*.png")]))
    assert [entry.name for entry in answers] == ["a/one.png", "b/two.png"]
    assert answers[1].path == tmp_path / "b" / "two.png"
    assert [entry.number for entry in answers] == [0, 1]
    answer = next(Segmenter(tiny, "clip", text)([("mine", tmp_path / "a" / "one.png")]))
    assert answer.name == "mine"
    assert np.array_equal(answer.labels, answers[0].labels)


def test_arrays_pil_images_and_files_give_the_same(tiny, text, tmp_path):
    array = photo(50, 70)
    Image.fromarray(array).save(tmp_path / "one.png")
    answers = list(Segmenter(tiny, "clip", text)([array, Image.fromarray(array), tmp_path / "one.png"]))
    assert np.array_equal(answers[0].labels, answers[1].labels)
    assert np.array_equal(answers[0].labels, answers[2].labels)
    assert np.array_equal(np.asarray(answers[2].image), array)


def test_a_broken_image_is_named_and_left_out(tiny, text, tmp_path):
    Image.fromarray(photo(50, 70)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"not an image")
    run = Segmenter(tiny, "clip", text)(tmp_path)
    assert [answer.name for answer in run] == ["good.png"]
    assert list(run.left_out) == ["bad.png"]
    assert "not an image that can be read" in run.left_out["bad.png"]
    with pytest.raises(ImageError, match=r"bad\.png"):
        list(Segmenter(tiny, "clip", text, strict=True)(tmp_path))


def test_where_no_image_can_be_read_it_says_so(tiny, text, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match="none of the 1 images"):
        list(Segmenter(tiny, "clip", text)(tmp_path))
    with pytest.raises(ValueError, match="at least one image"):
        list(Segmenter(tiny, "clip", text)([]))
    with pytest.raises(ValueError, match="no file or folder"):
        list(Segmenter(tiny, "clip", text)(tmp_path / "missing.png"))


def test_pixels_outside_a_center_crop_have_no_label(tiny, text):
    segmenter = Segmenter(tiny, "clip", text, windows="center:size=64")
    answer = next(segmenter(photo(64, 128)))
    assert (answer.labels[:, :32] == -1).all()
    assert (answer.labels[:, 32:96] >= 0).all()
    assert (answer.labels[:, 96:] == -1).all()
    assert answer.confidence[:, :32].max() == 0
    assert answer.areas.sum() == pytest.approx(1)
    scores = segmenter.scores(photo(64, 128))[0]
    assert scores[:, :, :32].isnan().all()
    assert scores[:, :, 32:96].isfinite().all()


def test_areas_and_scores_count_pixels_of_each_class(tiny, text):
    answer = next(Segmenter(tiny, "clip", text)(photo(30, 40)))
    present = np.unique(answer.labels)
    for number in range(4):
        inside = answer.labels == number
        assert answer.areas[number] == pytest.approx(inside.mean())
        if number in present:
            assert answer.scores[number] == pytest.approx(answer.confidence[inside].mean(), rel=1e-5)
        else:
            assert np.isnan(answer.scores[number])


@dataclass(frozen=True, kw_only=True)
class AtPixels(Scorer):
    """Scores for classes, at the window's own pixels: 1 in the class of its left or right half."""

    def __call__(self, encoding, text, size):
        maps = torch.zeros(len(encoding.patches), len(text.names), *size)
        maps[:, 1, :, : size[1] // 2] = 1
        maps[:, 3, :, size[1] // 2 :] = 1
        return Scores(maps, by_class=True)


def test_scores_by_class_and_at_pixels_work_as_well(tiny, text):
    method = replace(METHODS["clip"], scorer=AtPixels(), spec="halves")
    answer = next(Segmenter(tiny, method, text, windows="whole", size="native")(photo(48, 64)))
    assert (answer.labels[:, :32] == 1).all()
    assert (answer.labels[:, 32:] == 3).all()


@dataclass(frozen=True, kw_only=True)
class Broken(Scorer):
    """NaN everywhere."""

    def __call__(self, encoding, text, size):
        return Scores(Cosine()(encoding, text, size).maps * torch.nan)


def test_scores_that_are_no_numbers_are_refused_by_name(tiny, text):
    method = replace(METHODS["clip"], scorer=Broken(), spec="broken")
    with pytest.raises(ValueError, match="`broken` gave NaN"):
        next(Segmenter(tiny, method, text)(photo(48, 64)))


def test_a_image_with_nan_is_refused(tiny, text):
    array = np.full((20, 30, 3), 0.5)
    array[3, 4, 1] = np.nan
    with pytest.raises(ValueError, match="replace NaN"):
        next(Segmenter(tiny, "clip", text)(array))


@dataclass(frozen=True, kw_only=True)
class Upside(Refiner):
    """Turns labels upside down, to see that the refiner has the last word; notes what it was shown."""

    def labels(self, labels, canvas):
        assert canvas.image.size == (labels.shape[1], labels.shape[0])
        assert canvas.shown.shape == (3, 96, 144)
        return labels.flip(0)


def test_a_refiner_sees_the_image_and_has_the_last_word(tiny, text):
    array = photo(60, 90)
    plain = next(Segmenter(tiny, "clip", text)(array))
    assert np.array_equal(next(Segmenter(tiny, "clip", text, refine=Upside())(array)).labels, plain.labels[::-1])


def test_pamr_by_its_spec_equals_pamr_on_all_scores_at_once(tiny, text):
    from segment.decoding.refine.pamr import pamr

    array = photo(60, 90)
    plain = Segmenter(tiny, "clip", text)
    shown = normalize(to_tensor(resize(Image.fromarray(array), 96, 144, resampling="opencv")), tiny.mean, tiny.std)
    image = F.interpolate(shown[None], size=(60, 90), mode="bilinear")
    expected = pamr(image, plain.scores(array)[0][None], iterations=2, dilations=(1, 2))[0]
    refined = Segmenter(tiny, "clip", text, refine="pamr:iterations=2,dilations=1+2")
    assert torch.allclose(refined.scores(array)[0], expected, atol=1e-5)
    owners = text.owners[expected.argmax(dim=0)]
    assert (next(refined(array)).labels == owners.numpy()).mean() > 0.999


LEARNER = "sclip:detector=register-neuron(ratio=1.02),purifier=median"


@dataclass(frozen=True)
class Learner(Detector):
    """Remembers how often it was fitted, and the windows of the last time: how many, and their mean."""

    published = "not at all"
    needs = ("block_out",)
    times: int = 0
    count: int = 0
    mean: float = 0.0

    def fitted(self, backbone, images, layer):
        return Learner(self.times + 1, len(images), float(images.mean()))

    def score(self, recording, layout):
        assert self.times == 1
        return torch.zeros(len(recording["block_out"]), layout.count)

    def mark(self, scores):
        return scores > 0


def learning(text, backbone, **options) -> Segmenter:
    method = METHODS.build("clip:purifier=median")
    return Segmenter(backbone, replace(method, encoder=replace(method.encoder, detector=Learner())), text, **options)


def test_detectors_that_learn_are_fitted_once_on_windows_of_the_first_images(tiny, text):
    arrays = [photo(64, 96, number) for number in range(11)]
    segmenter = learning(text, tiny, size="native", batch=2)  # two windows an image
    ready = segmenter.fitted(arrays)
    detector = ready.methods[0].encoder.detector
    images = torch.stack([normalize(to_tensor(Image.fromarray(array)), tiny.mean, tiny.std) for array in arrays[:8]])
    assert detector.count == 16
    assert detector.mean == pytest.approx(float(torch.cat([images[..., :64], images[..., 32:]]).mean()), abs=1e-6)
    assert segmenter.methods[0].encoder.detector.times == 0
    assert len(list(segmenter(arrays))) == 11  # `score` sees that it was fitted once
    assert len(list(ready(arrays[9:]))) == 2  # and not again


def test_of_many_windows_some_are_taken_from_every_image_to_fit(tiny, text):
    arrays = [np.full((64, 640, 3), 255 * number, np.uint8) for number in range(2)]
    detector = learning(text, tiny, size="native").fitted(arrays).methods[0].encoder.detector
    assert 16 <= detector.count <= 32  # of 19 windows an image
    black, white = (normalize(torch.full((1, 3, 1, 1), float(value)), tiny.mean, tiny.std).mean() for value in (0, 1))
    assert detector.mean == pytest.approx(float(black + white) / 2, abs=0.2)


def test_a_published_detector_that_learns_runs_in_a_method(tiny, text):
    answers = list(Segmenter(tiny, LEARNER, text)([photo(64, 64, number) for number in range(3)]))
    assert [answer.labels.shape for answer in answers] == [(64, 64)] * 3


def test_runs_change_nothing_and_repeat_themselves(tiny, text):
    before = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    segmenter = Segmenter(tiny, "sclip", text)
    array = photo(60, 90)
    first, second = next(segmenter(array)), next(segmenter(array))
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.confidence, second.confidence)
    assert all(torch.equal(value, before[name]) for name, value in tiny.model.state_dict().items())


def test_settings_say_everything_and_json_has_them(tiny, text):
    segmenter = Segmenter(
        tiny, ["clip:scale=7", LEARNER], text, refine="pamr", windows="slide:crop=48", size="short:80"
    )
    settings = json.loads(json.dumps(segmenter.settings()))
    assert settings["methods"]["clip:scale=7"]["scale"] == 7
    assert settings["size"] == "short:80"
    assert "crop=48" in settings["windows"]
    assert "dilations=(8, 16)" in settings["refine"]
    other = Segmenter(tiny, "clip", text, decode=Decode(scale=3)).settings()
    assert other["methods"]["clip"]["scale"] == 3


def test_words_are_turned_into_features(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("OUTLIERS_CACHE", str(tmp_path))
    segmenter = Segmenter(tiny, "clip", "cat, dog")
    assert segmenter.text.names == ("cat", "dog")
    assert set(np.unique(next(segmenter(photo(40, 40))).labels)) <= {0, 1}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"features": torch.ones(5, 8)}, "unit vectors; row 0"),
        ({"features": torch.full((5, 8), torch.nan)}, "unit vectors; row 0"),
        ({"owners": torch.tensor([0, 0, 1, 2, 2])}, "at least one query"),
        ({"owners": torch.tensor([0, 1, 2, 3])}, r"features \(Q, E\) and owners"),
        ({"background": 4}, "one of the classes"),
    ],
)
def test_words_without_meaning_are_refused(tiny, text, change, message):
    with pytest.raises(ValueError, match=message):
        Segmenter(tiny, "clip", replace(text, **change))


def test_words_of_another_model_are_refused(tiny, text):
    other = replace(text, features=F.normalize(torch.randn(5, 7), dim=-1))
    with pytest.raises(ValueError, match="the words have 7 features"):
        next(Segmenter(tiny, "clip", other)(photo(40, 40)))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"methods": []}, "at least one method"),
        ({"batch": 0}, "`batch` should be at least 1"),
        ({"resampling": "cubic"}, "no resampling"),
        ({"windows": "tiles"}, "no windows `tiles`"),
        ({"refine": "crf"}, "no refiner `crf`"),
        ({"methods": "clip:threshold=0.2", "background": None}, "the vocabulary has none"),
    ],
)
def test_settings_without_meaning_are_refused(tiny, text, options, message):
    options = {"methods": "clip"} | options
    if "background" in options:
        text = replace(text, background=options.pop("background"))
    with pytest.raises(ValueError, match=message):
        Segmenter(tiny, text=text, **options)


def test_options_come_as_one_value_or_as_keywords(tiny, text):
    options = RunOptions(size="short:40", batch=3, device="cpu")
    segmenter = Segmenter(tiny, "clip", text, options=options, strict=True)
    assert (str(segmenter.size), segmenter.options.batch, segmenter.options.strict) == ("short:40", 3, True)
    with pytest.raises(TypeError, match="`Segmenter` has no option `layers`"):
        Segmenter(tiny, "clip", text, layers=[1])


@pytest.mark.parametrize("spec", ["tiny:class_token=false", "tiny:registers=3"])
def test_models_without_class_token_or_with_registers_are_segmented(spec):
    backbone = load_backbone(spec)
    answer = next(Segmenter(backbone, "maskclip", words_for(backbone))(photo(50, 70)))
    assert answer.labels.shape == (50, 70)
    assert len(np.unique(answer.labels)) > 1


def test_bf16_gives_almost_the_same(text):
    array = photo(60, 90)
    exact = next(Segmenter(load_backbone("tiny"), "clip", text)(array))
    rough = next(Segmenter(load_backbone("tiny", precision="bf16"), "clip", text)(array))
    assert rough.confidence.dtype == np.float32
    assert np.abs(rough.confidence - exact.confidence).mean() < 0.02
