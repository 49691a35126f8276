"""Positions in the data, for another number of processes."""

from rahf.input import positions


def test_the_counts_of_bad_records_keep_their_sums():
    before = [
        {"examples": 96, "records": {"good": 40, "bad": 2}},
        {"examples": 96, "records": {"good": 50, "bad": 4}},
    ]
    now = [positions.spread(before, index) for index in range(3)]
    assert [each["examples"] for each in now] == [96, 96, 96]
    assert [each["records"] for each in now] == [
        {"good": 90, "bad": 6},
        {"good": 0, "bad": 0},
        {"good": 0, "bad": 0},
    ]
    assert positions.is_global(now[1]) and not positions.is_global(b"seqio")


def test_what_another_batch_size_cannot_use():
    assert positions.counts_batches({"workers": 0, "iterator": {"next_index": 3}})
    assert not positions.counts_batches({"workers": 0, "streams": {}})
    assert not positions.counts_batches({"examples": 96})
    assert not positions.counts_batches(b"seqio")
