import fractions
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diagnostics.backbones.weights import fill, first_names, read_weights

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(2, dtype=torch.int64)}


def write(path, state):
    if path.suffix == ".safetensors":
        save_file(state, path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: value.numpy() for name, value in state.items()})
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors", ".npz", ".PT"])
def test_every_kind_of_file_gives_back_names_and_values(tmp_path, suffix):
    weights = read_weights(write(tmp_path / f"weights{suffix}", STATE))
    assert weights.keys() == STATE.keys()
    assert all(
        torch.equal(weights[name], value) and weights[name].dtype == value.dtype for name, value in STATE.items()
    )


def test_half_precision_stays_as_stored(tmp_path):
    state = {"a": torch.ones(3, dtype=torch.float16)}
    assert all(
        read_weights(write(tmp_path / f"w{suffix}", state))["a"].dtype == torch.float16
        for suffix in (".pt", ".safetensors", ".npz")
    )


def test_the_path_may_be_a_string_and_start_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "w.pt", STATE)
    assert read_weights("~/w.pt").keys() == STATE.keys()


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_a_checkpoint_is_unwrapped_and_what_is_no_tensor_left_out(tmp_path, wrapper):
    torch.save({"epoch": 3, wrapper: STATE | {"note": "best"}}, tmp_path / "w.pt")
    assert read_weights(tmp_path / "w.pt").keys() == STATE.keys()


def test_the_prefix_of_parallel_training_is_dropped_only_from_all(tmp_path):
    prefixed = {f"module.{name}": value for name, value in STATE.items()}
    assert read_weights(write(tmp_path / "all.pt", prefixed)).keys() == STATE.keys()
    mixed = prefixed | {"c": torch.ones(1)}
    assert read_weights(write(tmp_path / "some.pt", mixed)).keys() == mixed.keys()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_of_a_torchscript_archive_only_the_weights_are_taken(tmp_path):
    linear = torch.nn.Linear(3, 2)
    torch.jit.save(torch.jit.trace(linear, torch.ones(1, 3)), tmp_path / "w.pt")
    weights = read_weights(tmp_path / "w.pt")
    assert weights.keys() == {"weight", "bias"}
    assert torch.equal(weights["weight"], linear.weight)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"`.*none\.pt` does not exist"):
        read_weights(tmp_path / "none.pt")


def test_a_folder_and_an_unknown_kind_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        read_weights(tmp_path)
    (tmp_path / "w.h5").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"should end in \.safetensors, .*got `\.h5`"):
        read_weights(tmp_path / "w.h5")


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors", ".npz"])
@pytest.mark.parametrize("content", ["nothing", "text", "first half", "all but the end"])
def test_a_damaged_file_is_named_as_such(tmp_path, suffix, content):
    path = write(tmp_path / f"weights{suffix}", STATE)
    whole = path.read_bytes()
    half, end = whole[: len(whole) // 2], whole[:-9]
    path.write_bytes(
        {"nothing": b"", "text": b"hello, this is text", "first half": half, "all but the end": end}[content]
    )
    with pytest.raises(ValueError, match=r"weights\.\w+` is (empty|damaged).*fetch or export it again"):
        read_weights(path)


class Bomb:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("the pickle ran",)


def pickled(kind, path):
    if kind == "npz":
        np.savez(path.with_suffix(".npz"), a=np.ones(2), b=np.array([Bomb()], dtype=object))
        return path.with_suffix(".npz")
    if kind == "raw pickle":
        path.write_bytes(pickle.dumps({"a": Bomb()}))
    elif kind == "whole module":
        torch.save(torch.nn.Linear(2, 2), path)
    else:
        torch.save({"a": torch.ones(2), "b": Bomb() if kind == "bomb" else fractions.Fraction(1, 2)}, path)
    return path


@pytest.mark.parametrize("kind", ["bomb", "foreign object", "whole module", "raw pickle", "npz"])
def test_pickled_objects_are_refused_and_never_run(tmp_path, kind):
    with pytest.raises(ValueError, match=r"holds pickled objects .* not loaded; export the state dict alone"):
        read_weights(pickled(kind, tmp_path / "weights.pt"))


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"holds no tensors \(entries: epoch\)"):
        read_weights(tmp_path / "w.pt")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="should hold a state dict, name -> tensor; got list"):
        read_weights(tmp_path / "list.pt")


def test_filling_widens_half_precision():
    model = torch.nn.Linear(3, 2)
    weights = {"weight": torch.full((2, 3), 0.5, dtype=torch.float16), "bias": torch.ones(2, dtype=torch.float16)}
    fill(model, weights, spec="mine", instead="")
    assert model.weight.dtype == torch.float32
    assert torch.equal(model.weight, torch.full((2, 3), 0.5))


def test_filling_names_what_is_missing_left_over_and_misshapen():
    wrong = {"weight": torch.ones(2, 4), "extra": torch.ones(1)}
    with pytest.raises(ValueError, match=r"`mine`. 1 missing: bias; 1 unexpected: extra; .*weight \(2, 4\).*Do this\."):
        fill(torch.nn.Linear(3, 2), wrong, spec="mine", instead="Do this.")


def test_some_stops_after_a_few_names():
    assert first_names(["a", "b"]) == "a, b"
    assert first_names("abcdef") == "a, b, c, d, …"
    assert first_names([]) == "none"


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.int64])
def test_whole_numbers_where_fractions_belong_are_refused(dtype):
    weights = {"weight": torch.ones(2, 3).to(dtype), "bias": torch.ones(2)}
    with pytest.raises(ValueError, match=r"`mine`. 1 of another kind: weight torch\.\w+ where torch\.float32"):
        fill(torch.nn.Linear(3, 2), weights, spec="mine", instead="")


def test_whole_numbers_fill_what_counts():
    norm = torch.nn.BatchNorm1d(2)
    fill(norm, {**norm.state_dict(), "num_batches_tracked": torch.tensor(7, dtype=torch.int32)}, spec="", instead="")
    assert norm.num_batches_tracked == 7


def test_a_value_changed_in_a_checkpoint_is_found_by_its_checksum(tmp_path):
    path = write(tmp_path / "w.pt", {"a": torch.full((1000,), 0.25)})
    content = path.read_bytes()
    number = np.float32(0.25).tobytes()
    path.write_bytes(content.replace(number * 1000, number * 999 + np.float32(9).tobytes()))
    assert torch.load(path)["a"][-1] == 9  # torch takes it
    with pytest.raises(ValueError, match=r"w\.pt` is damaged.*checksum of .*data/0"):
        read_weights(path)


@pytest.mark.parametrize("damage", ["no array", "compression", "encrypted", "deflate"])
def test_odd_members_of_an_npz_are_named_with_the_file(tmp_path, damage):
    path = tmp_path / "w.npz"
    np.savez_compressed(path, a=np.arange(1000.0))
    content = bytearray(path.read_bytes())
    central = content.find(b"PK\x01\x02")
    if damage == "no array":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", b"x" * 100)
    elif damage == "deflate":
        content[60:64] = b"\xff" * 4
        path.write_bytes(content)
    else:
        local, place, value = {"compression": (8, 10, 99), "encrypted": (6, 8, 1)}[damage]
        content[local] = content[central + place] = value
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.npz` is damaged"):
        read_weights(path)


def test_an_npz_of_the_other_byte_order_is_read(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.arange(3, dtype=">f4"))
    assert read_weights(tmp_path / "w.npz")["a"].tolist() == [0, 1, 2]
