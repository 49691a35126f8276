"""metrics.jsonl: appended to, repaired at its end only."""

import contextlib
import struct

import numpy as np
from tensorboardX.proto.event_pb2 import Event

from rahf.checkpoints.metrics_log import (
    METRICS_FILE,
    SECONDS,
    MetricsLog,
    read_metrics,
)
from tests.support import tiny


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


def test_seconds_go_on_where_they_stopped(tmp_path):
    _log(tmp_path, 0, 1)
    path = tmp_path / METRICS_FILE
    path.write_text('{"step": 1, "train/seconds": 1000.0}\n')
    _log(tmp_path, 1, 2, 3)
    first, *others = [row[SECONDS] for row in read_metrics(tmp_path)]
    assert first == 1000 <= others[0] <= others[1]


def _events(folder):
    """Returns the values of a folder's event files by tag."""
    found = {}
    for path in folder.glob("events.*"):
        data = path.read_bytes()
        while data:  # length, its checksum, the event, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            found |= {value.tag: value for value in event.summary.value}
            data = data[16 + length :]
    return found


def test_tensorboard_gets_config_hyperparameters_and_pictures(tmp_path):
    config = tiny.config()
    picture = np.zeros((4, 6, 3), np.uint8)
    with contextlib.closing(MetricsLog(tmp_path, 0)) as log:
        log.describe(0, config)
        log.write_pictures(2, {"example/0": picture})
    found = _events(tmp_path)
    [text] = found["config/text_summary"].tensor.string_val
    assert b'"training_steps": 4' in text
    image = found["example/0"].image
    assert (image.height, image.width) == (4, 6)
    begun = found["_hparams_/session_start_info"].metadata.plugin_data.content
    for key in (b"optimizer.b1", b"schedule.peak", b"model.variant", b"seed"):
        assert key in begun
    compared = found["_hparams_/experiment"].metadata.plugin_data.content
    assert b"eval/plausibility/plcc" in compared
