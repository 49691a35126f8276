"""T5X checkpoints, written here as T5X writes them, in every layout and version."""

import functools
import http.server
import json
import re
import threading
import urllib.parse

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore as ts
from flax import serialization

from rahf.weights import files, matching, t5x

LAYERS, WIDTH, HEADS, HEAD, MLP, VOCABULARY = 2, 8, 2, 3, 12, 20


def _tree(gated, seed=0):
    """Parameters of a small T5 in the layout of examples/t5, flat."""
    rng = np.random.default_rng(seed)
    flat = {}

    def add(name, *shape):
        flat[name] = rng.standard_normal(shape).astype(np.float32)

    def attention(name):
        for part in ("query", "key", "value"):
            add(f"{name}/{part}/kernel", WIDTH, HEADS * HEAD)
        add(f"{name}/out/kernel", HEADS * HEAD, WIDTH)

    add("token_embedder/embedding", VOCABULARY, WIDTH)
    for stack, parts in (
        ("encoder", ("attention",)),
        ("decoder", ("self_attention", "encoder_decoder_attention")),
    ):
        add(f"{stack}/relpos_bias/rel_embedding", HEADS, 32)
        add(f"{stack}/{stack}_norm/scale", WIDTH)
        for i in range(LAYERS):
            layer = f"{stack}/layers_{i}"
            for part in parts:
                attention(f"{layer}/{part}")
                norm = part.replace("encoder_decoder", "cross")
                add(f"{layer}/pre_{norm}_layer_norm/scale", WIDTH)
            for wide in ("wi_0", "wi_1") if gated else ("wi",):
                add(f"{layer}/mlp/{wide}/kernel", WIDTH, MLP)
            add(f"{layer}/mlp/wo/kernel", MLP, WIDTH)
            add(f"{layer}/pre_mlp_layer_norm/scale", WIDTH)
    if gated:
        add("decoder/logits_dense/kernel", WIDTH, VOCABULARY)
    return flat


def _scanned(flat):
    """The layout of scalable_t5 with scan_layers: heads apart, layers on axis 1."""
    out = {}
    for stack in ("encoder", "decoder"):
        bias = flat[f"{stack}/relpos_bias/rel_embedding"]
        stacked = {"relpos_bias/rel_embedding": [bias] * LAYERS}
        for i in range(LAYERS):
            prefix = f"{stack}/layers_{i}/"
            for name, value in flat.items():
                if name.startswith(prefix):
                    if "attention/" in name:
                        value = value.reshape(
                            (HEADS, HEAD, WIDTH)
                            if "/out/" in name
                            else (WIDTH, HEADS, HEAD)
                        )
                    stacked.setdefault(name.removeprefix(prefix), []).append(value)
        for name, values in stacked.items():
            out[f"{stack}/{stack}/{name}"] = np.stack(values, axis=1)
    return out | {
        name: value
        for name, value in flat.items()
        if "/layers_" not in name and "relpos_bias" not in name
    }


def _write_legacy(folder, flat, version, inline=()):
    """Writes `checkpoint` in msgpack, and zarr folders with gzip beside it."""
    folder.mkdir()
    target = {}
    for name, value in flat.items():
        if name in inline:
            target[name] = value
            continue
        path = f"target.{name.replace('/', '.')}"
        value = value.view(np.uint16) if version < 3 and value.itemsize == 2 else value
        spec = {
            "driver": "zarr",
            "kvstore": {"driver": "file", "path": str(folder / path)},
            "metadata": {
                "chunks": [max(1, -(-size // 2)) for size in value.shape],
                "compressor": {"id": "gzip"},
                "shape": list(value.shape),
            },
        }
        array = ts.open(
            spec, create=True, dtype=ts.dtype(value.dtype), open=True
        ).result()
        array.write(value).result()
        # As it stands in published files: a path of another machine.
        spec["kvstore"] = {"driver": "gfile", "path": f"/somewhere/else/{path}"}
        target[name] = spec
    optimizer = {
        "target": matching.unflatten(target),
        "state": {"step": np.int32(7), "param_states": {}},
    }
    tree = {"version": version, "optimizer": optimizer}
    (folder / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))


def _check(found, flat):
    assert found.keys() == {f"t5/{name}" for name in flat}
    for name, value in flat.items():
        got = found[f"t5/{name}"]
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, value.astype(np.float32), err_msg=name)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("layout", ["unrolled", "scanned"])
def test_legacy(tmp_path, gated, layout):
    flat = _tree(gated)
    stored = _scanned(flat) if layout == "scanned" else flat
    inline = [name for name in stored if name.endswith("norm/scale")]
    _write_legacy(tmp_path / "checkpoint_7", stored, 3, inline)
    assert t5x.is_checkpoint(tmp_path / "checkpoint_7")
    _check(t5x.read(tmp_path / "checkpoint_7"), flat)


@pytest.mark.parametrize("version", [2, 3])
def test_bfloat16_of_both_versions(tmp_path, version):
    flat = {
        name: value.astype(ml_dtypes.bfloat16) for name, value in _tree(False).items()
    }
    inline = ["encoder/encoder_norm/scale"]
    stored = dict(flat)
    if version == 2:  # the bits of what stands in the msgpack file, too
        stored[inline[0]] = stored[inline[0]].view(np.uint16)
    _write_legacy(tmp_path / "c", stored, version, inline)
    on_disk = json.loads(
        (tmp_path / "c" / "target.encoder.layers_0.mlp.wi.kernel/.zarray").read_text()
    )
    assert on_disk["dtype"] == ("<u2" if version == 2 else "bfloat16")
    _check(t5x.read(tmp_path / "c"), flat)


def _write_orbax(folder, flat, where="target", **options):
    tree = matching.unflatten(flat)
    for name in reversed(where.split("/")):
        tree = {name: tree}
    tree |= {"state": {"step": np.int32(7)}}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**options)) as checkpointer:
        checkpointer.save(folder, tree)


@pytest.mark.parametrize("where", ["target", "params", "target/params"])
def test_orbax(tmp_path, where):
    flat = _tree(True)
    folder = tmp_path / "checkpoint_7" / "state"
    _write_orbax(folder, flat, where)
    assert t5x.is_checkpoint(folder)
    _check(t5x.read(folder), flat)
    _check(t5x.read(folder.parent), flat)


@pytest.mark.parametrize("use_ocdbt", [False, True])
@pytest.mark.parametrize("use_zarr3", [False, True])
def test_orbax_writes_arrays_four_ways(tmp_path, use_ocdbt, use_zarr3):
    flat = _tree(False)
    flat = {name: value.astype(ml_dtypes.bfloat16) for name, value in flat.items()}
    _write_orbax(tmp_path / "c", flat, use_ocdbt=use_ocdbt, use_zarr3=use_zarr3)
    _check(t5x.read(tmp_path / "c"), flat)
    if not use_ocdbt:
        name = "target.encoder.encoder_norm.scale"
        (tmp_path / "c" / name / ("c/0" if use_zarr3 else "0")).unlink()
        with pytest.raises(ValueError, match="encoder/encoder_norm/scale.*missing"):
            t5x.read(tmp_path / "c")


def test_biases_that_differ_between_layers_are_refused():
    flat = _scanned(_tree(False))
    name = "encoder/encoder/relpos_bias/rel_embedding"
    flat[name] = flat[name] + np.arange(LAYERS)[None, :, None]
    with pytest.raises(
        ValueError, match="every layer has its own relpos_bias.*they differ"
    ):
        t5x.unroll(flat)


def test_damage_is_told(tmp_path):
    flat = _tree(False)
    _write_legacy(tmp_path / "c", flat, 3)
    # A chunk that was not copied is no chunk of zeros.
    chunk = tmp_path / "c" / "target.decoder.layers_1.mlp.wo.kernel" / "1.0"
    moved = chunk.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match="decoder/layers_1/mlp/wo/kernel.*missing"):
        t5x.read(tmp_path / "c")
    moved.rename(chunk)
    (tmp_path / "c" / "target.encoder.encoder_norm.scale" / ".zarray").unlink()
    with pytest.raises(ValueError, match="array encoder/encoder_norm/scale"):
        t5x.read(tmp_path / "c")
    for content in (b"", b"\xc1nothing", serialization.msgpack_serialize({"a": 1})):
        (tmp_path / "c" / "checkpoint").write_bytes(content)
        with pytest.raises(ValueError, match="is not a complete T5X checkpoint"):
            t5x.read(tmp_path / "c")
    with pytest.raises(ValueError, match="does not exist"):
        t5x.read(tmp_path)
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "_METADATA").write_text("{}")
    with pytest.raises(ValueError, match="is not a complete T5X checkpoint"):
        t5x.read(tmp_path / "o")


class _Bucket(http.server.BaseHTTPRequestHandler):
    """Answers as Google Cloud Storage does, for the files of one folder."""

    def __init__(self, *args, root, asked):
        self._root, self._asked = root, asked
        super().__init__(*args)

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path.endswith("/o"):  # /storage/v1/b/<bucket>/o?prefix=...
            prefix = urllib.parse.parse_qs(url.query).get("prefix", [""])[0]
            files_ = (p for p in self._root.rglob("*") if p.is_file())
            names = sorted(str(p.relative_to(self._root)) for p in files_)
            items = [{"name": name} for name in names if name.startswith(prefix)]
            return self._send(200, json.dumps({"items": items}).encode())
        # /storage/v1/b/<bucket>/o/<object>?alt=media
        name = urllib.parse.unquote(url.path.partition("/o/")[2])
        self._asked.append(name)
        path = self._root / name
        if not path.is_file():
            return self._send(404, b"")
        body = path.read_bytes()
        if part := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, last = int(part[1]), min(int(part[2] or len(body)), len(body) - 1)
            return self._send(
                206, body[start : last + 1], f"bytes {start}-{last}/{len(body)}"
            )
        return self._send(200, body)

    def _send(self, status, body, part=""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-goog-generation", "1")
        if part:
            self.send_header("Content-Range", part)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(name="asked")
def _asked(tmp_path, monkeypatch):
    """Serves tmp_path as gs://bucket; the objects that were asked for."""
    asked = []
    handler = functools.partial(_Bucket, root=tmp_path, asked=asked)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", url)
        monkeypatch.setenv("GCE_METADATA_ROOT", "127.0.0.1:1")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield asked
        server.shutdown()
        thread.join()


def test_a_bucket_is_read_through_tensorstore(tmp_path, asked):
    flat = _tree(False)
    _write_legacy(tmp_path / "c", flat, 3)
    assert t5x.is_checkpoint("gs://bucket/c")
    _check(t5x.read("gs://bucket/c"), flat)
    assert any("target.decoder.decoder_norm.scale" in name for name in asked)
    assert files.kvstore("gs://bucket/c/") == "gs://bucket/c"


@pytest.mark.parametrize("use_ocdbt", [False, True])
def test_orbax_in_a_bucket(tmp_path, asked, use_ocdbt):
    flat = _tree(False)
    _write_orbax(tmp_path / "checkpoint_7/state", flat, use_ocdbt=use_ocdbt)
    _check(t5x.read("gs://bucket/checkpoint_7"), flat)
    assert not any("state.step" in name for name in asked)  # parameters alone


def test_a_file_in_the_root_is_not_looked_for_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rahf-only-here").write_bytes(b"here")
    assert files.read("rahf-only-here") == b"here"
    assert not files.exists("/rahf-only-here")
    with pytest.raises(ValueError, match="does not exist"):
        files.read("/rahf-only-here")
