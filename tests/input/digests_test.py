"""The digest of what a run trains on."""

from rahf.input.digests import digest_of
from rahf.input.record_cache import RecordCache
from rahf.input.shard_stream import Shards


class _Rows(list):
    def digest(self):
        return str(self)


def test_rows_that_are_added_change_it():
    one = digest_of([_Rows("ab")])
    assert one == digest_of([_Rows("ab")]) == digest_of([_Rows("ab"), ["no digest"]])
    assert one != digest_of([_Rows("abc")])
    assert digest_of([RecordCache(_Rows("ab"), ["uid"], 100)]) == one
    both = [_Rows("ab"), _Rows("c")]
    assert digest_of(both) == digest_of(both[::-1]) != one


def test_of_shards_the_names_count_and_not_the_folder():
    one = digest_of([Shards(("/data/0.tar", "/data/1.tar"))])
    assert one == digest_of([Shards(("gs://b/0.tar", "gs://b/1.tar"))])
    assert one != digest_of([Shards(("/data/0.tar", "/data/1.tar", "/data/2.tar"))])


def test_what_is_drawn_by_the_config_has_none():
    assert digest_of([[1, 2], range(3)]) is None
