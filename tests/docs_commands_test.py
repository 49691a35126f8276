"""Every command in README, docs, configs and binaries names flags and keys that are.

That the commands do what is said of them is for the tests of each part.
"""

import contextlib
import importlib
import io
import itertools
import pathlib
import re
import shlex

import pytest
from absl import flags

ROOT = pathlib.Path(__file__).parents[1]
_PLACES = ("README.md", "docs/*.md", "configs/*.py", "rahf/bin/*.py", "tasks/*.py")
#: Indented or in backticks; a line goes on after its backslash.
_COMMAND = re.compile(
    r"^ {4}(python -m rahf\.bin\.(?:.*\\\n)*.*)|`(python -m rahf\.bin\.[^`]*)`",
    re.MULTILINE,
)
#: A module that launch/tpu_vm.sh or an image runs, in a page or at the head of a script.
_LAUNCHED = re.compile(
    r"^(?: {4}|# {3})(?:bash launch/tpu_vm\.sh|docker run)(?:.*\\\n)*.*", re.MULTILINE
)
_LAUNCH_PLACES = ("docs/scale.md", "launch/*.sh", "launch/Dockerfile")
_FILES = sorted(itertools.chain(*(ROOT.glob(place) for place in _PLACES)))
_LAUNCH_FILES = sorted(itertools.chain(*(ROOT.glob(p) for p in _LAUNCH_PLACES)))


def _commands(path):
    for command in _COMMAND.findall(path.read_text("utf-8")):
        text = "".join(command).replace("\\\\\n", " ").replace("\\\n", " ")
        yield shlex.split(text, comments=True)[2:]


def _launched(path):
    for command in _LAUNCHED.findall(path.read_text("utf-8")):
        words = shlex.split(re.sub(r"\\\n#?", " ", command).lstrip("# "), comments=True)
        modules = [i for i, word in enumerate(words) if word.startswith("rahf.bin.")]
        if modules:
            yield words[modules[0] :]


COMMANDS = [
    pytest.param(*command[:1], command[1:], id=f"{path.name}: {' '.join(command)[:60]}")
    for find, files in ((_commands, _FILES), (_launched, _LAUNCH_FILES))
    for path in files
    for command in find(path)
]


def test_they_are_found():
    assert len(COMMANDS) > 60
    launched = [command for path in _LAUNCH_FILES for command in _launched(path)]
    assert len(launched) > 4
    assert ["rahf.bin.machine"] in launched
    assert {"train", "predict", "eval_heatmaps", "plan"} <= {
        command.values[0].removeprefix("rahf.bin.") for command in COMMANDS
    }


def _known_flags(module, arguments):
    """The flags of a binary or its subcommand, by absl or as its help lists them."""
    if hasattr(module, "config_flag"):
        return {flag.name for flag in flags.FLAGS.get_key_flags_for_module(module)}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
        first = [word for word in arguments[:1] if not word.startswith("-")]
        module.main([*first, "--help"])
    usage = printed.getvalue().partition("\n\n")[0]
    handed_on = {"config"} if module.__name__.endswith("cross_validate") else set()
    return set(re.findall(r"--(\w+)", usage)) | handed_on | {"help"}


def _config(path):
    file, _, argument = path.partition(":")
    if "/" not in file:  # a shipped config, by name
        file = f"configs/{file}.py"
    assert (ROOT / file).is_file(), path
    name = file.removesuffix(".py").replace("/", ".")
    return importlib.import_module(name).get_config(argument)


@pytest.mark.parametrize(("binary", "arguments"), COMMANDS)
def test_flags_and_keys_are_known(binary, arguments):
    module = importlib.import_module(binary)
    known = _known_flags(module, arguments)
    named = [
        argument.removeprefix("--").partition("=")
        for argument in arguments
        if argument.startswith("--")
    ]
    config = None
    for name, _, value in named:
        if name == "config" and value != "...":
            config = _config(value)
    for name, _, _ in named:
        if not name.startswith("config."):
            assert name in known
        elif config is not None:
            place = config
            for key in name.split(".")[1:]:
                assert key in place, name
                place = place[key]
