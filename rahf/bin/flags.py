"""Flags that the binaries share.

JAX is imported only after the flags are parsed, so that `--help` is fast.
"""

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rahf.evaluation.metrics.accumulator import CONVENTIONS
from rahf.targets import Kind


def new_parser(
    prog: str, description: str | None, **options: Any
) -> argparse.ArgumentParser:
    """Returns a parser without flags that prints its description verbatim."""
    return argparse.ArgumentParser(
        prog=f"python -m rahf.bin.{prog}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **options,
    )


def make_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the flags that all evaluation binaries share."""
    parser = new_parser(prog, description)
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--checkpoint", metavar="W", help="workdir of a training run")
    text = "what rahf.bin.predict or score wrote, or JSON lines of another tool"
    which.add_argument("--predictions", metavar="DIR", help=text)
    add_labels(parser)
    add("--step", type=a_step, help="a step, latest or best (latest)")
    add("--split", default="test", help="split of the task (%(default)s)")
    add_measuring(parser)
    return parser


def add_measuring(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of how a split is measured."""
    add = parser.add_argument
    add(
        "--batch_size",
        type=at_least(1),
        help="examples at a time (config.eval.batch_size)",
    )
    add(
        "--convention",
        choices=CONVENTIONS,
        default="rahf",
        help="richhf gives the numbers of the first author's release (%(default)s)",
    )


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Adds the flag that `take_labels` reads."""
    parser.add_argument(
        "--labels",
        metavar="W",
        help="workdir or config whose task has the labels that predictions are compared "
        "with, matched by id or path (the workdir that the predictions name)",
    )


def take_labels(args: argparse.Namespace) -> Any:
    """Returns what `--labels` names: a workdir, or the config; None without."""
    import pathlib

    from rahf.bin import shipped

    named = args.labels
    if named is None or named.startswith("gs://") or pathlib.Path(named).is_dir():
        return named
    try:
        return shipped.load(named)
    except ValueError as error:
        raise ValueError(
            f"--labels={named}: no workdir; as a config: {error}"
        ) from error


def at_least(low: int) -> Callable[[str], int]:
    """Returns an argparse type: integers of at least `low`."""

    def number(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"{value} is less than {low}")
        return value

    return number


def finite(low: float = -math.inf, high: float = math.inf) -> Callable[[str], float]:
    """Returns a type for argparse: numbers from `low` to `high`, not NaN or infinite."""

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value) or not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"{value:g} is not a finite number from {low:g} to {high:g}"
            )
        return value

    return number


def a_step(text: str) -> str:
    """An argparse type: the step of a checkpoint, "latest" or "best"."""
    if text not in ("latest", "best") and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a step, latest or best")
    return text


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Ends the program with the message alone where the input was at fault.

    After Ctrl-C it ends with 130, the shells' code of an interrupted program.
    """
    try:
        yield
    except OSError as error:
        named = error.filename is not None and error.strerror
        why = f"{error.filename}: {error.strerror}" if named else error
        raise SystemExit(f"error: {why}") from error
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def evaluation_request(args: argparse.Namespace, **fields: Any):
    """Returns the `EvaluationRequest` that the flags of `make_parser` ask for.

    Args:
      args: the parsed flags.
      **fields: further fields of the request.
    """
    from rahf.evaluation.runs import EvaluationRequest

    return EvaluationRequest(
        checkpoint=args.checkpoint,
        predictions=args.predictions,
        labels=take_labels(args),
        step=args.step,
        split=args.split,
        batch_size=args.batch_size,
        convention=args.convention,
        **fields,
    )


def evaluate(
    kind: Kind, name: str, description: str | None, argv: Sequence[str] | None
) -> None:
    """The main function of the binaries that evaluate one kind of target."""
    parser = make_parser(f"eval_{name}", description)
    add = parser.add_argument
    add("--examples", type=at_least(0), default=0, help="records to measure; 0 = all")
    add("--output", help="folder to write to (W/eval/<split>, DIR/eval/<split>)")
    trivial = "measure beside it what needs no model, and mark what does not beat that"
    add("--baseline", choices=("trivial",), help=trivial)
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the config's task or input, to evaluate on other or "
        "moved data: input.richhf.data_dir=DIR; repeatable, needs --output",
    )
    args = parser.parse_args(argv)
    if args.checkpoint and args.labels:
        parser.error(
            "--labels is for --predictions; a checkpoint has labels of its own"
        )
    if args.set and not args.output:
        parser.error("--set needs --output: W/eval is for the run's own data")
    with clear_errors():
        from rahf.evaluation.runs import evaluate_run

        request = evaluation_request(
            args,
            examples=args.examples,
            settings=args.set,
            output=args.output,
            baseline=args.baseline,
        )
        print(evaluate_run(request, kind, name))
