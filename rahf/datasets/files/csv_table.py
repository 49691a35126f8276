"""CSV tables that people write: what a careless comma does to them is an error."""

import csv


class StrictReader(csv.DictReader):
    """Rows as {column: cell}; `csv.Error` where cells and header do not agree.

    Python's own reader puts surplus cells aside, so a prompt with an unquoted comma
    would be cut at it and the columns behind it shift.

    Args:
      file: opened with newline="".
      short: allow rows that end early; their last columns are then absent.
    """

    def __init__(self, file, *, short: bool = False):
        super().__init__(file)
        self._short = short

    @property
    def columns(self) -> list[str]:
        """The header; `csv.Error` where a name stands there twice."""
        names = list(self.fieldnames or [])
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise csv.Error(f"column {twice[0]!r} stands there twice")
        return names

    def __next__(self) -> dict[str, str]:
        row = super().__next__()
        surplus = row.pop(None, [])
        given = {name: cell for name, cell in row.items() if cell is not None}
        if surplus or (len(given) < len(row) and not self._short):
            raise csv.Error(
                f"expected {len(row)} cells as in the header, got "
                f"{len(given) + len(surplus)}; quote cells that hold a comma"
            )
        return given
