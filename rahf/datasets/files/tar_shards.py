"""Reads tar shards of captioned images, as img2dataset and WebDataset write them.

A sample is a few consecutive members with the same name and different endings:
`000000000.jpg`, `000000000.json`, `000000000.txt`. Shards are read sequentially, from
any file system that fsspec supports; a reader's position is a byte offset and a number.
"""

import contextlib
import dataclasses
import glob
import itertools
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import fsspec
from absl import logging

from rahf import images

# Endings of images; img2dataset writes the first three. If a sample has none of them,
# its image is recognised by its first bytes.
_IMAGES = ("jpg", "png", "webp", "jpeg", "gif", "bmp", "tif", "tiff", "avif")

# Limits on encoded images and on text; a damaged header may claim more.
MAX_MEMBER_BYTES = images.MAX_BYTES
MAX_TEXT_BYTES = 16 * 2**20

_BLOCK = tarfile.BLOCKSIZE
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
# `._a.jpg` and `.DS_Store`, which macOS adds, but not `./a.jpg` or `../a.jpg`.
_HIDDEN = re.compile(r"(^|/)\.(?!\.?/)")
_GLOB = re.compile(r"[*?\[]")


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image and its caption, not yet decoded.

    Attributes:
      uid: shard and key, such as "00012/000120007".
      number: its index in the shard, from 0.
      end: the byte offset of its end in the shard.
      image: the encoded image.
      caption: the text.
      fault: what is wrong with it, "" if nothing is; image and caption may be empty
        if it is set.
      place: the shard's URL, and the image's offset and size in it.
    """

    uid: str
    number: int
    end: int
    image: bytes = b""
    caption: str = ""
    fault: str = ""
    place: tuple[str, int, int] | None = None

    def encoded(self) -> bytes:
        """Returns the image, read again if it was released.

        Raises:
          ValueError: the shard can no longer be read.
        """
        if self.image or self.place is None:
            return self.image
        url, offset, size = self.place
        with _clear_errors(url), fsspec.open(url, "rb") as file:
            file.seek(offset)  # pyright: ignore[reportAttributeAccessIssue]
            return file.read(size)  # pyright: ignore[reportAttributeAccessIssue]


@dataclasses.dataclass(frozen=True)
class Shards:
    """The shards of a split and how they are read.

    Attributes:
      urls: the URLs of the tar files.
      window: the number of samples shuffled at a time. They are still encoded, so a
        thousand take some tens of megabytes, at most `shard_stream.WINDOW_BYTES`.
      open_shards: the number of shards that a reader interleaves.
    """

    urls: tuple[str, ...]
    window: int = 1000
    open_shards: int = 4

    def __post_init__(self):
        if self.window < 1 or self.open_shards < 1:
            raise ValueError(
                "config.input.captions: window and open_shards must be at least 1, got "
                f"window={self.window} and open_shards={self.open_shards}"
            )


def list_shards(patterns: str | Sequence[str], *, may_miss: bool = False) -> list[str]:
    """Returns the URLs of the shards that patterns match, in a fixed order.

    Args:
      patterns: one or several, local or with a scheme such as `gs://`: a tar file, a
        folder of them, a glob (`*`, `?`, `[..]`) or a range in braces
        (`shards/{00000..00999}.tar`), which is expanded without listing the store. A
        path that exists is taken literally, whatever characters it contains. Names
        that begin with a dot are skipped.
      may_miss: whether to list local files that are named but are not there, as remote
        ones are; `read_shard` then says so.

    Raises:
      ValueError: a pattern matches no shard, or its scheme needs a package that is not
        installed.
    """
    given = [patterns] if isinstance(patterns, str) else list(patterns)
    found = [url for pattern in given for url in _expand(pattern, may_miss)]
    return list(dict.fromkeys(found))


def _expand(pattern: str, may_miss: bool) -> list[str]:
    match = _RANGE.search(pattern)
    if match and not os.path.exists(pattern):
        first, last = match.groups()
        head, tail = pattern[: match.start()], pattern[match.end() :]
        numbers = range(int(first), int(last) + 1)
        urls = [
            url
            for number in numbers
            for url in _expand(f"{head}{number:0{len(first)}d}{tail}", may_miss)
        ]
        if not urls:
            raise ValueError(
                f"{pattern!r} matches no shard: the range {first} to {last} is empty"
            )
        return urls
    remote = "://" in pattern
    with _clear_errors(pattern):
        fs, path = fsspec.url_to_fs(pattern)
        if pattern.endswith(".tar") and not _GLOB.search(path):
            # Remote ones are not looked up here: thousands would take minutes.
            there = remote or may_miss or fs.isfile(path)
            paths = [path] if there else []
        elif pattern.endswith(".tar") and fs.isfile(path):
            paths = [path]
        elif not _GLOB.search(path) or fs.isdir(path):
            paths = _list_folder(fs, path)
        else:
            paths = [p for p in fs.glob(_escape(fs, path)) if not _is_hidden(p)]
    if not paths:
        raise ValueError(
            f"{pattern!r} matches no shard; expected .tar files, a folder of them, a "
            "glob, or a range such as {00000..00999}.tar"
        )
    return sorted(fs.unstrip_protocol(p) if remote else str(p) for p in paths)


def _list_folder(fs: Any, folder: str) -> list[str]:
    """Lists the tar files of a folder, whatever characters its name contains."""
    try:
        paths = [entry["name"] for entry in fs.ls(folder, detail=True)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    paths = [path for path in paths if not _is_hidden(path)]
    if packed := sorted(
        p for p in paths if p.endswith((".tar.gz", ".tgz", ".tar.zst"))
    ):
        logging.warning(
            "%s: %d compressed tar files are skipped, such as %s; decompress them",
            folder,
            len(packed),
            packed[0].rpartition("/")[2],
        )
    return [path for path in paths if path.endswith(".tar")]


def _escape(fs: Any, path: str) -> str:
    """Escapes the folders of a glob that exist under their literal names."""
    parts = path.split("/")
    literal = 0
    for end in range(1, len(parts)):
        if not _GLOB.search(parts[end - 1]):
            continue
        if not fs.isdir("/".join(parts[:end])):
            break
        literal = end
    return "/".join([*map(glob.escape, parts[:literal]), *parts[literal:]])


def _is_hidden(path: str) -> bool:
    """Whether a file's name begins with a dot: `._a.tar` is macOS metadata."""
    return path.rpartition("/")[2].startswith(".")


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
    """Yields the samples of a shard, from a given position on.

    Nothing is dropped: a sample without image or caption, an empty shard and a damaged
    rest of the tar are all yielded as samples with a `fault`.

    Args:
      url: the URL of the tar file.
      offset: `end` of the sample before, 0 for the first.
      number: the number of the sample at `offset`.
      wanted: selects the numbers to yield; the members of others are skipped.

    Raises:
      ValueError: the file cannot be opened, or the store fails.
    """
    if offset < 0:  # after a fault that ended the shard
        return
    name = url.rsplit("/", 1)[-1].removesuffix(".tar")
    first = number
    with _clear_errors(url), fsspec.open(url, "rb") as file:
        tar = _Tar(file, offset)
        for key, members in itertools.groupby(tar, key=lambda member: member.key):
            for sample in _split(list(members)):
                if wanted(number):
                    yield _make_sample(tar, url, f"{name}/{key}", number, sample)
                number += 1
    fault = tar.fault
    if not fault and offset == 0 and number == first:
        fault = "the shard has no samples"
    if fault and wanted(number):
        uid = f"{name}/byte {tar.position}"
        yield Sample(uid=uid, number=number, end=-1, fault=fault)


@dataclasses.dataclass(frozen=True)
class _Member:
    """A file in a tar, `key.ending`, and the byte offset of its end."""

    key: str
    ending: str
    info: tarfile.TarInfo
    end: int


class _Tar:
    """Iterates over the files of a tar from a byte offset on, and detects damage.

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
                end = tar.offset  # pyright: ignore  where the next header is
                if not self.position < end:
                    raise tarfile.ReadError("negative size")  # would never end
                if not info.isdir() and not _HIDDEN.search(info.name):
                    folder, slash, base = info.name.rpartition("/")
                    stem, _, ending = base.partition(".")
                    yield _Member(folder + slash + stem, ending.lower(), info, end)
                self.position = end
                tar.members = []  # pyright: ignore  or it remembers them all
            self._check_end()
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  tarfile raises many kinds
            self.fault = f"the tar is damaged from here on ({error})"

    def read(self, info: tarfile.TarInfo, limit: int) -> bytes:
        """Returns the bytes of a member; raises ValueError if it is incomplete."""
        if not info.isfile() or info.issparse():
            kind = f"a link to {info.linkname}" if info.linkname else "not a plain file"
            raise ValueError(
                f"{info.name} is {kind}; pack the tar with --dereference and "
                "--hard-dereference, without --sparse"
            )
        if info.size > limit:
            raise ValueError(
                f"{info.name} has {info.size} bytes, over the limit of {limit}"
            )
        self._file.seek(info.offset_data)
        data = self._file.read(info.size)
        if len(data) < info.size:
            raise ValueError(
                f"{info.name} is truncated: {len(data)} of {info.size} bytes"
            )
        return data

    def is_image(self, info: tarfile.TarInfo) -> bool:
        """Whether a member begins like an image."""
        if not info.isfile() or info.issparse():
            return False
        self._file.seek(info.offset_data)
        return images.is_image(self._file.read(min(32, info.size)))

    def _check_end(self) -> None:
        self._file.seek(self.position)
        # The end marker is two blocks, and archives are padded to a record.
        tail = self._file.read(2 * tarfile.RECORDSIZE)
        if not tail:
            self.fault = "the tar has no end marker; was a copy interrupted?"
        elif tail[:_BLOCK].strip(b"\0"):
            self.fault = "the tar has a damaged header"
        elif tail.strip(b"\0"):
            self.fault = "the tar continues after its end marker; pack it again"


def _split(members: list[_Member]) -> Iterator[list[_Member]]:
    """Divides members of one key where an ending repeats: another sample begins."""
    sample: list[_Member] = []
    for member in members:
        if any(member.ending == other.ending for other in sample):
            yield sample
            sample = []
        sample.append(member)
    yield sample


def _make_sample(
    tar: _Tar, url: str, uid: str, number: int, members: list[_Member]
) -> Sample:
    parts = {member.ending: member.info for member in members}
    sample = Sample(uid=uid, number=number, end=members[-1].end)
    try:
        image = _find_image(tar, parts)
        if image is None:
            raise ValueError(f"no image among {sorted(parts)}")
        if "txt" in parts:
            caption = tar.read(parts["txt"], MAX_TEXT_BYTES).decode("utf-8")
        elif "json" in parts:
            data = tar.read(parts["json"], MAX_TEXT_BYTES)
            caption = json.loads(data).get("caption")
        else:
            raise ValueError(f"no caption among {sorted(parts)}")
        if not isinstance(caption, str) or not caption.strip():
            raise ValueError("the caption is empty")
        caption.encode()  # JSON may contain lone surrogates
        return dataclasses.replace(
            sample,
            image=tar.read(image, MAX_MEMBER_BYTES),
            caption=caption.strip(),
            place=(url, image.offset_data, image.size),
        )
    except (ValueError, AttributeError, RecursionError) as error:
        return dataclasses.replace(sample, fault=str(error))


def _find_image(
    tar: _Tar, parts: Mapping[str, tarfile.TarInfo]
) -> tarfile.TarInfo | None:
    for ending in _IMAGES:
        if ending in parts:
            return parts[ending]
    # `a.HEIC` or `a` may be a JPEG; `a.seg.png` is something else about the image.
    others = [e for e in parts if e not in ("txt", "json") and "." not in e]
    return next((parts[e] for e in others if tar.is_image(parts[e])), None)
