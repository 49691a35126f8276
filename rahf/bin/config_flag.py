"""What the binaries with a --config share: the flag, and mistakes in it told in a line.

Nothing heavy is imported, so that `--help` answers at once.
"""

import sys
from collections.abc import Callable, Sequence

from absl import app
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="The config file; --config.key=value overrides a key."
)


def run(main: Callable[[], None]) -> None:
    """Reads the flags and calls main; ValueError from it ends with its message."""

    def call(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected arguments {argv[1:]}")
        try:
            main()
        except ValueError as error:
            sys.exit(f"error: {error}")

    app.run(call, flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        rest = app.parse_flags_with_usage(list(argv))
        getattr(CONFIG.value, "task", None)  # a file that is not there fails here
    except (AttributeError, KeyError) as error:
        message = str(error.args[0]).replace("\\n", ". ").replace("\\'", "")
        message = message.strip("'\"")
        sys.exit(f"error: a --config.* flag names a key that is not there: {message}")
    except (OSError, ValueError) as error:
        cause = " ".join(str(error.__cause__ or error).split())
        sys.exit(f"error: --config cannot be read: {cause}")
    return rest
