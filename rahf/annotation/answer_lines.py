"""Answers as lines of a raters' file, as docs/annotate.md describes it."""

import json
from collections.abc import Iterable, Iterator

from rahf.annotation.records import Answer


def export_lines(answers: Iterable[Answer]) -> Iterator[str]:
    """Yields a line for each answer, with its end; skips are left out."""
    for answer in answers:
        if answer.label is not None:
            yield json.dumps(answer.row(), ensure_ascii=False) + "\n"
