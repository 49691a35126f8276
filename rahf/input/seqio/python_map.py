"""Python functions inside TensorFlow datasets: mapped in order, and waited for."""

import functools
import time

import tensorflow as tf


class _Calls:
    """Counts the calls of Python functions from TensorFlow's threads."""

    def __init__(self):
        self.begun = self.ended = 0

    def counted(self, function):
        @functools.wraps(function)
        def call(*values):
            self.begun += 1
            try:
                return function(*values)
            finally:
                self.ended += 1

        return call


_CALLS = _Calls()


def wait_until_idle(quiet_seconds: float = 0.1, most_seconds: float = 30.0) -> None:
    """Returns once all buffers are full, so that no dataset calls Python any more.

    TensorFlow destroys an iterator while holding Python's global lock, and waits for
    its threads; a thread that waits for the lock then waits forever. So call this
    before dropping an iterator that has not ended.
    """
    until = time.monotonic() + most_seconds
    begun = -1
    while begun != _CALLS.begun or begun != _CALLS.ended:
        if time.monotonic() > until:
            return
        begun = _CALLS.begun
        time.sleep(quiet_seconds)


def map_python(dataset, function, names, specs, *, parallel: int = 2):
    """Maps elements through a Python function, in order.

    Args:
      dataset: a dataset of dicts.
      function: maps arrays of the elements' `names` to one array for each of `specs`.
      names: keys of the elements.
      specs: key of the result -> (dtype, shape).
      parallel: the number of elements to map at a time.
    """

    called = _CALLS.counted(function)

    def call(element):
        dtypes = [dtype for dtype, _ in specs.values()]
        values = tf.numpy_function(
            called, [element[name] for name in names], dtypes, stateful=False
        )
        for value, (_, shape) in zip(values, specs.values(), strict=True):
            value.set_shape(shape)
        return dict(zip(specs, values, strict=True))

    return dataset.map(call, num_parallel_calls=parallel, deterministic=True)
