"""A workdir of annotation: served, exported and described."""

import contextlib
import dataclasses
import http.client
import pathlib
import tempfile
from collections.abc import Iterator

from tqdm import tqdm

from rahf import durable
from rahf.annotation import (
    answer_lines,
    assignment,
    backup,
    client,
    instructions,
    ordering,
    replaying,
    store,
    task_files,
    tokens,
)

#: Names and addresses of this machine alone.
LOCAL = ("127.0.0.1", "localhost", "[::1]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What is served, where, and how.

    Attributes:
      tasks: JSON lines of images and prompts.
      images: the folder of the images.
      workdir: the folder of the database.
      host, port: where to listen; None is this machine only.
      certificate, key: PEM files, for TLS.
      behind_proxy: whether a proxy brings TLS.
      raters: answers wanted for each image.
      lease: seconds until an image that is not heard of goes to others.
      qualification: known answers before the first real image.
      order: one of `ordering.ORDERS`.
      checkpoint: by whose uncertainty images are ordered.
      seed: of a random order.
      show_guesses: whether raters see what a model thinks of an image.
      instructions, examples: files of what raters are told; None for the built-in.
    """

    tasks: str
    images: str
    workdir: str
    host: str | None = None
    port: int = 8000
    certificate: str | None = None
    key: str | None = None
    behind_proxy: bool = False
    raters: int = 3
    lease: float = 1800.0
    qualification: int = 0
    order: str = "given"
    checkpoint: str | None = None
    seed: int = 0
    show_guesses: bool = False
    instructions: str | None = None
    examples: str | None = None


def serve(options: ServeOptions) -> None:
    """Serves until interrupted.

    Raises:
      ValueError: a task is wrong, the workdir is in use, or the extra is missing.
    """
    try:
        import uvicorn

        from rahf.annotation import server
    except ModuleNotFoundError as error:
        raise ValueError(
            f"annotate serve needs {error.name}: pip install 'rahf[annotate]'"
        ) from error
    rules = assignment.AssignmentRules(
        lease=options.lease, qualification=options.qualification
    )
    guide = instructions.read(options.instructions, options.examples)
    with store.open_store(options.workdir) as opened:
        tasks = task_files.read_tasks(options.tasks, options.images)
        added = opened.add_images(tasks, raters=options.raters)
        _check_practice(opened, options)
        _arrange(opened, options)
        api = server.AnnotationApi(
            opened,
            tokens.TokenFile(options.workdir),
            pathlib.Path(options.images),
            rules,
            secure=bool(options.certificate) or options.behind_proxy,
            show_guesses=options.show_guesses,
        )
        names = {*LOCAL, *([options.host] if options.host else [])}
        app = server.make_app(api, names, guide)
        config = uvicorn.Config(
            app,
            host=options.host or LOCAL[0],
            port=options.port,
            ssl_certfile=options.certificate,
            ssl_keyfile=options.key,
            access_log=False,
            log_level="warning",
            server_header=False,
        )
        with contextlib.closing(config.bind_socket()) as bound:
            bound.listen(128)  # whoever reads the address may connect at once
            scheme = "https" if options.certificate else "http"
            url = f"{scheme}://{config.host}:{bound.getsockname()[1]}"
            print(f"{options.workdir}: {added} new images; serving {url}", flush=True)
            uvicorn.Server(config).run(sockets=[bound])


def _check_practice(opened: store.AnswerStore, options: ServeOptions) -> None:
    query = "SELECT COUNT(*) FROM images WHERE gold IS NOT NULL"
    [[known]] = opened.read(query)
    if known < options.qualification:
        raise ValueError(
            f"--qualification={options.qualification} needs as many images with a "
            f"known answer ('gold'); {options.tasks} has {known}"
        )


def _arrange(opened: store.AnswerStore, options: ServeOptions) -> None:
    unread = ordering.arrange(
        opened,
        options.order,
        folder=pathlib.Path(options.images),
        checkpoint=options.checkpoint,
        seed=options.seed,
    )
    if unread:
        print(f"{options.images}: {unread} images cannot be read, and come last")


def export(workdir: str, output: pathlib.Path) -> int:
    """Writes the answers as a raters' file, and returns how many there are."""
    with _copied(workdir) as copy:
        lines = list(answer_lines.export_lines(copy.answers()))
    durable.write_text(output, "".join(lines))
    return len(lines)


def replay(options: replaying.ReplayOptions) -> str:
    """Replays a raters' file with a progress bar, and returns what came of it."""
    try:
        lines = replaying.RatingLines(options.ratings, options.images)
        with tqdm(desc="replay", unit="answer", total=lines.count) as bar:
            answers, skips = replaying.replay(lines, options, on_answer=bar.update)
    except client.RequestRefusedError as error:
        raise ValueError(f"{options.url}: {error}") from error
    except (ConnectionError, TimeoutError, http.client.HTTPException) as error:
        raise ValueError(f"{options.url}: no annotation server ({error})") from error
    return f"{options.url}: {answers} answers; {skips} images had no further line"


def describe(workdir: str) -> str:
    """Returns how far the work is, as text."""
    with _copied(workdir) as copy:
        [[images, open_]] = copy.read(
            "SELECT COUNT(*), COALESCE(SUM(load < wanted), 0) FROM images "
            "WHERE gold IS NULL"
        )
        raters = copy.read(
            "SELECT name, paused, (SELECT COUNT(*) FROM assignments WHERE rater = name "
            "AND state = 'answered') AS answers FROM raters ORDER BY name"
        )
    lines = [f"{workdir}: {images} images, {open_} of which need raters"]
    for row in raters:
        paused = f"  paused: {row['paused']}" if row["paused"] else ""
        lines.append(f"{row['name']:20} {row['answers']:6} answers{paused}")
    return "\n".join(lines)


@contextlib.contextmanager
def _copied(workdir: str) -> Iterator[store.AnswerStore]:
    """Opens a copy as of now, so that a running server is not disturbed."""
    with tempfile.TemporaryDirectory() as folder:
        path = backup.backup(workdir, pathlib.Path(folder) / "copy.db")
        copy = store.AnswerStore(path)
        try:
            yield copy
        finally:
            copy.close()
