"""Files of prompts."""

import pytest

from rahf.applications.prompt_lists import read_prompts


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.txt", "a cat\r\n\n  two dogs, asleep \na cat"),
        (
            "p.jsonl",
            '{"prompt": "a cat"}\n\n{"text": "two dogs, asleep"}\n{"caption": "a cat"}',
        ),
        ("p.csv", 'id,caption\n1,a cat\n2,"two dogs, asleep"\n3,a cat\n'),
        ("p.tsv", "prompt\tseed\na cat\t1\ntwo dogs, asleep\na cat\t2\n"),
    ],
)
def test_prompts_are_read_in_order(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    assert read_prompts(tmp_path / name) == ["a cat", "two dogs, asleep", "a cat"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", " \n", "no prompts found"),
        ("p.jsonl", '{"prompt": "x"}\n{"image": "y"}\n', "line 2: expected a prompt"),
        ("p.jsonl", '{"prompt": 3}\n', "line 1: expected a prompt .* got 3"),
        ("p.jsonl", '{"prompt": "x"\n', "line 1: Expecting"),
        ("p.csv", "id,caption\n1,x\n2,\n", "line 3: expected a prompt"),
        ("p.txt", "caf\udce9", "line 1"),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message) as error:
        read_prompts(tmp_path / name)
    assert name in str(error.value)


def test_a_missing_file_says_what_is_expected(tmp_path):
    with pytest.raises(ValueError, match="no such file; expected prompts"):
        read_prompts(tmp_path / "p.txt")
