"""The commands and examples of docs/apply.md run as written, one after another."""

import doctest
import importlib
import pathlib
import re
import shlex

import numpy as np

from tests.support import predictions

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "apply.md"
_COMMAND = re.compile(r"^ {4}python -m (rahf\.bin\.(?:.*\\\n)*.*)", re.MULTILINE)

#: Which docs/predict.md is about, and which need a generator
#: (tests/generators/muse/learner_test.py, tests/bin/improve_test.py).
_ELSEWHERE = ("rahf.bin.predict", "rahf.bin.mend", "rahf.bin.improve")


def _commands():
    text = PAGE.read_text("utf-8")
    for command in _COMMAND.findall(text):
        module, *arguments = shlex.split(command.replace("\\\n", " "))
        if module not in _ELSEWHERE:
            yield module, arguments


def test_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scores = np.random.default_rng(0).random((80, 3)).round(6).tolist()
    names = ("plausibility", "alignment", "overall")
    rows = [
        (f"prompt {number // 4}", dict(zip(names, values, strict=True)))
        for number, values in enumerate(scores)
    ]
    predictions.write(tmp_path / "predictions", rows)
    done: list[str] = []
    for module, arguments in _commands():
        importlib.import_module(module).main(arguments)
        outputs = [a.removeprefix("--output=") for a in arguments if "output" in a]
        assert (tmp_path / outputs[0] / "request.json").is_file()
        assert outputs[0] not in done or module == "rahf.bin.select"
        done += outputs
    assert {"chosen", "control", "shards", "pairs", "shortlist", "both_masks"} <= {
        *done
    }


def test_examples():
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert found.attempted >= 5
    assert found.failed == 0
