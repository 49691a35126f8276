"""Worker processes of the training input, which end when their run does."""

import os
import signal
import threading
import time

import grain
from absl import flags

#: Seconds between two looks at whether the run is still there.
_EVERY = 2.0


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
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(run: int) -> None:
    while os.getppid() == run:
        time.sleep(_EVERY)
    os._exit(1)
