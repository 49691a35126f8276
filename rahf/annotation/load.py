"""How an annotation server bears up under raters who answer as fast as they can.

The server is the real one, in a process of its own, on a database and pictures made for
the purpose. The raters are threads of other processes, each with its own connection.
"""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import pathlib
import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from rahf import images
from rahf.annotation import client, tokens

#: What is timed: the page of the next image with its picture; a save.
KINDS = ("page", "save")
# Different pictures; further images are hard links to them.
_PICTURES = 20
_SIDE = 1024
_PROMPT = "a red boat left of a small house, and three birds above the water"
# The processes of raters: Python's threads would wait for each other.
_PROCESSES = 3
_SERVER = "import sys; from rahf.bin import annotate; annotate.main(sys.argv[1:])"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How much work there is.

    Attributes:
      images: their number.
      raters: how many answer at the same time.
      answers_per_image: by different raters.
      drafts: saves of unfinished work before each answer.
    """

    images: int = 300
    raters: int = 30
    answers_per_image: int = 3
    drafts: int = 2


def measure_load(folder: pathlib.Path, options: LoadOptions) -> dict[str, Any]:
    """Serves, answers everything, and returns what it took.

    Args:
      folder: an empty folder for pictures and the database.
      options: how much work there is.

    Returns:
      `answers`, `seconds`, `answers_per_second`, `server_cpu_seconds`, and for each of
      `KINDS` the milliseconds at the median, the 95th percentile and the largest, over
      all and over the first and the last tenth of the answers (`first`, `last`).

    Raises:
      RuntimeError: the server did not start, or answers were lost.
    """
    listed = _make_images(folder, options.images)
    file = tokens.TokenFile(folder / "w")
    keys = [file.make(f"r{number:03}", "rater") for number in range(options.raters)]
    flag = f"--raters={options.answers_per_image}"
    pictures = folder / "pictures"
    with serving(listed, pictures, folder / "w", flag) as (url, pid):
        start = time.perf_counter()
        samples = _answer_all(url, keys, options.drafts)
        seconds = time.perf_counter() - start
        cpu = _cpu_seconds(pid)
    answers = sum(sample["kind"] == "page" for sample in samples)
    wanted = options.images * options.answers_per_image
    if answers != wanted:
        raise RuntimeError(f"expected {wanted} answers, {answers} were given")
    return {
        **dataclasses.asdict(options),
        "answers": answers,
        "seconds": seconds,
        "answers_per_second": answers / seconds,
        "server_cpu_seconds": cpu,
        **{kind: _summary(samples, kind, start, seconds) for kind in KINDS},
    }


def table(found: Mapping[str, Any]) -> str:
    """Returns what `measure_load` found, as text."""
    cpu = found["server_cpu_seconds"]
    lines = [
        f"{found['answers']:,} answers by {found['raters']} raters in "
        f"{found['seconds']:.1f} s, {found['answers_per_second']:.0f} a second"
        + (f"; the server's CPU time: {cpu:.1f} s" if cpu is not None else ""),
        "milliseconds    median     p95  largest  p95, first tenth  last tenth",
    ]
    for kind in KINDS:
        row = found[kind]
        lines.append(
            f"{kind:13}{row['median']:9.1f}{row['p95']:8.1f}{row['largest']:9.1f}"
            f"{row['first']['p95']:18.1f}{row['last']['p95']:12.1f}"
        )
    return "\n".join(lines)


def _make_images(folder: pathlib.Path, count: int) -> pathlib.Path:
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(min(count, _PICTURES)):
        coarse = generator.integers(0, 256, (24, 24, 3)).astype(np.uint8)
        pixels = images.resize(coarse, (_SIDE, _SIDE))
        Image.fromarray(pixels).save(pictures / f"{number:06}.jpg", quality=92)
    for number in range(_PICTURES, count):
        original = pictures / f"{number % _PICTURES:06}.jpg"
        os.link(original, pictures / f"{number:06}.jpg")
    listed = folder / "images.jsonl"
    names = sorted(path.name for path in pictures.iterdir())
    rows = [{"image": name, "prompt": _PROMPT} for name in names]
    listed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return listed


@contextlib.contextmanager
def serving(
    tasks: pathlib.Path, pictures: pathlib.Path, workdir: pathlib.Path, *flags: str
) -> Iterator[tuple[str, int]]:
    """Serves in a process of its own, on a free port, as long as the body runs.

    Args:
      tasks: the images to label.
      pictures: their folder.
      workdir: where answers are kept.
      *flags: further flags of `annotate serve`.

    Yields:
      (its address, the number of its process).

    Raises:
      RuntimeError: the server did not start.
    """
    words = ["serve", str(tasks), f"--images={pictures}", f"--workdir={workdir}"]
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER, *words, "--port=0", *flags],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        said = ""
        while "serving http" not in said:
            if not (line := server.stdout.readline()):
                raise RuntimeError(f"the server did not start: {said!r}")
            said = line
        yield said.split()[-1], server.pid
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def _answer_all(url: str, keys: Sequence[str], drafts: int) -> list[dict[str, Any]]:
    context = multiprocessing.get_context("spawn")
    parts = [list(keys[first::_PROCESSES]) for first in range(_PROCESSES)]
    with context.Pool(_PROCESSES) as pool:
        jobs = [pool.apply_async(_answer, (url, part, drafts)) for part in parts]
        return [sample for job in jobs for sample in job.get()]


def _answer(url: str, keys: Sequence[str], drafts: int) -> list[dict[str, Any]]:
    found: queue.SimpleQueue = queue.SimpleQueue()
    threads = [
        threading.Thread(target=_work, args=(url, key, drafts, found)) for key in keys
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    samples = [found.get() for _ in range(found.qsize())]
    errors = [sample for sample in samples if isinstance(sample, Exception)]
    if errors:
        raise errors[0]
    return samples


def _work(url: str, key: str, drafts: int, found: queue.SimpleQueue) -> None:
    rater, chance = client.AnnotationClient(url, key), random.Random(key)
    try:
        while True:
            start = time.perf_counter()
            task, _ = rater.next()
            if task is None:
                return
            rater.image(task)
            found.put(_sample("page", start))
            for number in range(drafts + 1):
                label = _label(task["image"], chance, number + 1)
                kind = "draft" if number < drafts else "answer"
                event = client.new_event(kind, label=label, seconds=number)
                start = time.perf_counter()
                rater.send(task["id"], [event])
                found.put(_sample("save", start))
    except Exception as error:  # noqa: BLE001  for the thread that waits
        found.put(error)
    finally:
        rater.close()


def _label(image: dict[str, Any], chance: random.Random, points: int) -> dict[str, Any]:
    width, height = image["width"], image["height"]
    return {
        "implausible_points": [
            [chance.uniform(0, width), chance.uniform(0, height)] for _ in range(points)
        ],
        "misaligned_words": [1],
        "scores": {
            name: chance.randint(2, 4)
            for name in ("plausibility", "alignment", "aesthetics", "overall")
        },
    }


def _sample(kind: str, start: float) -> dict[str, Any]:
    # CLOCK_MONOTONIC, and so the same clock in all processes.
    return {"kind": kind, "start": start, "seconds": time.perf_counter() - start}


def _summary(samples, kind: str, start: float, seconds: float) -> dict[str, Any]:
    rows = sorted((s["start"], s["seconds"]) for s in samples if s["kind"] == kind)
    taken = 1e3 * np.array([each for _, each in rows])
    tenth = max(1, len(taken) // 10)

    def describe(part: np.ndarray) -> dict[str, float]:
        median, late = np.percentile(part, [50, 95])
        return {"median": median, "p95": late, "largest": part.max()}

    parts = {"first": taken[:tenth], "last": taken[-tenth:]}
    return describe(taken) | {name: describe(part) for name, part in parts.items()}


def _cpu_seconds(pid: int) -> float | None:
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except OSError:  # no Linux
        return None
    user, system = fields.split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
