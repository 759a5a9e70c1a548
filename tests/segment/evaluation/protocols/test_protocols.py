"""Protocols: the numbers of the releases, their hashes, and what happens on data sets that they don't know."""

import dataclasses

import numpy as np
import pytest

from segment.datasets import DATASETS
from segment.datasets.base import Dataset, Sample
from segment.datasets.names import class_names
from segment.datasets.shapes import Shapes
from segment.decoding.refine.pamr import Pamr
from segment.decoding.refine.tlp import Tlp
from segment.decoding.windows import Whole
from segment.evaluation.protocols import PROTOCOLS, protocol_for, settings_table, vocabulary_for
from segment.methods import METHODS
from segment.text.vocabulary import Vocabulary

# short side, crop, stride, scale, threshold, smallest area; whole images have no crop.
RELEASED = """
sclip     voc20       336 224 112 40 0    0
sclip     voc21       336 224 112 65 0.1  0.1
sclip     context59   336 224 112 40 0    0
sclip     context60   336 224 112 50 0.1  0
sclip     coco-object 336 224 112 50 0.1  0
sclip     coco-stuff  448 224 112 40 0    0
sclip     ade150      336 224 112 40 0    0
sclip     cityscapes  560 224 112 40 0    0
naclip    voc20       336 -   -   40 0    0
naclip    voc21       336 -   -   40 0.1  0
naclip    context59   336 224 112 40 0    0
naclip    context60   336 224 112 40 0.1  0
naclip    coco-object 336 224 112 40 0.1  0
naclip    coco-stuff  336 224 112 40 0    0
naclip    ade150      336 224 112 40 0    0
naclip    cityscapes  560 224 112 40 0    0
sc-clip   voc20       336 224 112 40 0    0
sc-clip   voc21       336 224 112 50 0.15 0.1
sc-clip   context59   336 224 112 40 0    0
sc-clip   context60   336 224 112 40 0.15 0
sc-clip   coco-object 336 224 112 55 0.35 0
sc-clip   coco-stuff  336 224 112 40 0    0
sc-clip   ade150      336 224 112 40 0    0
sc-clip   cityscapes  560 224 112 40 0    0
sc-clip-l14 voc21       336 224 112 40 0.2  0.1
sc-clip-l14 coco-object 336 224 112 40 0.25 0
sfp       voc20       336 224 112 40 0    0
sfp       voc21       336 224 112 50 0.15 0.1
sfp       context59   336 224 112 40 0    0
sfp       context60   336 224 112 40 0.15 0
sfp       coco-object 336 224 112 55 0.35 0
sfp       coco-stuff  336 224 112 40 0    0
sfp       ade150      384 224 112 40 0    0
sfp       cityscapes  560 224 112 40 0    0
clearclip voc20       448 448 224 50 0    0
clearclip voc21       448 448 224 50 0.5  0
clearclip context59   448 448 224 50 0    0
clearclip context60   448 448 224 50 0.15 0
clearclip coco-object 448 448 224 50 0.4  0
clearclip coco-stuff  448 448 224 50 0    0
clearclip ade150      448 448 224 50 0    0
clearclip cityscapes  448 224 224 50 0    0
proxyclip voc20       336 336 112 40 0    0
proxyclip voc21       336 336 112 40 0.2  0
proxyclip context59   336 336 112 40 0    0
proxyclip context60   336 336 112 40 0.15 0
proxyclip coco-object 336 336 112 40 0.25 0
proxyclip coco-stuff  336 336 112 40 0    0
proxyclip ade150      448 336 112 40 0    0
proxyclip cityscapes  448 224 112 40 0    0
proxyclip ade847      448 336 112 40 0    0
proxyclip context459  448 336 112 40 0    0
pearl     voc20       336 -   -   40 0    0
pearl     voc21       336 -   -   40 0.1  0
pearl     context60   336 224 112 40 0.1  0
pearl     ade150      336 224 112 40 0    0
pearl     cityscapes  560 224 112 40 0    0
resclip   voc20       336 -   -   40 0    0
resclip   voc21       336 -   -   40 0.1  0
resclip   coco-object 336 224 112 40 0.1  0
itaclip   voc21       336 224 28  60 0.1  0.1
itaclip   context60   336 224 28  55 0.1  0
itaclip   coco-object 336 224 28  50 0.1  0
itaclip   coco-stuff  448 224 28  40 0    0
itaclip   cityscapes  560 224 28  40 0    0
dih-clip  voc21       336 224 112 50 0.15 0.1
dih-clip  coco-object 336 224 112 55 0.35 0
lavg      voc21       336 224 112 65 0.1  0.1
lavg      context60   336 224 112 50 0.1  0
lavg      coco-stuff  448 224 112 40 0    0
cliptrase voc21       336 -   -   100 0   0
cliptrase-224 ade150  224 -   -   100 0   0
"""


@pytest.mark.parametrize("line", RELEASED.strip().splitlines())
def test_settings_are_those_of_the_releases(line):
    name, dataset, short, crop, stride, *numbers = line.split()
    protocol = protocol_for(name, dataset)
    assert protocol.size == f"short:{short}"
    assert [protocol.scale, protocol.threshold, protocol.smallest_area] == [float(number) for number in numbers]
    if crop == "-":
        assert protocol.windows == Whole()
    else:
        assert (protocol.windows.crop, protocol.windows.stride) == (int(crop), int(stride))
    assert isinstance(protocol.refine, Pamr) == (name in ("naclip", "itaclip"))
    assert isinstance(protocol.refine, Tlp) == (name == "pearl")
    assert protocol.published


def test_cliptrase_scores_the_middle_square_with_its_own_metric_and_labels():
    protocol = protocol_for("cliptrase", "voc21")
    assert (protocol.scored, protocol.metric, protocol.resampling) == ("crop", "cliptrase", "bicubic")
    assert protocol.dataset_fields == (("convention", "cliptrase"),)
    assert protocol_for("cliptrase", "voc20").method_fields == (("cliptrase", "class_prior=true"),)


def test_later_methods_have_their_constants_on_each_data_set():
    def settings(name, dataset):
        ((method, fields),) = protocol_for(name, dataset).method_fields
        assert method == name
        return METHODS.build(f"{name}:{fields}").encoder

    voc = settings("resclip", "voc21")
    assert (voc.tau, voc.share, voc.feedback_tau, voc.feedback_share, voc.feedback_threshold) == (2, 0.3, 2.2, 0.7, 0.5)
    city = settings("resclip", "cityscapes")
    assert (city.share, city.feedback_tau, city.feedback_share, city.feedback_threshold) == (0.2, 2.1, 0.6, 0.1)
    assert settings("pearl", "ade150").alpha == settings("pearl", "cityscapes").alpha == 0.3
    assert protocol_for("pearl", "voc21").method_fields == ()
    assert protocol_for("pearl", "cityscapes").refine == Tlp(grid=224)
    assert protocol_for("pearl-paper", "voc21").refine == Tlp(affinity="printed")
    assert settings("itaclip", "voc21").views == ("gray", "blur", "vertical", "horizontal")
    assert [settings("itaclip", name).first_share for name in ("voc21", "coco-stuff")] == [0.7, 0.75]
    assert protocol_for("lavg", "voc21").method_fields == (("lavg", "background_only=true"),)


def test_only_cliptrase_skips_images_of_background_alone():
    skipping = {name for name, _, protocol in settings_table() if protocol.empty == "skipped"}
    assert skipping == {"cliptrase", "cliptrase-224"}


def test_ours_has_the_same_settings_on_every_data_set():
    known = ["voc20", "voc21", "context59", "coco-object", "ade847", "cityscapes", "folder", "shapes", "camvid"]
    settings = [protocol_for("ours", dataset).settings() for dataset in known]
    assert all(values == settings[0] for values in settings)


@dataclasses.dataclass(frozen=True)
class Named(Dataset):
    names: tuple[str, ...]
    background: int | None
    ignore: int | None = 255

    def __len__(self):
        return 0

    def sample_name(self, index):
        return ""

    def read(self, index):
        return Sample(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8), "")


def voc(*, background):
    names = class_names("voc")
    return Named(("background", *names), 0) if background else Named(names, None)


@pytest.mark.parametrize(
    "name, dataset, queries",
    [("sclip", "voc20", 30), ("sclip", "voc21", 56), ("sfp", "voc21", 56), ("clearclip", "voc21", 21),
     ("proxyclip", "voc20", 20), ("proxyclip", "voc21", 46), ("ours", "voc21", 20 + 26)],
)  # fmt: skip
def test_words_are_as_many_as_released(name, dataset, queries):
    vocabulary = vocabulary_for(protocol_for(name, dataset).words, dataset, voc(background=dataset == "voc21"))
    assert len(vocabulary.queries) == queries


def test_backgrounds_of_ours_leave_out_words_that_are_classes():
    vocabulary = vocabulary_for("ours", "folder", Named(("rest", "sky", "dining_table"), 0))
    assert "sky" not in vocabulary.classes[0]
    assert "wall" in vocabulary.classes[0]
    assert vocabulary.classes[1:] == (("sky",), ("dining table",))


def test_a_hash_is_that_of_the_content_and_changes_with_every_setting():
    words = Vocabulary((("a",), ("b", "c")), 0)
    base = protocol_for("sc-clip", "voc21")
    changes = {
        "size": "short:448", "resampling": "bicubic", "windows": "slide(crop=224,stride=56)", "templates": "photo",
        "scale": "51", "threshold": "0.2", "smallest_area": "0", "refine": "pamr", "metric": "cliptrase",
        "positions": "bicubic", "matching": "hungarian",
    }  # fmt: skip
    hashes = [base.changed({key: value}).hash(words) for key, value in changes.items()]
    hashes += [base.hash(words), base.hash(Vocabulary((("a",), ("b", "d")), 0)), base.hash(Vocabulary(words.classes))]
    assert len(set(hashes)) == len(hashes)
    renamed = dataclasses.replace(base, name="other", source="elsewhere", departures=("x",), words="names")
    assert renamed.hash(words) == base.hash(words)
    assert base.changed({}) is base


def test_a_changed_setting_is_reported_and_is_no_published_one_any_more():
    protocol = protocol_for("sfp", "ade150", {"smallest-area": "0.05"})
    assert protocol.smallest_area == 0.05
    assert not protocol.published
    assert "set: smallest_area=0.05" in protocol.departures


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"treshold": "0.1"}, "Did you mean `threshold`"),
        ({"threshold": "high"}, "should be float"),
        ({"resampling": "cubic"}, "bicubic"),
        ({"windows": "slid"}, "slide"),
        ({"scored": "crop"}, "resampling"),
        ({"name": "x"}, "no setting"),
    ],
)
def test_wrong_settings_say_what_was_expected(settings, message):
    with pytest.raises(ValueError, match=message):
        protocol_for("sfp", "voc21", settings)


def test_an_unknown_pair_names_what_there_is():
    with pytest.raises(ValueError, match=r"has no setting for data set `ade847`.*voc21.*`ours`.*proxyclip"):
        protocol_for("sfp", "ade847")
    with pytest.raises(ValueError, match="Did you mean `sclip`"):
        protocol_for("sclp", "voc21")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_takes_a_data_set_of_the_users_own_and_says_so(name):
    protocol = protocol_for(name, "shapes:scenes=3")
    assert not protocol.published
    assert protocol.threshold == 0
    vocabulary_for(protocol.words, "shapes", Shapes())
    if name != "ours":
        assert any("has no setting for `shapes`" in departure for departure in protocol.departures)


def test_the_unsupervised_setting_matches_clusters():
    assert protocol_for("ours", "coco-stuff-27").matching == "hungarian"


@pytest.mark.parametrize("name, dataset, protocol", settings_table())
def test_every_setting_has_a_source_and_knows_its_names(name, dataset, protocol):
    assert (protocol.name, protocol.dataset) == (name, dataset)
    assert protocol.source


def test_a_data_set_of_others_gets_what_the_papers_settings_have_in_common():
    DATASETS.register("theirs", Shapes)
    try:
        protocol = protocol_for("gem", "theirs:scenes=2")
        assert (protocol.scale, protocol.published) == (protocol_for("gem", "shapes").scale, False)
        assert any("no setting for `theirs`" in line for line in protocol.departures)
    finally:
        DATASETS.unregister("theirs")
    with pytest.raises(ValueError, match="no setting for data set `theirs`"):
        protocol_for("gem", "theirs")
