"""A workdir of annotation: served, exported and described."""

import contextlib
import dataclasses
import http.client
import ipaddress
import pathlib
import socket
import tempfile
from collections.abc import Iterator, Mapping

from tqdm import tqdm

from rahf import durable, extras
from rahf.annotation import (
    assignment,
    backup,
    client,
    instructions,
    ordering,
    replaying,
    store,
    tokens,
)
from rahf.annotation.formats import exporting, rated_rows, task_sources
from rahf.inference.job_sources import TableColumns

#: Names and addresses of this machine alone.
LOCAL = ("127.0.0.1", "localhost", "[::1]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What is served, where, and how.

    Attributes:
      tasks: the list of images and prompts (`formats.task_sources`).
      images: the folder of the images; None = where the list is.
      workdir: the folder of the database.
      host, port: where to listen; None is this machine only.
      certificate, key: PEM files, for TLS.
      behind_proxy: whether a proxy brings TLS.
      raters: answers wanted for each image, also for those that the workdir has
        already; None for as many as before, `assignment.RATERS` in a new one.
      lease: seconds until an image that is not heard of goes to others.
      qualification: known answers before the first real image.
      order: one of `ordering.ORDERS`.
      checkpoint: by whose uncertainty images are ordered.
      seed: of a random order.
      show_guesses: whether raters see what a model thinks of an image.
      guess_threshold: from this value on a peak of a predicted heatmap is a point of
        the model's guess.
      image_column, prompt_column: names of fields in the list; "" = the usual ones.
      recursive: whether to search the subfolders of a folder of images.
      labels: what the labels of Label Studio's predictions mean.
      instructions, examples: files of what raters are told; None for the built-in.
    """

    tasks: str
    images: str | None
    workdir: str
    host: str | None = None
    port: int = 8000
    certificate: str | None = None
    key: str | None = None
    behind_proxy: bool = False
    raters: int | None = None
    lease: float = 1800.0
    qualification: int = 0
    order: str = "given"
    checkpoint: str | None = None
    seed: int = 0
    show_guesses: bool = False
    guess_threshold: float = task_sources.TaskOptions.threshold
    image_column: str = ""
    prompt_column: str = ""
    recursive: bool = False
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    instructions: str | None = None
    examples: str | None = None


def serve(options: ServeOptions) -> None:
    """Serves until interrupted.

    Raises:
      MissingExtraError: the extra `annotate` is not installed.
      ValueError: a task is wrong, or the workdir is in use.
    """
    with extras.needing("annotate", "annotate serve"):
        import uvicorn

        from rahf.annotation import server
    rules = assignment.AssignmentRules(
        lease=options.lease, qualification=options.qualification
    )
    guide = instructions.read(options.instructions, options.examples)
    columns = TableColumns(image=options.image_column, prompt=options.prompt_column)
    reading = task_sources.TaskOptions(
        columns=columns,
        threshold=options.guess_threshold,
        recursive=options.recursive,
        labels=options.labels,
    )
    folder = task_sources.find_folder(options.tasks, options.images)
    with store.open_store(options.workdir) as opened:
        tasks = task_sources.read_tasks(options.tasks, folder, reading)
        raters, changed = assignment.set_raters(opened, options.raters)
        added = opened.add_images(tasks, raters=raters)
        if changed:
            print(f"--raters={raters}: so many answers for {changed} older images, too")
        _check_practice(opened, options)
        _check_guesses(opened, options)
        _arrange(opened, folder, options)
        api = server.AnnotationApi(
            opened,
            tokens.TokenFile(options.workdir),
            folder,
            rules,
            secure=bool(options.certificate) or options.behind_proxy,
            show_guesses=options.show_guesses,
        )
        host = bracket(options.host or LOCAL[0])
        names = {*LOCAL, host}
        app = server.make_app(api, names, guide)
        config = uvicorn.Config(
            app,
            host=host,
            port=options.port,
            ssl_certfile=options.certificate,
            ssl_keyfile=options.key,
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=5,  # for requests that were never finished
        )
        # It listens from here on: whoever reads the address may connect at once.
        with _listening(host, options.port) as bound:
            scheme = "https" if options.certificate else "http"
            url = f"{scheme}://{host}:{bound.getsockname()[1]}"
            print(f"{options.workdir}: {added} new images; serving {url}", flush=True)
            uvicorn.Server(config).run(sockets=[bound])


def _listening(host: str, port: int) -> socket.socket:
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=kind, backlog=128)
    except OSError as error:
        raise ValueError(
            f"--host={host} --port={port}: {error.strerror or error}; --port=0 takes "
            "any free port"
        ) from error


def bracket(host: str) -> str:
    """Returns a host as addresses and browsers have it: IPv6 in brackets, and short."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host  # a name
    return f"[{address}]" if address.version == 6 else str(address)


def _check_guesses(opened: store.AnswerStore, options: ServeOptions) -> None:
    query = "SELECT COUNT(*) AS images, COUNT(guess) AS guesses FROM images"
    [found] = opened.read(query)
    if options.show_guesses and found["guesses"] < found["images"]:
        print(
            f"--show_guesses: {found['guesses']} of {found['images']} images have a "
            "guess; the output of predict, 'guess' in images.jsonl, and Label Studio's "
            "predictions bring them"
        )


def _check_practice(opened: store.AnswerStore, options: ServeOptions) -> None:
    query = "SELECT COUNT(*) FROM images WHERE gold IS NOT NULL"
    [[known]] = opened.read(query)
    if known < options.qualification:
        raise ValueError(
            f"--qualification={options.qualification} needs as many images with a "
            f"known answer ('gold'); {options.tasks} has {known}"
        )


def _arrange(
    opened: store.AnswerStore, folder: pathlib.Path, options: ServeOptions
) -> None:
    unread = ordering.arrange(
        opened,
        options.order,
        folder=folder,
        checkpoint=options.checkpoint,
        seed=options.seed,
    )
    if unread:
        print(f"{folder}: {unread} images cannot be read, and come last")


def export(
    *,
    output: str,
    format: str = "jsonl",  # as the flag
    workdir: str | None = None,
    ratings: str | None = None,
    images: str | None = None,
    image_prefix: str = "",
) -> str:
    """Writes ratings in one of `exporting.FORMATS`; returns how many, in words.

    Args:
      output: the file.
      format: its form.
      workdir: whose answers.
      ratings, images: a raters' file and its folder of images, in place of a workdir.
      image_prefix: see `formats.label_studio.make_tasks`.

    Raises:
      ValueError: there is no such workdir, or a mistake in the raters' file.
    """
    if workdir is not None:
        backup.check_output(workdir, pathlib.Path(output))
    target = durable.check_file(output)
    if workdir is None:
        rows = list(rated_rows.from_file(ratings or "", images or ""))
    else:
        with _copied(workdir) as copy:
            rows = list(rated_rows.from_answers(copy.answers()))
    count = exporting.write(rows, target, format, image_prefix=image_prefix)
    return f"{target}: {count} answers"


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
