"""Which generator a folder holds; nothing heavy is imported to refuse one."""

import pytest

from rahf.bin import generator_flags
from rahf.bin.flags import new_parser
from rahf.generators import loading


def test_what_is_there_decides(tmp_path):
    with pytest.raises(ValueError, match="no such folder. Nothing is downloaded"):
        loading.load("stabilityai/stable-diffusion-3.5-large", {"dtype": "bfloat16"})
    # A folder of neither kind may be a workdir: those say what is wrong with it.
    with pytest.raises(ValueError, match="is not a workdir of rahf.bin.train"):
        loading.load(tmp_path, {"steps": None})
    with pytest.raises(
        ValueError, match="is a Muse, which has no option dtype; it has"
    ):
        loading.load(tmp_path, {"dtype": "bfloat16", "steps": 4})
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(
        ValueError, match="is a pipeline of diffusers, which has no opt"
    ):
        loading.load(tmp_path, {"order": "halton"})
    with pytest.raises(ValueError, match="expected the name of a pipeline"):
        loading.load(tmp_path)


def test_flags(capsys):
    parser = generator_flags.add(new_parser("x", ""))
    args = parser.parse_args(["--size=768x1024", "--offload", "--strength=0.6"])
    assert (args.size, args.offload, args.strength) == ((768, 1024), True, 0.6)
    assert parser.parse_args(["--size=512"]).size == (512, 512)
    assert all(value is None for value in vars(parser.parse_args([])).values())
    with pytest.raises(SystemExit):
        parser.parse_args(["--size=big"])
    assert "expected pixels, 512 or 768x1024" in capsys.readouterr().err
