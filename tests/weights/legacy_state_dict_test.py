"""Files from before PyTorch 1.6: read as PyTorch wrote them, and nothing is executed."""

import os
import pickle

import numpy as np
import pytest

from rahf.weights import state_dict
from tests.parity.reference import FIXTURES

FILE = FIXTURES / "legacy_state_dict.pt"


def test_a_file_that_torch_wrote():
    found = state_dict.read(FILE)
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = {
        "weight": np.arange(6, dtype=np.float32).reshape(3, 2),
        "bias": np.arange(3, dtype=np.float32),
        "turned": base.T,
        "part": base[1:3, 2:5],
        "tied": base,
        "half": np.array([0, 1], np.float16),
        "scalar": np.array(7),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("kept", [30, 200, 500, -100, -1])
def test_a_cut_file_is_damaged(tmp_path, kept):
    (tmp_path / "x.pt").write_bytes(FILE.read_bytes()[:kept])
    with pytest.raises(ValueError, match="damaged"):
        state_dict.read(tmp_path / "x.pt")


def test_any_bit_may_be_wrong(tmp_path):
    data = bytearray(FILE.read_bytes())
    for at in np.random.default_rng(0).integers(14, len(data), 300):
        changed = bytearray(data)
        changed[at] ^= 1 << (at % 8)
        (tmp_path / "x.pt").write_bytes(changed)
        try:
            state_dict.read(tmp_path / "x.pt")
        except ValueError as error:
            assert "x.pt" in str(error)


class _Evil:
    def __init__(self, witness):
        self._witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self._witness}",)


@pytest.mark.parametrize("place", range(3, 5))
def test_code_is_refused_and_not_run(tmp_path, place):
    witness, pickles = tmp_path / "witness", []
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, []):
        pickles.append(pickle.dumps(value, protocol=2))
    pickles[place] = pickle.dumps(_Evil(witness), protocol=2)
    (tmp_path / "x.pt").write_bytes(b"".join(pickles))
    with pytest.raises(ValueError, match="which no state dict needs"):
        state_dict.read(tmp_path / "x.pt")
    assert not witness.exists()


def test_memory_is_not_allotted_on_the_files_word(tmp_path):
    data = FILE.read_bytes()
    count = b"K\x18"  # 24 values, of a storage
    assert count in data
    huge = data.replace(count, b"J\xff\xff\xff\x7f", 1)
    (tmp_path / "x.pt").write_bytes(huge)
    with pytest.raises(ValueError, match="damaged"):
        state_dict.read(tmp_path / "x.pt")
