"""CSV and TSV tables that people write: a careless comma or quote is an error.

Every table of text in the project is read here, so that a file means the same to all.
"""

import codecs
import csv
import io
import os
import pathlib
from collections.abc import Iterator

#: Which character separates cells, by the file's suffix.
SEPARATORS = {".csv": ",", ".tsv": "\t"}

# Messages of Python's reader that a quote in the wrong place is behind.
_QUOTES = ("unexpected end", "expected after", "field larger")


class TableError(ValueError):
    """A malformed table.

    Attributes:
      line: where the malformed row begins, counted from 1.
      problem: what is wrong with it.
    """

    def __init__(self, path: str | os.PathLike, line: int, problem: str):
        self.line, self.problem = line, problem
        super().__init__(f"{path}, line {line}: {problem}")


class StrictReader:
    """Iterates the rows of a table as {column: cell}.

    Python's own reader takes an unclosed quote to enclose the rest of the file, and
    puts surplus cells aside, so that a prompt with an unquoted comma is cut at it.
    Here a row must have the cells of the header, and a cell that begins with a quote
    must end with one; quotes inside it are doubled. Other cells may hold quotes as
    they are. Spaces after a separator and around the names of columns do not count.
    Empty lines are passed over.

    Attributes:
      columns: the names in the header; empty where the file is.
      line: where the row that came last begins, counted from 1.
    """

    def __init__(self, path: str | os.PathLike, *, short: bool = False):
        """Reads the file and its header.

        Args:
          path: the file, in UTF-8; `.tsv` is separated by tabs, all others by commas.
          short: allow rows that end early; their last columns are then absent.

        Raises:
          TableError: it is not UTF-8, or a column appears twice.
          OSError: it cannot be read.
        """
        self.path, self._short = pathlib.Path(path), short
        self._separator = SEPARATORS.get(self.path.suffix.lower(), ",")
        self._reader = csv.reader(
            io.StringIO(read_text(self.path), newline=""),
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
        """Yields the rows; raises TableError where one is malformed."""
        while (cells := self._next_cells()) is not None:
            expected, got = len(self.columns), len(cells)
            if got > expected or (got < expected and not self._short):
                name = {",": "comma", "\t": "tab"}[self._separator]
                raise TableError(
                    self.path,
                    self.line,
                    f"expected {expected} cells as in the header, got {got}; "
                    f"quote cells that hold a {name}",
                )
            yield dict(zip(self.columns, cells, strict=False))

    def _next_cells(self) -> list[str] | None:
        """Returns the cells of the next row that is not empty, None at the end."""
        while True:
            self.line = self._reader.line_num + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return None
            except csv.Error as error:
                problem = f"not a row of a table ({error})"
                if any(part in str(error) for part in _QUOTES):
                    problem += (
                        "; is a closing quote missing? A cell that begins with a "
                        "quote ends with one, and quotes inside it are doubled"
                    )
                raise TableError(self.path, self.line, problem) from error
            if len(cells) > 1 or any(cells):
                return cells


def read_text(path: str | os.PathLike) -> str:
    """Reads a UTF-8 file, without the byte order mark that spreadsheets put first.

    Raises:
      TableError: a byte that is not UTF-8, with its line.
      OSError: the file cannot be read.
    """
    data = pathlib.Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"expected UTF-8 text, got byte 0x{data[error.start]:02x}"
        raise TableError(path, line, f"{problem}; save the file as UTF-8") from error
