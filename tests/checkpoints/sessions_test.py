import datetime
import re

import ml_collections
import pytest

import rahf
from rahf.checkpoints import sessions


def test_what_a_run_began_with():
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    began = sessions.make()
    at = datetime.datetime.fromisoformat(began["at"])
    assert before <= at <= datetime.datetime.now(datetime.UTC)
    assert began["versions"].keys() == {"rahf", "jax"}
    config = ml_collections.ConfigDict({"segments": [{sessions.KEY: began}]})
    told = sessions.describe(config)
    assert re.fullmatch(r"\d+ \w+ \d{4}, from \d\d:\d\d UTC", told["Trained on"])
    assert f"rahf {rahf.__version__}, jax" in told["Version"]
    assert "cores, " in told["Hardware"]


def test_older_runs_say_nothing():
    for segments in ([], [{"from_step": 0}]):
        assert not sessions.describe(ml_collections.ConfigDict({"segments": segments}))
    assert not sessions.describe(ml_collections.ConfigDict())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (18_120, "5 h 2 min"),
        (18_001, "5 h 1 s"),
        (90_061, "1 d 1 h"),
    ],
)
def test_durations(seconds, text):
    assert sessions.describe_seconds(seconds) == text


def test_the_processor_is_named_with_its_widest_vectors(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("model name\t: AMD EPYC\nflags\t\t: fpu sse4_2 avx avx2\n\n")
    assert sessions.describe_processor(path) == "AMD EPYC, avx2"
    assert sessions.describe_processor(tmp_path / "none")
