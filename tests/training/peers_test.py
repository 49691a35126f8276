"""What processes tell each other, with a store of keys in place of JAX's."""

import json
import threading

import pytest

from rahf.training import exits, peers


class _Store:
    """The methods of JAX's client that are used, for two processes."""

    def __init__(self):
        self.values, self.fails = {}, False
        self._barrier = threading.Barrier(2)

    def key_value_set(self, key, value, allow_overwrite=False):
        if self.fails:
            raise RuntimeError("UNAVAILABLE: the service is gone")
        if key in self.values and not allow_overwrite:
            raise RuntimeError(f"ALREADY_EXISTS: {key}")
        self.values[key] = value

    def key_value_dir_get(self, folder):
        if self.fails:
            raise RuntimeError("UNAVAILABLE: the service is gone")
        return [(k, v) for k, v in self.values.items() if k.startswith(folder)]

    def wait_at_barrier(self, name, timeout_in_ms):
        self._barrier.wait(60)


class _Pair:
    """Two processes of one clock; `ends` is how each of them ended."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(peers, "_LINGER", 0.0)
        self.store, self.now, self.ends = _Store(), 0.0, {}
        self.each = []
        for index in range(2):
            monkeypatch.setattr(peers, "_COUNT", iter([7]))
            self.each.append(
                peers.Peers(
                    self.store,
                    index,
                    2,
                    clock=lambda: self.now,
                    end=lambda code, line, i=index: self.ends.setdefault(
                        i, (code, line)
                    ),
                )
            )

    def look(self, *which, doing=("", ""), stuck=0.0, signal=(None, None)):
        for index in which:
            self.each[index].look(doing[index], stuck, signal[index])


@pytest.fixture(name="pair")
def _pair(monkeypatch):
    return _Pair(monkeypatch)


def test_a_signal_to_one_stops_all_after_the_same_step(pair):
    first, second = pair.each
    assert first.stops_at(5) is second.stops_at(7) is None
    thread = threading.Thread(target=second.look, args=("", 0.0, "SIGINT"))
    thread.start()
    while thread.is_alive():  # it waits for this one to say how far it is
        first.look("", 0.0, None)
    pair.look(1, 0, signal=("SIGTERM", "SIGINT"))  # one is enough
    assert first.stops_at(6) is first.stops_at(7) is None
    assert "SIGINT in process 1 of 2" in first.stops_at(8)
    assert second.stops_at(8) == first.stops_at(8)
    assert not pair.ends


def test_a_process_without_signs_of_life_is_named(pair):
    pair.look(1, 0)
    for pair.now in range(5, 66, 5):
        for _ in range(5):
            pair.look(0)
        assert pair.now > 60 or not pair.ends
    pair.look(1, 0)
    for index in range(2):
        code, line = pair.ends[index]
        assert code == exits.PEER_ENDED == 76
        assert line.startswith("error: process 1 of 2 (pid ") and "60 s" in line
        assert f"process {index} of 2 (pid" in line.split(";")[1]


def test_one_that_has_done_its_part_is_not_missed(pair):
    pair.look(1, 0)
    pair.each[1].leave()
    for pair.now in range(5, 200, 5):
        for _ in range(5):
            pair.look(0)
    assert not pair.ends
    for _ in range(6):  # the others are still watched
        pair.look(0, stuck=700.0)
    assert "no step ended for 700 s; process 0 of 2" in pair.ends[0][1]


def test_one_that_fails_says_why(pair):
    pair.look(1, 0)
    assert pair.each[1].failed(ValueError("a bad\nrecord")) == 1
    pair.look(1, 0)
    [(index, (code, line))] = pair.ends.items()
    assert (index, code) == (0, 1)  # the one that failed ends by itself
    assert "process 1 of 2" in line and "ended with ValueError: a bad record" in line


def test_a_broken_connection_waits_for_the_name_of_the_dead(pair, monkeypatch):
    pair.look(1, 0)
    slept = []

    def sleep(seconds):
        """The thread beside it looks on; the other process is dead."""
        slept.append(seconds)
        pair.now += 1
        pair.look(0)
        if pair.ends:
            raise SystemExit  # the process has ended

    monkeypatch.setattr(peers.time, "sleep", sleep)
    with pytest.raises(SystemExit):
        pair.each[0].failed(ValueError("UNKNOWN: Gloo AllReduce failed: reset"))
    assert "process 1 of 2" in pair.ends[0][1] and "no sign of life" in pair.ends[0][1]
    assert len(slept) > 55


def test_a_step_that_does_not_end(pair):
    for index in range(2):
        pair.each[index].stops_at(4 - index)
    pair.look(1, 0, doing=("", "waiting for a batch"), stuck=700.0)
    for _ in range(5):  # it is known what the others wait for
        pair.look(1, 0, doing=("", "waiting for a batch"), stuck=700.0)
    assert not pair.ends
    for _ in range(10):
        pair.look(1, 0, stuck=700.0)
    for code, line in (pair.ends[0], pair.ends[1]):
        assert code == 76 and "no step ended for 700 s; process 1 of 2 (pid" in line
        assert "last seen at step 3" in line


def test_a_store_that_is_gone(pair):
    pair.look(1, 0)
    pair.store.fails = True
    for pair.now in (10, 30, 69, 71):
        assert not pair.ends
        pair.look(1)
    code, line = pair.ends[1]
    assert code == 76 and "process 0 of 2 has not answered for 60 s (UNAVAIL" in line


def test_a_beat_says_what_is_done(pair):
    pair.each[0].stops_at(3)
    pair.look(0, doing=("saving", ""))
    name, _, step, doing = json.loads(pair.store.values["rahf/7/beat/0"])
    assert name.startswith("process 0 of 2 (pid") and (step, doing) == (3, "saving")
