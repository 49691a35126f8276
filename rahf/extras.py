"""Packages that only some uses of rahf need, and that pip installs on request."""

import contextlib
from collections.abc import Iterator


class MissingExtraError(ImportError, ValueError):
    """A package is not installed; the message says how to install it.

    It is a ValueError too, as is whatever a command reports in one line.
    """


@contextlib.contextmanager
def needing(extra: str, purpose: str) -> Iterator[None]:
    """Says how to install what an import within the body does not find.

    Args:
      extra: the name in setup.py.
      purpose: what needs it, the beginning of the message.

    Raises:
      MissingExtraError: a package is not there.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "rahf":
            raise  # a mistake, not a missing package
        raise MissingExtraError(
            f'{purpose} needs {error.name}: pip install "rahf[{extra}]"',
            name=error.name,
        ) from error
