"""Which file in a folder is meant by another tool's path or address of an image."""

import pathlib
import re
import urllib.parse

from rahf.annotation.task_files import find_image

# Label Studio puts eight hexadecimal digits before the name of an uploaded file.
_UPLOADED = re.compile("[0-9a-f]{8}-(.+)")


class ImageNames:
    """Finds images by name in a folder; no address is ever fetched.

    Args:
      folder: the folder of images.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._found: dict[str, str] = {}

    def find(self, reference: str) -> str:
        """Returns the path, within the folder, of the image that is meant.

        That is the longest end of the given path at which there is a file, so that
        `https://host/data/upload/7/1a2b3c4d-cat.png` is `upload/7/1a2b3c4d-cat.png`,
        `1a2b3c4d-cat.png` or `cat.png`.

        Args:
          reference: a path or an address, such as `/data/local-files/?d=a/cat.png`.

        Raises:
          ValueError: there is none in the folder.
        """
        if reference in self._found:
            return self._found[reference]
        tried = list(dict.fromkeys(self._candidates(reference)))
        for name in tried:
            try:
                if find_image(self._folder, name).is_file():
                    self._found[reference] = name
                    return name
            except (ValueError, OSError):  # outside, or no name of a file at all
                continue
        shown = f"; looked for {', '.join(tried)}" if tried else ""
        raise ValueError(
            f"image {reference!r:.200}: no such file in {self._folder}{shown}; put the "
            "image there (no address is fetched)"
        )

    def _candidates(self, reference: str):
        for path in _paths(reference):
            parts = [part for part in path.split("/") if part not in ("", ".")]
            if ".." in parts:
                continue
            for start in range(len(parts)):
                yield "/".join(parts[start:])
            if parts and (found := _UPLOADED.fullmatch(parts[-1])):
                yield found[1]


def _paths(reference: str) -> list[str]:
    reference = reference.replace("\\", "/")
    if "://" not in reference and not reference.startswith("/"):
        return [reference]
    try:
        address = urllib.parse.urlsplit(reference)
        local = urllib.parse.parse_qs(address.query).get("d", [])
    except ValueError:
        return [reference]
    decoded = urllib.parse.unquote(address.path)
    return [*local, *([] if local else [decoded, address.path, reference])]
