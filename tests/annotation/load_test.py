"""The measurement of the annotation server, small."""

import pytest

from rahf.annotation import client
from rahf.bin import benchmark_annotate


def test_a_measurement_answers_every_image(capsys, tmp_path):
    flags = ["--images=3", "--raters=4", "--answers=2", "--drafts=1"]
    output = tmp_path / "load.json"
    benchmark_annotate.main([*flags, f"--output={output}"])
    printed = capsys.readouterr().out
    assert "6 answers by 4 raters" in printed and output.is_file()
    [page, save] = [line.split() for line in printed.splitlines()[2:4]]
    assert (page[0], save[0]) == ("page", "save")
    assert 0 < float(save[1]) <= float(save[2]) <= float(save[3])


def test_an_address_without_a_scheme_is_an_error():
    with pytest.raises(ValueError, match="expected http"):
        client.AnnotationClient("127.0.0.1:8000", "x")
