"""Reads CSV and TSV tables strictly: a misplaced comma or quote is an error.

All text tables of the project are read here, so that a file always means the same.
"""

import codecs
import csv
import os
import pathlib
from collections.abc import Iterator

#: File suffix -> the character that separates cells.
SEPARATORS = {".csv": ",", ".tsv": "\t"}

# Messages of Python's reader that a misplaced quote causes.
_QUOTES = ("unexpected end", "expected after", "field larger")


class TableError(ValueError):
    """A malformed table.

    Attributes:
      line: the line where the malformed row begins, counted from 1.
      problem: what is wrong with it.
    """

    def __init__(self, path: str | os.PathLike, line: int, problem: str):
        self.line, self.problem = line, problem
        super().__init__(f"{path}, line {line}: {problem}")


class StrictReader:
    """Iterates over the rows of a table as {column: cell}.

    Python's own reader lets an unclosed quote enclose the rest of the file, and sets
    surplus cells aside, which truncates a prompt at an unquoted comma. Here a row must
    have as many cells as the header, and a cell that begins with a quote must end with
    one; quotes inside it are doubled. Other cells may contain quotes as they are.
    Spaces after a separator and around column names are ignored, and so are empty
    lines.

    Attributes:
      columns: the names in the header; none if the file is empty.
      line: the line where the latest row begins, counted from 1.
    """

    def __init__(self, path: str | os.PathLike, *, short: bool = False):
        """Reads the header; rows are read as they are asked for.

        Args:
          path: the file, in UTF-8; `.tsv` is separated by tabs, all others by commas.
          short: whether rows may end early; their last columns are then absent.

        Raises:
          TableError: the header is not UTF-8, or a column appears twice.
          OSError: the file cannot be read.
        """
        self.path, self._short = pathlib.Path(path), short
        self._separator = SEPARATORS.get(self.path.suffix.lower(), ",")
        self._reader = csv.reader(
            read_lines(self.path),
            delimiter=self._separator,
            skipinitialspace=True,
            strict=True,
        )
        self.line = 1
        self.columns = [name.strip() for name in self._next_cells() or []]
        for name in self.columns:
            if name and self.columns.count(name) > 1:
                raise TableError(self.path, 1, f"column {name!r} appears twice")

    def __iter__(self) -> Iterator[dict[str, str]]:
        """Yields the rows; raises TableError if one is malformed or not UTF-8."""
        while (cells := self._next_cells()) is not None:
            expected, got = len(self.columns), len(cells)
            if got > expected or (got < expected and not self._short):
                name = {",": "comma", "\t": "tab"}[self._separator]
                raise TableError(
                    self.path,
                    self.line,
                    f"expected {expected} cells as in the header, got {got}; "
                    f"quote cells that contain a {name}",
                )
            yield dict(zip(self.columns, cells, strict=False))

    def _next_cells(self) -> list[str] | None:
        """Returns the cells of the next non-empty row, or None at the end."""
        while True:
            self.line = self._reader.line_num + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return None
            except csv.Error as error:
                problem = f"cannot parse the row ({error})"
                if any(part in str(error) for part in _QUOTES):
                    problem += (
                        "; is a closing quote missing? A cell that begins with a "
                        "quote must end with one, and quotes inside it are doubled"
                    )
                raise TableError(self.path, self.line, problem) from error
            if len(cells) > 1 or any(cells):
                return cells


def read_lines(path: str | os.PathLike) -> Iterator[str]:
    """Yields the lines of a UTF-8 file with their ends, one in memory at a time.

    A line ends with "\\n", "\\r" or both; the byte order mark that spreadsheets write is
    left out.

    Raises:
      TableError: a line is not UTF-8.
      OSError: the file cannot be read.
    """
    with pathlib.Path(path).open(encoding="utf-8-sig", newline="") as file:
        try:
            yield from file
        except UnicodeDecodeError:
            read_text(path)  # which says where; the decoder knows its own block alone
            raise  # not if the file was mended meanwhile


def read_text(path: str | os.PathLike) -> str:
    """Reads a UTF-8 file, without the byte order mark that spreadsheets write.

    Raises:
      TableError: the file is not UTF-8; names the line.
      OSError: the file cannot be read.
    """
    data = pathlib.Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"expected UTF-8 text, got byte 0x{data[error.start]:02x}"
        raise TableError(path, line, f"{problem}; save the file as UTF-8") from error
