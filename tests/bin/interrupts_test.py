"""Ctrl-C while a command is being imported, and later."""

import os
import signal
import subprocess
import sys

import pytest

from rahf.bin import interrupts


@pytest.fixture(autouse=True)
def _hears_of_ctrl_c():
    """Even if the tests run in the background, where a shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


#: What each command does, with an import that lasts until it is interrupted.
SLOW = """
import sys
sys.argv[0] = "-m"  # as it is while python -m looks for the module
import rahf.bin
{then}
"""
#: Catches what comes of an import, as libraries do.
IMPORTS = """
sys.path.insert(0, {folder!r})
try:
    import sleeps
except BaseException:
    print("went on")
"""
WORKS = """
import time
from rahf.bin import flags
with flags.clear_errors():
    print("ready", flush=True)
    time.sleep(60)
"""


def run_and_interrupt(code):
    return interrupt([sys.executable, "-c", SLOW.format(then=code)])


def interrupt(command):
    """Returns the exit code and what was printed, after "ready" and SIGINT."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_an_import_ends_at_once(tmp_path):
    (tmp_path / "sleeps.py").write_text(
        "import time\nprint('ready', flush=True)\ntime.sleep(60)\n"
    )
    code = IMPORTS.format(folder=str(tmp_path))
    assert run_and_interrupt(code) == (130, "", "interrupted\n")


def test_work_ends_as_it_is_told():
    assert run_and_interrupt(WORKS) == (130, "", "interrupted\n")


def test_a_command_whose_config_is_being_read(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import time\nprint('ready', flush=True)\ntime.sleep(60)\n"
    )
    command = ["-m", "rahf.bin.train", f"--config={tmp_path}/slow.py", "--workdir=W"]
    assert interrupt([sys.executable, *command]) == (130, "", "interrupted\n")


def test_a_program_that_imports_a_command_keeps_its_handler():
    code = "import signal, rahf.bin; print(signal.getsignal(signal.SIGINT).__name__)"
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out == "default_int_handler\n"


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupts.install()
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
