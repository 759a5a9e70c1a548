"""The plain CLIP and its tokenizer are open_clip's to the last bit: names, starting weights, features, numbers."""

from __future__ import annotations

import subprocess
import sys

import open_clip
import pytest
import torch

from diagnostics.backbones import load_backbone
from diagnostics.backbones.clip_model import MEAN, STD, PlainClip
from diagnostics.backbones.clip_words import ClipTokenizer
from diagnostics.backbones.tiny import randomize

VISION = {"layers": 3, "width": 48, "patch_size": 8, "image_size": 32}
TEXT = {"layers": 2, "width": 32, "heads": 2, "context_length": 12, "vocab_size": 99}


def drawn(seed=4):
    """open_clip's model and ours, each drawn from the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stock = open_clip.CLIP(40, vision_cfg=VISION | {"head_width": 24}, text_cfg=TEXT, quick_gelu=True)
        torch.manual_seed(seed)
        return stock.eval(), PlainClip(40, vision=VISION | {"heads": 2}, text=TEXT).eval()


def inputs():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 3, 32, 32, generator=generator), torch.randint(1, 98, (5, 12), generator=generator)


def test_weights_have_open_clips_names_order_and_starting_values():
    stock, ours = drawn()
    assert [name for name, _ in stock.named_parameters()] == [name for name, _ in ours.named_parameters()]
    assert list(stock.state_dict()) == list(ours.state_dict())
    for name, value in stock.state_dict().items():
        assert torch.equal(value, ours.state_dict()[name]), name


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_features_are_open_clips_to_the_last_bit(normalize, grad):
    stock, ours = drawn()
    randomize(stock, seed=2)  # every weight matters, norms and biases included
    ours.load_state_dict(stock.state_dict())
    images, texts = inputs()
    with torch.set_grad_enabled(grad):
        assert torch.equal(stock.encode_image(images, normalize), ours.encode_image(images, normalize))
        assert torch.equal(stock.encode_text(texts, normalize), ours.encode_text(texts, normalize))


def test_gradients_are_open_clips():
    stock, ours = drawn()
    images, texts = inputs()
    for model in (stock, ours):
        (model.encode_image(images).square().mean() + model.encode_text(texts).square().mean()).backward()
    for (name, expected), (_, value) in zip(stock.named_parameters(), ours.named_parameters(), strict=True):
        if expected.grad is not None:
            assert torch.equal(expected.grad, value.grad), name


def test_mean_and_std_are_open_clips():
    assert (MEAN, STD) == (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)


@pytest.fixture(scope="module")
def tokenizers():
    return open_clip.SimpleTokenizer(), ClipTokenizer()


TEXTS = [
    "",
    "a photo of a cat.",
    "  A   Photo\tof\n2 CATS!!  ",
    "the dog's owner's, they'll we've I'm you're don't he'd",
    "l'été à São Paulo — naïve façade",
    "数字 12345 and ひらがな",
    "emoji 😀👍🏽 and ™ ½",
    "a < b, then &amp;lt; and &amp;eacute;",
    "schÃ¶n broken, &amp;lt; twice, &eacute;",
    "supercalifragilisticexpialidocious antidisestablishmentarianism aaaaaaaaaaaaaaaaaaaa",
    "<start_of_text> in the text <end_of_text>",
    "under_score, semi;colon/slash\\back (bracket) [x] {y} #tag @at 50% $5 a=b+c",
    "ﬁ ligature \x1b[31mcolor\x1b[0m “quotes”",
    "word " * 90,
]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_become_open_clips_numbers(tokenizers, text):
    stock, ours = tokenizers
    assert ours.encode(text) == stock.encode(text)
    assert torch.equal(ours(text), stock(text))
    assert torch.equal(ours([text, "a"], 9), stock([text, "a"], 9))


def test_the_vocabulary_is_open_clips(tokenizers):
    stock, ours = tokenizers
    assert ours.numbers == stock.encoder
    assert (ours.vocab_size, ours.start, ours.end) == (stock.vocab_size, *stock.all_special_ids)


def test_every_sentence_and_word_of_imagenet_becomes_open_clips_numbers(tokenizers):
    stock, ours = tokenizers
    texts = [
        sentence(word)
        for sentence, word in zip(open_clip.OPENAI_IMAGENET_TEMPLATES * 13, open_clip.IMAGENET_CLASSNAMES, strict=False)
    ]
    assert torch.equal(ours(texts), stock(texts))


TIMM = (
    "from timm.models.vision_transformer import VisionTransformer\n"
    "from diagnostics.backbones.timm import timm_backbone\n"
    "model = VisionTransformer(img_size=32, embed_dim=48, depth=1, num_heads=2)\n"
    "timm_backbone(model, 'small', mean=(0.5,) * 3, std=(0.5,) * 3)"
)


@pytest.mark.parametrize(
    "code",
    [
        "load_backbone('pocket').encode_text(['a zebra'])",
        "load_backbone('pocket:planted')",
        "load_backbone('tiny').encode_text(['a cat'])",
        "load_backbone('tiny:registers=2')",
        TIMM,
        "from segment.text.templates import load_templates; assert len(load_templates('openai-80')) == 80",
    ],
)
def test_what_is_not_open_clips_does_not_import_it(code):
    code = f"import sys\nfrom diagnostics import load_backbone\n{code}\nsys.exit('open_clip' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_text_of_pocket_is_warned_about_where_the_words_are_unknown():
    with pytest.warns(UserWarning, match="toucan"):
        load_backbone("pocket").encode_text(["a toucan"])
