"""Tar shards of images with captions, as img2dataset and WebDataset write them.

A shard holds one sample after another, each a few members of one name and different
endings: `000000000.jpg`, `000000000.json`, `000000000.txt`. Shards are read front to
back, from any place fsspec knows; where a reader stands is a byte offset and a number.
"""

import contextlib
import dataclasses
import itertools
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import fsspec

# Endings of the members that are the image. img2dataset writes the first three.
_IMAGES = ("jpg", "png", "webp", "jpeg", "gif", "bmp", "tif", "tiff", "avif")

# No caption, metadata or encoded image is larger; a damaged header may say it is.
MAX_MEMBER_BYTES = 256 * 2**20

_BLOCK = tarfile.BLOCKSIZE
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image and its caption, not yet decoded.

    Attributes:
      uid: shard and key, such as "00012/000120007".
      number: its place in the shard, from 0.
      end: the byte of the shard behind it.
      image: the encoded image.
      caption: the text.
      fault: what is wrong with it; empty if nothing is. Image and caption may then
        be empty.
    """

    uid: str
    number: int
    end: int
    image: bytes = b""
    caption: str = ""
    fault: str = ""


@dataclasses.dataclass(frozen=True)
class Shards:
    """The shards of a split and how they are read.

    Attributes:
      urls: of the tars.
      window: how many samples are shuffled at a time; encoded, so that a thousand
        are some tens of megabytes.
      open_shards: how many shards a reader takes samples from in turns.
    """

    urls: tuple[str, ...]
    window: int = 1000
    open_shards: int = 4

    def __post_init__(self):
        if self.window < 1 or self.open_shards < 1:
            raise ValueError(
                f"captions need a window={self.window} and open_shards="
                f"{self.open_shards} of at least 1"
            )


def list_shards(patterns: str | Sequence[str]) -> list[str]:
    """Returns the URLs of the shards that patterns name, in a fixed order.

    Args:
      patterns: one or several, local or with a scheme such as `gs://`: a tar file,
        a folder of them, a glob (`*`, `?`, `[..]`) or a range in braces
        (`shards/{00000..00999}.tar`), which is listed without asking the store.

    Raises:
      ValueError: a pattern names no shard, or its scheme needs a package.
    """
    given = [patterns] if isinstance(patterns, str) else list(patterns)
    found = [url for pattern in given for url in _expand(pattern)]
    return list(dict.fromkeys(found))


def _expand(pattern: str) -> list[str]:
    match = _RANGE.search(pattern)
    if match:
        first, last = match.groups()
        head, tail = pattern[: match.start()], pattern[match.end() :]
        numbers = range(int(first), int(last) + 1)
        urls = [
            url
            for number in numbers
            for url in _expand(f"{head}{number:0{len(first)}d}{tail}")
        ]
        if not urls:
            raise ValueError(f"{pattern!r}: {first} to {last} names no shard")
        return urls
    remote = "://" in pattern
    with _clear_errors(pattern):
        fs, path = fsspec.url_to_fs(pattern)
        if re.search(r"[*?\[]", path):
            paths = fs.glob(path)
        elif pattern.endswith(".tar"):
            # A remote one is missed when it is opened: thousands would take minutes.
            paths = [path] if remote or fs.isfile(path) else []
        else:
            paths = fs.glob(path.rstrip("/") + "/*.tar")
    if not paths:
        raise ValueError(
            f"{pattern!r} names no shard; expected .tar files, a folder of them, a "
            "glob, or a range such as {00000..00999}.tar"
        )
    return sorted(fs.unstrip_protocol(p) if remote else str(p) for p in paths)


@contextlib.contextmanager
def _clear_errors(url: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ValueError(
            f"{url!r} needs a package that is not installed: {error}. "
            "gs:// needs gcsfs, s3:// needs s3fs (pip install 'rahf[cloud]')"
        ) from error
    except (OSError, ValueError) as error:  # the latter: unknown schemes
        raise ValueError(f"{url!r} cannot be read: {error}") from error


def read_shard(
    url: str,
    *,
    offset: int = 0,
    number: int = 0,
    wanted: Callable[[int], bool] = lambda number: True,
) -> Iterator[Sample]:
    """Yields the samples of a shard, from a place on.

    Nothing is dropped: a sample without image or caption, an empty shard, and a
    place from which the tar cannot be read on, come out as samples with a `fault`.

    Args:
      url: of the tar.
      offset: `end` of the sample before, 0 for the first.
      number: of the sample that stands at `offset`.
      wanted: which numbers to yield; the members of others are passed over.

    Raises:
      ValueError: the file cannot be opened, or the store fails.
    """
    if offset < 0:  # behind a fault that ended the shard
        return
    name = url.rsplit("/", 1)[-1].removesuffix(".tar")
    first = number
    with _clear_errors(url), fsspec.open(url, "rb") as file:
        tar = _Tar(file, offset)
        for key, members in itertools.groupby(tar, key=lambda member: member.key):
            for sample in _split(list(members)):
                if wanted(number):
                    yield _make_sample(tar, f"{name}/{key}", number, sample)
                number += 1
    fault = tar.fault
    if not fault and offset == 0 and number == first:
        fault = "the shard holds no samples"
    if fault and wanted(number):
        uid = f"{name}/byte {tar.position}"
        yield Sample(uid=uid, number=number, end=-1, fault=fault)


@dataclasses.dataclass(frozen=True)
class _Member:
    """A file in a tar: `key.ending`, and the byte behind it."""

    key: str
    ending: str
    info: tarfile.TarInfo
    end: int


class _Tar:
    """Iterates over the files of a tar from a byte on, and says how it ended.

    Python's tarfile takes a damaged header for the end of the archive. Here `fault`
    then says what is wrong, and `position` where.
    """

    def __init__(self, file: Any, offset: int):
        self._file = file
        self.position, self.fault = offset, ""

    def __iter__(self) -> Iterator[_Member]:
        self._file.seek(self.position)
        try:
            tar = tarfile.TarFile(fileobj=self._file)
            while (info := tar.next()) is not None:
                end = info.offset_data - (-info.size // _BLOCK) * _BLOCK
                if not self.position < end:
                    raise tarfile.ReadError("negative size")  # would never end
                if info.isfile():
                    folder, slash, base = info.name.rpartition("/")
                    stem, _, ending = base.partition(".")
                    yield _Member(folder + slash + stem, ending.lower(), info, end)
                self.position = end
                tar.members = []  # pyright: ignore  or it remembers them all
            self._check_end()
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  damage has many names in tarfile
            self.fault = f"the tar cannot be read on ({error})"

    def read(self, info: tarfile.TarInfo) -> bytes:
        """Returns the bytes of a member; raises ValueError if it is cut short."""
        if info.size > MAX_MEMBER_BYTES:
            raise ValueError(
                f"{info.name} has {info.size} bytes, over {MAX_MEMBER_BYTES}"
            )
        self._file.seek(info.offset_data)
        data = self._file.read(info.size)
        if len(data) < info.size:
            raise ValueError(
                f"{info.name} is cut short at {len(data)} of {info.size} bytes"
            )
        return data

    def _check_end(self) -> None:
        self._file.seek(self.position)
        # The end mark is two blocks, and archives are filled up to a record.
        tail = self._file.read(2 * tarfile.RECORDSIZE)
        if not tail:
            self.fault = "the tar has no end mark: it was cut short"
        elif tail[:_BLOCK].strip(b"\0"):
            self.fault = "the tar has a damaged header"
        elif tail.strip(b"\0"):
            self.fault = "the tar goes on behind its end mark: unpack and pack it anew"


def _split(members: list[_Member]) -> Iterator[list[_Member]]:
    """Cuts members of one key where an ending comes again: another sample begins."""
    sample: list[_Member] = []
    for member in members:
        if any(member.ending == other.ending for other in sample):
            yield sample
            sample = []
        sample.append(member)
    yield sample


def _make_sample(tar: _Tar, uid: str, number: int, members: list[_Member]) -> Sample:
    parts = {member.ending: member.info for member in members}
    sample = Sample(uid=uid, number=number, end=members[-1].end)
    try:
        image = next((parts[ending] for ending in _IMAGES if ending in parts), None)
        if image is None:
            raise ValueError(f"has no image among its parts {sorted(parts)}")
        if "txt" in parts:
            caption = tar.read(parts["txt"]).decode("utf-8")
        elif "json" in parts:
            caption = json.loads(tar.read(parts["json"])).get("caption")
        else:
            raise ValueError(f"has no caption among its parts {sorted(parts)}")
        if not isinstance(caption, str) or not caption.strip():
            raise ValueError("has an empty caption")
        caption.encode()  # JSON may hold half of a character
        return dataclasses.replace(
            sample, image=tar.read(image), caption=caption.strip()
        )
    except (ValueError, AttributeError, RecursionError) as error:
        return dataclasses.replace(sample, fault=str(error))
