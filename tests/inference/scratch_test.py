import pytest

from rahf.inference import scratch
from rahf.inference.scratch import Scratch, Tally


def test_rows_come_back_in_order():
    made = Scratch("things (number INTEGER PRIMARY KEY, text BLOB)")
    rows = ((n, scratch.pack(f"text {n}")) for n in (2, 0, 1))
    assert made.fill("INSERT INTO things VALUES (?, ?)", rows) == 3
    found = made.rows("SELECT text FROM things ORDER BY number")
    assert [scratch.unpack(text) for (text,) in found] == ["text 0", "text 1", "text 2"]
    assert made.first("SELECT number FROM things WHERE text = ?", b"none") is None


def test_a_tally_counts_as_a_counter_does():
    tally = Tally(Scratch(), "counts", beneath={"below"})
    assert "a" not in tally
    assert tally["a"] == 0
    tally["a"] += 1
    tally["a"] += 1
    tally["zero"] = 0
    assert (tally["a"], tally["zero"], tally["below"]) == (2, 0, 0)
    assert all(text in tally for text in ("a", "zero", "below"))


def test_keys_tell_texts_apart():
    texts = [("a",), ("a", ""), ("", "a"), ("a\0", "b"), ("a", "\0b"), ("a", "b")]
    texts += [("\udcff",), ("\ufffd",), ("a\0\0b",), ("a", "b", "")]
    assert len({scratch.key(*each) for each in texts}) == len(texts)
    assert scratch.unpack(scratch.pack("caf\udce9")) == "caf\udce9"


def test_errors_of_a_generator_are_its_own():
    def rows():
        yield (1,)
        raise ValueError("the row's")

    made = Scratch("things (number)")
    with pytest.raises(ValueError, match="the row's"):
        made.fill("INSERT INTO things VALUES (?)", rows())


def test_a_full_temporary_folder_is_named(monkeypatch):
    monkeypatch.setenv("TMPDIR", "/full")
    monkeypatch.delenv("SQLITE_TMPDIR", raising=False)
    made = Scratch("things (text)")
    made.run("PRAGMA max_page_count=3")  # as if no more had room
    rows = ((bytes(5000),) for _ in range(9))
    with pytest.raises(ValueError, match=r"^/full: .*full\); .*TMPDIR=\.\.\. names"):
        made.fill("INSERT INTO things VALUES (?)", rows)
