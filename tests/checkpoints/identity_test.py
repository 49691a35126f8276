"""A digest of parameters: copies share it, another training does not."""

import shutil

import jax.numpy as jnp

from rahf.checkpoints import checksums, identity


def _step(workdir, content):
    folder = workdir / "checkpoints" / "3"
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "array").write_bytes(content)
    checksums.write_checksums(folder)


def test_a_copy_shares_it_and_a_new_training_does_not(tmp_path):
    _step(tmp_path / "one", b"1234")
    found = identity.digest_of(tmp_path / "one", 3, {})
    assert found.startswith("files:")
    shutil.copytree(tmp_path / "one", tmp_path / "moved")
    assert identity.digest_of(tmp_path / "moved", 3, {}) == found
    shutil.rmtree(tmp_path / "one")
    _step(tmp_path / "one", b"1235")
    assert identity.digest_of(tmp_path / "one", 3, {}) != found


def test_without_checksums_the_arrays_decide(tmp_path):
    def digest(value, name="w", dtype=jnp.bfloat16):
        params = {"vit": {name: jnp.full((2, 3), value, dtype)}}
        return identity.digest_of(tmp_path, 3, params)

    assert digest(1).startswith("arrays:")
    assert digest(1) == digest(1)
    assert len({digest(1), digest(2), digest(1, "b"), digest(1, dtype="float32")}) == 4
