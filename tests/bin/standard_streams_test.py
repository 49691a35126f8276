"""Commands whose standard streams are closed."""

import subprocess
import sys

import pytest

CODE = """
import sys
sys.argv[0] = "-m"  # as it is while python -m looks for the module
import rahf.bin, os
with open(sys.argv[1], "w") as file:  # at the start a closed number would be its own
    os.write(2, b"a message of a library")
    print("a message", file=sys.stderr)
    print("an answer")
    file.write(repr(sys.stdin.read()))
"""


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_messages_do_not_end_up_in_files(closed, tmp_path):
    command = f'exec "$0" -c "$1" "$2" {closed}'
    subprocess.run(
        ["bash", "-c", command, sys.executable, CODE, f"{tmp_path}/file"],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert (tmp_path / "file").read_text() == "''"
