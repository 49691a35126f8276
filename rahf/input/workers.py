"""Worker processes of the training input, which end when their run does."""

import multiprocessing
import os
import signal
import threading

import grain
from absl import flags


def in_workers(dataset: grain.IterDataset, workers: int) -> grain.IterDataset:
    """Returns the dataset, made by worker processes."""
    if not flags.FLAGS.is_parsed():  # grain reads absl flags, even in a library
        flags.FLAGS.mark_as_parsed()
    return dataset.mp_prefetch(
        grain.MultiprocessingOptions(num_workers=workers), worker_init_fn=_begin
    )


def _begin(index: int, count: int) -> None:
    """Leaves the end of a worker to its run.

    A terminal or a scheduler signals all processes at once; a worker that obeyed would
    leave the run without the batches that it needs to come to a checkpoint. Grain ends
    workers by an event, so one whose run was killed would remain forever.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_run, daemon=True).start()


def _end_with_run() -> None:
    run = multiprocessing.parent_process()
    assert run is not None  # this is a worker
    run.join()  # returns at once if it has ended before this worker began
    os._exit(1)
