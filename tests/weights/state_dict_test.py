"""`.pt` files: what torch.save wrote is read, and nothing in them is executed."""

import collections
import os
import pickle
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest

from rahf.weights import export_torch, state_dict
from tests.parity.reference import FIXTURES


def test_a_file_that_torch_wrote():
    found = state_dict.read(FIXTURES / "state_dict.pt")
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = {
        "weight": np.arange(6, dtype=np.float32).reshape(3, 2),
        "bias": np.arange(3, dtype=np.float32),
        "turned": base.T,
        "part": base[1:3, 2:5],
        "tied": base,
        "parameter": base[0],
        "scalar": np.array(7),
        "empty": np.zeros((0, 3), np.float32),
    }
    bits = [0, 1, 1, 0]
    for dtype in ("float16", "float64", "int32", "uint8", "bool"):
        expected[dtype] = np.array(bits, dtype)
    expected["bfloat16"] = np.array(bits, ml_dtypes.bfloat16)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert found[name].shape == value.shape, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_state_dict_among_other_things():
    found = state_dict.read(FIXTURES / "checkpoint.pt")
    assert {name: x.shape for name, x in found.items()} == {
        "weight": (3, 2),
        "bias": (3,),
    }


def test_what_we_write_comes_back(tmp_path):
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    state = {"module.a": table, "module.b": table, "module.c": np.float32([[1]])}
    export_torch.write_state_dict(tmp_path / "x.pt", state)
    found = state_dict.read(tmp_path / "x.pt")
    assert list(found) == ["a", "b", "c"]
    np.testing.assert_array_equal(found["b"], table)


def _zip(path, description: bytes, storages=()):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", description)
        for key, data in dict(storages).items():
            archive.writestr(f"archive/data/{key}", data)


class _Evil:
    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


@pytest.mark.parametrize(
    "call",
    [
        (os.system, "touch {}"),
        (eval, "open({!r}, 'w')"),
        (collections.Counter, "{}"),
    ],
)
def test_code_is_refused_and_not_run(tmp_path, call):
    function, argument = call
    witness = tmp_path / "witness"
    evil = _Evil(function, argument.format(str(witness)))
    _zip(tmp_path / "evil.pt", pickle.dumps({"weight": evil}, protocol=2))
    with pytest.raises(ValueError, match="which no state dict needs"):
        state_dict.read(tmp_path / "evil.pt")
    assert not witness.exists()


def _tensor(size=(2, 2), stride=(2, 1), offset=0, count=4):
    """data.pkl of {"w": a tensor}, with whatever numbers."""
    ints = lambda values: b"(" + b"".join(b"J" + _le(v) for v in values) + b"t"
    return (
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n("
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
        b"X\x03\x00\x00\x00cpuJ" + _le(count) + b"tQJ" + _le(offset) + ints(size)
        + ints(stride) + b"\x89ccollections\nOrderedDict\n)RtRs."
    )  # fmt: skip


def _le(value):
    return int(value).to_bytes(4, "little", signed=True)


def test_a_tensor_stays_inside_its_storage(tmp_path):
    path = tmp_path / "x.pt"
    storage = np.arange(4, dtype="<f4").tobytes()
    _zip(path, _tensor(), {"0": storage})
    np.testing.assert_array_equal(state_dict.read(path)["w"], [[0, 1], [2, 3]])
    for numbers in (
        {"offset": 1},
        {"size": (3, 2)},
        {"stride": (1000, 1)},
        {"size": (1 << 28, 2), "stride": (0, 0)},
        {"stride": (-1, 1), "offset": 3},
        {"offset": -1},
    ):
        _zip(path, _tensor(**numbers), {"0": storage})
        with pytest.raises(ValueError, match="exceeds its 4 values"):
            state_dict.read(path)
    _zip(path, _tensor(count=400), {"0": storage})
    with pytest.raises(ValueError, match="expected 400 values of float32"):
        state_dict.read(path)
    _zip(path, _tensor())
    with pytest.raises(ValueError, match="damaged or not a state dict"):
        state_dict.read(path)


def _peak(path, message):
    """Bytes that reading took at most, until it was refused."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            state_dict.read(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


_LARGE = (1 << 30).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (b"\x80\x02}r\xff\xff\xff\x0f.", "refers to object 268435455, which it lacks"),
        (b"\x80\x02}p268435455\n.", "refers to object 268435455, which it lacks"),
        (b"\x80\x05\x96" + _LARGE + b"x.", "x.pt is damaged"),
        (b"\x80\x05\x8e" + _LARGE + b"x.", "x.pt is damaged"),
        (b"\x80\x05\x8d" + _LARGE + b"x.", "x.pt is damaged"),
        (b"\x80\x04\x95" + _LARGE + b"x.", "x.pt is damaged"),
    ],
)
def test_memory_is_not_allotted_on_a_pickles_word(tmp_path, description, message):
    _zip(tmp_path / "x.pt", description)
    assert _peak(tmp_path / "x.pt", message) < 4 << 20


def test_memory_is_not_allotted_on_a_zip_files_word(tmp_path):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"}" * (9 << 20))
    assert _peak(path, "data.pkl has 9,437,184 bytes, expected at most 8,388,6") < 4e6
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        count = 4 << 20
        archive.writestr("archive/data.pkl", _tensor((count,), (1,), count=count))
        archive.writestr("archive/data/0", bytes(4 * count))
    assert _peak(path, "data/0 is compressed or overlaps") < 4e6


def test_names_of_tensors(tmp_path):
    path = tmp_path / "x.pt"
    state = {"a": np.ones(2, np.float32), "module.a": np.zeros(2, np.float32)}
    export_torch.write_state_dict(path, state)
    with pytest.raises(ValueError, match=r"module\.a appears twice, once without"):
        state_dict.read(path)
    _zip(path, _tensor().replace(b"X\x01\x00\x00\x00w", b"K\x07"), {"0": bytes(16)})
    with pytest.raises(
        ValueError, match="expected strings as names of tensors, got int"
    ):
        state_dict.read(path)
    nested = ()
    for _ in range(20):
        nested = (nested, nested)
    _zip(path, pickle.dumps({"epoch": 3, nested: 1}, 2))
    with pytest.raises(ValueError, match="holds no tensors; its keys are epoch$"):
        state_dict.read(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x02}q\x00.", b"PK\x03\x04" + b"0" * 50]
)
def test_other_files(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(ValueError, match="is not a .pt file written by torch.save"):
        state_dict.read(tmp_path / "x.pt")


def test_cut_and_empty_files(tmp_path):
    path = tmp_path / "x.pt"
    whole = (FIXTURES / "state_dict.pt").read_bytes()
    for length in (len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="x.pt"):
            state_dict.read(path)
    with pytest.raises(ValueError, match="none.pt does not exist"):
        state_dict.read(tmp_path / "none.pt")
    for description, message in (
        (pickle.dumps([1], 2), "expected a dict, got list"),
        (pickle.dumps({"epoch": 3}, 2), "holds no tensors; its keys are epoch"),
        (b"\x80\x02}", "damaged"),
    ):
        _zip(path, description)
        with pytest.raises(ValueError, match=message):
            state_dict.read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.png", b"")
    with pytest.raises(ValueError, match=r"expected one data.pkl, got photo.png"):
        state_dict.read(path)
