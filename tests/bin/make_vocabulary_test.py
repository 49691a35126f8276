"""The command recreates the shipped vocabulary and makes one of a user's text."""

import pytest

from rahf.bin import make_vocabulary
from rahf.datasets.scenes import grammar
from rahf.input import vocabulary


def test_it_recreates_the_shipped_file(tmp_path, capsys):
    make_vocabulary.main(["--output", str(tmp_path / "made.model")])
    assert "from 8000 prompts" in capsys.readouterr().out
    made, shipped = vocabulary.Vocabulary(tmp_path / "made.model"), vocabulary.load()
    assert made.size == shipped.size
    for prompt in grammar.corpus(300, 5):
        assert made.encode(prompt) == shipped.encode(prompt)


def test_it_is_deterministic(tmp_path):
    text = tmp_path / "prompts.txt"
    text.write_text("a café, by the séa\nthree cats\n\n" * 20, encoding="utf-8")
    for name in ("one", "two"):
        flags = [f"--input={text}", f"--output={tmp_path / name}", "--size=200"]
        make_vocabulary.main(flags)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    v = vocabulary.Vocabulary(tmp_path / "one")
    assert v.encode("café") == v.encode("cafe")
    assert vocabulary.UNK_ID not in v.encode("“Quite” other\twords…")


def test_text_that_is_not_utf8(tmp_path):
    (tmp_path / "latin").write_bytes("café".encode("latin-1"))
    with pytest.raises(SystemExit, match="error: .*/latin: expected UTF-8"):
        make_vocabulary.main([f"--input={tmp_path}/latin", f"--output={tmp_path}/x"])
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "flags",
    [["--input=x.txt"], ["--size=50"], ["--input=/none", "--output=/tmp/rahf-x"]],
)
def test_wrong_flags(flags, capsys):
    with pytest.raises(SystemExit) as error:
        make_vocabulary.main(flags)
    assert error.value.code != 0
    assert capsys.readouterr().err or "error: /none: No such" in str(error.value.code)
