"""The --config flag that several binaries share, and one-line errors for it.

Nothing heavy is imported, so that `--help` is fast.
"""

import re
import sys
import traceback
from collections.abc import Callable, Sequence

from absl import app, flags
from ml_collections import config_flags

from rahf.bin import shipped

CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="A config file, or the name of a shipped config."
)
_HELP = ("--help", "-help", "-h", "--helpshort", "--helpfull")


def run(main: Callable[[], None]) -> None:
    """Parses the flags and calls `main`; a ValueError exits with its message alone."""

    def call(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            sys.exit(f"error: unexpected arguments {argv[1:]}; flags begin with --")
        try:
            main()
        except ValueError as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)

    app.run(call, flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        if any(argument in _HELP for argument in argv[1:]):
            print(_help(argv))
            sys.exit(0)
        rest = flags.FLAGS(shipped.resolve_arguments(argv))
        getattr(CONFIG.value, "task", None)  # a file that is not there fails here
    except (AttributeError, KeyError) as error:
        message = str(error.args[0]).replace("\\n", ". ").replace("\\'", "")
        message = message.strip("'\"")
        sys.exit(f"error: a --config.* flag names an unknown key: {message}")
    except flags.Error as error:
        sys.exit(f"error: {_describe(error)}")
    except (OSError, ValueError) as error:
        cause = " ".join(str(error.__cause__ or error).split())
        sys.exit(f"error: --config cannot be read: {cause}")
    except Exception as error:  # noqa: BLE001  whatever the code of a config raises
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if isinstance(error, SyntaxError) else f"{last[0]}, line {last[1]}: "
        cause = f"{where}{type(error).__name__}: {error}"
        sys.exit(f"error: --config cannot be read: {' '.join(cause.split())}")
    return rest


def _describe(error: flags.Error) -> str:
    """One line; of a config key, which type of value it takes."""
    if "Traceback (most recent call last)" in str(error):  # from `get_config`
        return f"--config cannot be read: {_last_of_traceback(str(error))}"
    message = " ".join(str(error).split())
    # The flags of keys exist only beside --config.
    needed = r"Flag --(\w+) must have a value|Unknown command line flag '(config)\."
    if missing := ["".join(names) for names in re.findall(needed, message)]:
        return f"missing flags: {', '.join(f'--{name}' for name in missing)}"
    found = re.match(r"flag --config\.([\w.]+)=(.*?): ", message)
    if found is None:  # the config may not have been read
        return message
    try:
        value = CONFIG.value
        for name in found[1].split("."):
            value = value[name]
    except (KeyError, TypeError, AttributeError):
        return message
    if hasattr(value, "items"):
        return f"--config.{found[1]} has keys of its own: {', '.join(value)}; set these"
    return (
        f"--config.{found[1]}={found[2]}: expected {type(value).__name__}, as in "
        f"--config.{found[1]}={value!r}"
    )


def _last_of_traceback(text: str) -> str:
    """Returns the error at the end; where it is, unless the config raised it itself."""
    *_, last = text.strip().splitlines()
    if last.startswith("ValueError: "):
        return last.removeprefix("ValueError: ")
    *_, (path, line) = re.findall(r'File "(.+?)", line (\d+)', text)
    return f"{path}, line {line}: {last}"


def _help(argv: Sequence[str]) -> str:
    """Describes the binary, its flags, the shipped configs and the config's keys."""
    lines = [
        (sys.modules["__main__"].__doc__ or "").strip(),
        flags.FLAGS.main_module_help(),
        "Shipped configs, by name or as a path (configs/NAME.py):\n",
        shipped.listing(),
        "\nAny key can be overridden, as in --config.input.batch_size=16.",
    ]
    chosen = [
        argument.partition("=")[2]
        for argument in argv
        if argument.startswith(("--config=", "-config="))
    ]
    if not chosen:
        return "\n".join([*lines, "--config=NAME --help lists a config's keys."])
    keys = shipped.keys(shipped.load(chosen[-1]))
    lines.append(f"\nThe keys of {chosen[-1]} and their values:\n")
    return "\n".join([*lines, *(f"  --config.{k}={v!r}" for k, v in keys.items())])
