"""metrics.jsonl: appended to, repaired at its end only."""

import contextlib

from rahf.checkpoints.metrics_log import METRICS_FILE, MetricsLog, read_metrics


def _log(folder, start, *steps):
    with contextlib.closing(MetricsLog(folder, start)) as log:
        for step in steps:
            log.write(step, {"loss": step / 4})


def _steps(folder):
    return [row["step"] for row in read_metrics(folder)]


def test_lines_behind_the_checkpoint_are_forgotten(tmp_path):
    _log(tmp_path, 0, 1, 2, 3)
    _log(tmp_path, 2, 3, 4)
    assert _steps(tmp_path) == [1, 2, 3, 4]


def test_only_a_torn_tail_is_cut(tmp_path):
    path = tmp_path / METRICS_FILE
    _log(tmp_path, 0, 1, 2)
    whole = path.read_bytes()
    for torn in (b'{"step": 3, "lo', b"\xff\xfe", b"5", whole.splitlines()[0][:-1]):
        path.write_bytes(whole + torn)
        assert _steps(tmp_path) == [1, 2]
        _log(tmp_path, 2, 3)
        assert _steps(tmp_path) == [1, 2, 3]
        path.write_bytes(whole)
    path.write_bytes(whole[:-1])  # all but the end of the line
    _log(tmp_path, 2, 3)
    assert path.read_bytes().startswith(whole) and _steps(tmp_path) == [1, 2, 3]


def test_a_garbled_line_in_the_middle_loses_itself_alone(tmp_path, caplog):
    path = tmp_path / METRICS_FILE
    _log(tmp_path, 0, 1, 2, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = b"\x00\x00{garbled\n"
    path.write_bytes(b"".join(lines))
    _log(tmp_path, 3, 4)
    assert _steps(tmp_path) == [1, 3, 4]
    assert f"{path}: line 2 is damaged" in caplog.text
    assert path.read_bytes().startswith(b"".join(lines))  # what was there still is
