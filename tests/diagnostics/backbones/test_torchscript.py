"""TorchScript archives read as data, against what torch's own loader makes of them."""

import pickletools
import zipfile

import pytest
import torch

from diagnostics.backbones.weights import read_weights

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.in_proj_weight = torch.nn.Parameter(torch.randn(12, 4))
        self.out_proj = torch.nn.Linear(4, 4)
        self.scale = torch.ones(2)  # an attribute: no state dict has it

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out_proj(x @ self.in_proj_weight[:4].T) * self.scale[0]


class Tower(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.triu(torch.ones(3, 3)).bool())
        self.class_embedding = torch.nn.Parameter(torch.randn(4))
        self.resblocks = torch.nn.Sequential(Attention(), torch.nn.LayerNorm(4), Attention())
        self.names = ["a", "b"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.resblocks(x) + self.class_embedding + len(self.names) + self.mask.sum()


class Clip(torch.nn.Module):
    """The layout of OpenAI's archives: half precision, nested modules, numbers beside the weights, a weight twice."""

    def __init__(self):
        super().__init__()
        self.visual = Tower()
        self.token_embedding = torch.nn.Embedding(7, 4)
        self.logit_scale = torch.nn.Parameter(torch.tensor(4.6))
        self.same = self.visual.class_embedding
        self.cut = torch.nn.Parameter(torch.randn(6, 5).T[1:, ::2])  # neither whole nor in order in its storage
        self.register_buffer("context_length", torch.tensor(77))
        self.register_buffer("nothing", torch.zeros(0, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.visual(x) + self.same + self.token_embedding.weight[0] + self.nothing.sum()
        return self.logit_scale * x + self.cut.sum() + self.context_length


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("torchscript") / "clip.pt"
    torch.jit.save(torch.jit.script(Clip().half()), path)
    return path


def test_the_weights_are_those_that_torch_loads(archive):
    expected, weights = torch.jit.load(archive).state_dict(), read_weights(archive)
    assert list(weights) == list(expected)
    assert {"visual.mask", "visual.resblocks.2.out_proj.bias", "same", "context_length"} <= weights.keys()
    for name, weight in expected.items():
        assert weights[name].dtype == weight.dtype
        assert torch.equal(weights[name], weight)


def test_a_traced_model_reads_alike(tmp_path):
    torch.jit.save(torch.jit.trace(Clip().eval(), torch.randn(2, 4)), tmp_path / "clip.pt")
    expected, weights = torch.jit.load(tmp_path / "clip.pt").state_dict(), read_weights(tmp_path / "clip.pt")
    assert list(weights) == list(expected)
    assert all(torch.equal(weights[name], weight) for name, weight in expected.items())


class Writer(torch.nn.Module):
    """Writes into a file when torch restores it."""

    def __init__(self, file: str):
        super().__init__()
        self.file = file
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.training = True

    @torch.jit.export
    def __getstate__(self):
        return (self.weight, self.training, self.file)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool, str]):
        written = torch.from_file(state[2], True, 4, dtype=torch.uint8)
        written.fill_(33)
        self.weight = state[0] + written[:3].float()
        self.training, self.file = state[1], state[2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("inside", [False, True])
def test_code_in_an_archive_is_not_run(tmp_path, inside):
    victim = tmp_path / "victim"
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), Writer(str(victim))) if inside else Writer(str(victim))
    torch.jit.save(torch.jit.script(module), tmp_path / "w.pt")
    victim.write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"w\.pt` .*`__torch__.* Writer` at .* is restored by code .* never run"):
        read_weights(tmp_path / "w.pt")
    assert victim.read_bytes() == b"mine"
    torch.jit.load(tmp_path / "w.pt")
    assert victim.read_bytes() == b"!!!!"  # the same file is no harmless one


def rewritten(source, target, change):
    """The archive with `change(name, content)` for each member."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = change(name.partition("/")[2], old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def test_a_name_in_the_pickle_is_never_looked_up(archive, tmp_path):
    # The classic attack: a call of a function by name, in place of the whole module.
    attack = b"\x80\x02cos\nsystem\nX\x0c\x00\x00\x00touch victim\x85R."
    assert [opcode.name for opcode, _, _ in pickletools.genops(attack)][-2:] == ["REDUCE", "STOP"]
    path = rewritten(archive, tmp_path / "w.pt", lambda name, content: attack if name == "data.pkl" else content)
    with pytest.raises(ValueError, match=r"w\.pt` .*os system"):
        read_weights(path)


@pytest.mark.parametrize(
    "pickle",
    [
        b"",
        b"hello",
        b"\x80\x02.",
        b"\x80\x02N.",
        b"\x80\x02(((.",
        b"\x80\x02c__torch__\nA\n)\x81q\x00}X\x01\x00\x00\x00ah\x00sb.",
    ],
    ids=["empty", "text", "no value", "None", "marks", "a module inside itself"],
)
def test_another_pickle_in_the_archive_is_named_as_damage(archive, tmp_path, pickle):
    path = rewritten(archive, tmp_path / "w.pt", lambda name, content: pickle if name == "data.pkl" else content)
    with pytest.raises(ValueError, match=r"w\.pt` is damaged"):
        read_weights(path)


def test_values_of_another_length_than_declared_are_refused(archive, tmp_path):
    path = rewritten(archive, tmp_path / "w.pt", lambda name, content: content[:-2] if name == "data/0" else content)
    with pytest.raises(ValueError, match=r"w\.pt` is damaged.*data/0 has"):
        read_weights(path)


def test_a_member_that_is_missing_is_refused(archive, tmp_path):
    path = rewritten(archive, tmp_path / "w.pt", lambda name, content: None if name == "data/0" else content)
    with pytest.raises(ValueError, match=r"w\.pt` is damaged"):
        read_weights(path)


def test_numbers_in_another_byte_order_are_refused(archive, tmp_path):
    path = rewritten(archive, tmp_path / "w.pt", lambda name, content: b"big" if name == "byteorder" else content)
    with pytest.raises(ValueError, match="byte order"):
        read_weights(path)


@pytest.mark.parametrize("kind", ["torchscript", "checkpoint"])
def test_a_flipped_bit_gives_the_same_weights_or_an_error_that_names_the_file(archive, tmp_path, kind):
    source = archive
    if kind == "checkpoint":
        source = tmp_path / "checkpoint.pt"
        torch.save(torch.jit.load(archive).state_dict(), source)
    whole, expected, damaged = source.read_bytes(), read_weights(source), tmp_path / "damaged.pt"
    refused = []
    for bit in torch.randint(len(whole) * 8, (150,), generator=torch.Generator().manual_seed(1)).tolist():
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        damaged.write_bytes(content)
        try:
            weights = read_weights(damaged)
        except ValueError as error:
            refused.append(str(error))
        else:
            assert weights.keys() == expected.keys()
            assert all(torch.equal(weights[name], weight) for name, weight in expected.items())
    assert len(refused) > 20
    assert all(str(damaged) in message for message in refused)
