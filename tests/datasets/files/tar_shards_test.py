"""Reading shards: every sample from any place, and no damage goes unsaid."""

import tarfile

import fsspec
import pytest

from rahf.datasets.files import tar_shards
from rahf.datasets.files.tar_shards import list_shards, read_shard
from tests.support.captions_fixture import (
    add,
    encoded,
    sample,
    write_shard,
    write_shards,
)


def numbers(samples):
    return [int(each.uid.rpartition("/")[2]) for each in samples]


def test_the_samples_of_a_shard(tmp_path):
    path = write_shard(tmp_path / "000007.tar", 70, 4)
    found = list(read_shard(str(path)))
    assert [each.uid for each in found] == [f"000007/0000000{n}" for n in range(70, 74)]
    assert [each.number for each in found] == [0, 1, 2, 3]
    assert found[0].caption == "picture number 70"
    assert found[3].image == encoded(73)
    assert not any(each.fault for each in found)


def test_it_goes_on_from_any_sample(tmp_path):
    path = str(write_shard(tmp_path / "000000.tar", 0, 5))
    found = list(read_shard(path))
    for index, each in enumerate(found):
        assert (
            list(read_shard(path, offset=each.end, number=each.number + 1))
            == (found[index + 1 :])
        )
    thirds = [
        list(read_shard(path, wanted=lambda n, r=r: n % 3 == r)) for r in (0, 1, 2)
    ]
    assert [numbers(third) for third in thirds] == [[0, 3], [1, 4], [2]]


def test_shards_from_elsewhere(tmp_path):
    path = write_shard(tmp_path / "000000.tar", 0, 3)
    for index in range(3):
        with fsspec.open(f"memory://bucket/{index:05d}.tar", "wb") as file:
            file.write(path.read_bytes())
    urls = list_shards("memory://bucket/{00000..00002}.tar")
    assert [url.rsplit("/", 1)[1] for url in urls] == [
        f"{index:05d}.tar" for index in range(3)
    ]
    assert list_shards("memory://bucket/*.tar") == urls
    assert list_shards("memory://bucket") == urls
    assert numbers(read_shard(urls[1])) == [0, 1, 2]
    with pytest.raises(ValueError, match="bucket/9.tar' cannot be read"):
        list(read_shard("memory://bucket/9.tar"))


def test_what_names_shards(tmp_path):
    paths = [str(path) for path in write_shards(tmp_path / "a", 12, 1)]
    other = str(write_shard(tmp_path / "b" / "x.tar", 0, 1))
    assert list_shards(str(tmp_path / "a")) == paths
    assert list_shards(f"{tmp_path}/a/00000[3-5].tar") == paths[3:6]
    assert list_shards(f"{tmp_path}/a/{{000008..000010}}.tar") == paths[8:11]
    assert list_shards([other, str(tmp_path / "a"), other]) == [other, *paths]
    for nothing in ("/none", f"{tmp_path}/c.tar", f"{tmp_path}/*.tar", "{3..1}.tar"):
        with pytest.raises(ValueError, match=r"matches no shard"):
            list_shards(nothing)
    with pytest.raises(ValueError, match="'none://x.tar' cannot be read: Protocol not"):
        list_shards("none://x.tar")


def lacking(ending):
    return lambda number, parts: {
        name: data for name, data in parts.items() if name != ending or number != 1
    }


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lacking("jpg"), r"no image among \['json', 'txt'\]"),
        (lambda n, p: p | ({"txt": b" \n"} if n == 1 else {}), "the caption is empty"),
        (lambda n, p: p | ({"txt": b"\xff\xfe"} if n == 1 else {}), "utf-8"),
        (lambda n, p: {"jpg": b"x"} if n == 1 else p, r"no caption .* \['jpg'\]"),
        (lambda n, p: {"jpg": b"", "json": b"["} if n == 1 else p, "Expecting value"),
        (lambda n, p: {"jpg": b"", "json": b"[]"} if n == 1 else p, "no attribute"),
        (lambda n, p: {"jpg": b"", "json": b"{}"} if n == 1 else p, "caption is empty"),
        (
            lambda n, p: (
                {"jpg": b"", "json": rb'{"caption": "\ud800"}'} if n == 1 else p
            ),
            "surrogates not allowed",
        ),
    ],
)
def test_a_faulty_sample_is_named_and_the_others_come(tmp_path, change, fault):
    path = write_shard(tmp_path / "000000.tar", 0, 3, change)
    found = list(read_shard(str(path)))
    assert numbers(found) == [0, 1, 2]
    assert [bool(each.fault) for each in found] == [False, True, False]
    with pytest.raises(ValueError, match=fault):
        raise ValueError(found[1].fault)


def test_the_caption_may_stand_in_the_metadata(tmp_path):
    path = write_shard(tmp_path / "000000.tar", 0, 2, lacking("txt"))
    assert [each.caption for each in read_shard(str(path))] == [
        "picture number 0",
        "picture number 1",
    ]


def faults(path):
    return [(each.uid, each.fault) for each in read_shard(str(path)) if each.fault]


def test_a_tar_that_was_cut_short(tmp_path):
    path = write_shard(tmp_path / "000000.tar", 0, 3)
    whole = path.read_bytes()
    all_three, counts = list(read_shard(str(path))), []
    for size in range(0, all_three[-1].end + 1, 512):
        path.write_bytes(whole[:size])
        found = list(read_shard(str(path)))
        good = [each for each in found if not each.fault]
        assert len(good) >= sum(each.end <= size for each in all_three)
        for each, expected in zip(good, all_three, strict=False):
            # The last may lack its .txt, and has its caption from its .json.
            assert (each.image, each.caption) == (expected.image, expected.caption)
        assert found[-1].fault, size
        assert len(found) <= len(good) + 2
        # It ends there also for who comes back.
        assert not list(
            read_shard(str(path), offset=found[-1].end, number=found[-1].number + 1)
        )
        counts.append(len(good))
    assert counts[0] == 0 and max(counts) == 3


def test_a_damaged_header_in_the_middle(tmp_path):
    path = write_shard(tmp_path / "000000.tar", 0, 5)
    data = bytearray(path.read_bytes())
    place = list(read_shard(str(path)))[1].end
    data[place : place + 512] = b"\x7f" * 512
    path.write_bytes(data)
    [(uid, fault)] = faults(path)
    assert fault == "the tar has a damaged header"
    assert uid == f"000000/byte {place}"
    assert numbers(list(read_shard(str(path)))[:-1]) == [0, 1]


def test_other_damage(tmp_path):
    path = tmp_path / "000000.tar"
    path.write_bytes(b"version https://git-lfs" + b"x" * 2000)
    assert "the tar is damaged from here on" in faults(path)[0][1]
    path.write_bytes(b"")
    assert "the tar is damaged from here on" in faults(path)[0][1]
    with tarfile.open(path, "w"):
        pass
    assert faults(path) == [("000000/byte 0", "the shard has no samples")]
    one, other = (write_shard(tmp_path / f"{n}.tar", n, 1).read_bytes() for n in (1, 2))
    path.write_bytes(one + other)
    assert "continues after its end marker" in faults(path)[0][1]


def test_a_member_that_is_too_large(tmp_path, monkeypatch):
    path = write_shard(tmp_path / "000000.tar", 0, 2)
    monkeypatch.setattr(tar_shards, "MAX_MEMBER_BYTES", 60)
    assert "000000000.jpg has" in faults(path)[0][1]


def test_odd_members(tmp_path):
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w") as tar:
        folder = tarfile.TarInfo("part.0")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for number in (1, 2):  # one key twice, as in joined tars
            for ending, data in sorted(sample(number).items()):
                add(tar, f"part.0/same.{ending.upper()}", data)
        add(tar, "README", b"text")
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        add(tar, "a.txt", b"a link is not followed")
        add(tar, "b.seg.png", b"")
    found = list(read_shard(str(path)))
    assert [each.uid for each in found] == [
        "odd/part.0/same",
        "odd/part.0/same",
        "odd/README",
        "odd/a",
        "odd/b",
    ]
    assert [each.caption for each in found[:2]] == [
        "picture number 1",
        "picture number 2",
    ]
    assert "no image among" in found[2].fault
    assert "a.jpg is a link to /etc/passwd; pack the tar with" in found[3].fault
    assert "no image among" in found[4].fault


def test_hard_links_are_not_lost(tmp_path):
    """GNU tar stores the second of two linked files as a link to the first."""
    path = tmp_path / "linked.tar"
    with tarfile.open(path, "w") as tar:
        for ending, data in sample(1).items():
            add(tar, f"1.{ending}", data)
        for ending in sample(1):
            link = tarfile.TarInfo(f"2.{ending}")
            link.type, link.linkname = tarfile.LNKTYPE, f"1.{ending}"
            tar.addfile(link)
        for ending, data in sample(3).items():
            add(tar, f"3.{ending}", data)
    found = list(read_shard(str(path)))
    assert numbers(found) == [1, 2, 3]
    assert [bool(each.fault) for each in found] == [False, True, False]
    assert "is a link to 1." in found[1].fault
    assert list(read_shard(str(path), offset=found[1].end, number=2)) == found[2:]


def test_what_macos_packs_is_passed_over(tmp_path):
    path = tmp_path / "mac.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, "./.DS_Store", b"\0\0\0\1Bud1")
        for number in (1, 2):
            for ending, data in sample(number).items():
                add(tar, f"./{number}/._{number}.{ending}", b"\0\5\x16\7")
                add(tar, f"./{number}/{number}.{ending}", data)
        add(tar, "./.cache/3.jpg", b"")
        add(tar, "../4/.hidden.txt", b"")
    found = list(read_shard(str(path)))
    assert [(each.uid, each.fault) for each in found] == [
        ("mac/./1/1", ""),
        ("mac/./2/2", ""),
    ]
    assert list(read_shard(str(path), offset=found[0].end, number=1)) == found[1:]


@pytest.mark.parametrize("ending", ["jfif", "JPE", "HEIC", "apng", "image"])
def test_an_image_is_known_by_its_first_bytes(tmp_path, ending):
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, "a.txt", b"one")
        add(tar, f"a.{ending}", encoded(5, "JPEG"))
        add(tar, "b", encoded(6))  # no ending at all
        add(tar, "b.json", b'{"caption": "two"}')
        add(tar, "c.txt", b"none")
        add(tar, f"c.{ending}", b"P6 is no picture")
    one, two, three = read_shard(str(path))
    assert (one.caption, one.image, one.fault) == ("one", encoded(5, "JPEG"), "")
    assert (two.caption, two.image, two.fault) == ("two", encoded(6), "")
    assert "c no image among" in f"c {three.fault}"


def test_endings_that_differ_in_case_are_two_samples(tmp_path):
    path = tmp_path / "case.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, "a.JPG", encoded(1))
        add(tar, "a.jpg", encoded(2))
        add(tar, "a.txt", b"which?")
    one, two = read_shard(str(path))
    assert "no caption among ['jpg']" in one.fault
    assert (two.image, two.caption) == (encoded(2), "which?")


def test_a_folder_that_looks_like_a_pattern(tmp_path):
    for folder in ("set[v2]", "set?", "set{1..2}"):
        paths = [str(p) for p in write_shards(tmp_path / folder, 2, 1)]
        write_shard(tmp_path / folder / "[x].tar", 0, 1)
        every = sorted([*paths, str(tmp_path / folder / "[x].tar")])
        assert list_shards(str(tmp_path / folder)) == every
        assert list_shards(f"{tmp_path}/{folder}/[x].tar") == every[-1:]
    write_shard(tmp_path / "setv" / "0.tar", 0, 1)  # what the pattern would find
    inside = f"{tmp_path}/set[v2]"
    assert list_shards(f"{inside}/0*.tar") == list_shards(f"{inside}/00000[01].tar")
    assert all(path.startswith(inside) for path in list_shards(f"{inside}/*.tar"))
    assert list_shards(f"{inside}/{{000000..000001}}.tar") == list_shards(
        f"{inside}/0*.tar"
    )


def test_a_folder_from_macos(tmp_path, caplog):
    paths = [str(path) for path in write_shards(tmp_path, 2, 1)]
    (tmp_path / "._000000.tar").write_bytes(b"\0\5\x16\7")
    assert list_shards(str(tmp_path)) == list_shards(f"{tmp_path}/*.tar") == paths
    (tmp_path / "000002.tar.gz").write_bytes(b"")
    with caplog.at_level("WARNING"):
        assert list_shards(str(tmp_path)) == paths
    assert "1 compressed tar files are skipped, such as 000002.tar.gz" in caplog.text


def test_a_caption_is_no_book(tmp_path, monkeypatch):
    path = write_shard(tmp_path / "000000.tar", 0, 1)
    monkeypatch.setattr(tar_shards, "MAX_TEXT_BYTES", 5)
    assert "000000000.txt has 16 bytes, over the limit of 5" in faults(path)[0][1]
