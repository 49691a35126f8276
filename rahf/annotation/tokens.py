"""Who may come in: secret tokens of raters and managers, kept as hashes.

A file of the workdir that the command changes while a server runs. It holds SHA-256 of
each token, never the token; tokens have 256 random bits, so that no salt is needed.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import hmac
import json
import os
import pathlib
import re
import secrets
from collections.abc import Iterator

from rahf import durable

FILE = "tokens.json"
#: Locked while the file is changed.
LOCK = ".tokens-lock"
ROLES = ("rater", "manager")


@dataclasses.dataclass(frozen=True)
class Person:
    """Who a token belongs to."""

    name: str
    role: str


class TokenFile:
    """The tokens of a workdir, read again when the file changes."""

    def __init__(self, workdir: str | os.PathLike):
        self._path = pathlib.Path(workdir) / FILE
        self._stamp: tuple[int, int] | None = None
        self._people: dict[str, dict] = {}

    def make(self, name: str, role: str) -> str:
        """Makes a token and returns it; it cannot be shown again.

        Raises:
          ValueError: the name is not usable, or has a token already.
        """
        if not re.fullmatch("[A-Za-z0-9_.-]{1,64}", name) or role not in ROLES:
            raise ValueError(
                f"name {name!r}, role {role!r}: expected 1 to 64 letters, digits, '.', "
                f"'_' or '-', and one of {', '.join(ROLES)}"
            )
        token = secrets.token_urlsafe(32)
        with self._changing() as people:
            if name in people:
                raise ValueError(f"{name!r} has a token already; revoke it first")
            people[name] = {"role": role, "sha256": _hash(token)}
        return token

    def revoke(self, name: str) -> None:
        """Makes a token useless; answers given with it stay.

        Raises:
          ValueError: nobody has that name.
        """
        with self._changing() as people:
            if people.pop(name, None) is None:
                raise ValueError(f"nobody is called {name!r}; see `tokens list`")

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, dict]]:
        """Lets the body change who has a token, after other processes that do."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_name(LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._stamp = None
            people = dict(self._read())
            yield people
            self._write(people)

    def people(self) -> list[Person]:
        """Returns who has a token."""
        return [Person(name, e["role"]) for name, e in self._read().items()]

    def find(self, token: str) -> Person | None:
        """Returns the owner of a token, in a time that does not tell how near it is."""
        wanted, found = _hash(token), None
        for name, entry in self._read().items():
            if hmac.compare_digest(entry["sha256"], wanted):
                found = Person(name, entry["role"])
        return found

    def _read(self) -> dict[str, dict]:
        try:
            state = self._path.stat()
        except FileNotFoundError:
            return {}
        stamp = (state.st_mtime_ns, state.st_ino)  # a rename changes the inode
        if stamp != self._stamp:
            self._people = json.loads(self._path.read_text("utf-8"))
            self._stamp = stamp
        return self._people

    def _write(self, people: dict[str, dict]) -> None:
        durable.write_text(self._path, json.dumps(people, indent=1) + "\n")
        self._path.chmod(0o600)
        self._stamp = None


def run(workdir: str, action: str, name: str | None, role: str, url: str) -> str:
    """Makes, lists or revokes tokens, and returns what to print about it.

    Args:
      workdir: the workdir.
      action: make, list or revoke.
      name, role: whose token (`make`, `revoke`).
      url: the server's address, for the link that `make` returns.

    Raises:
      ValueError: as `TokenFile.make` and `TokenFile.revoke`.
    """
    file = TokenFile(workdir)
    if action == "list" or name is None:
        return "\n".join(f"{person.role:8} {person.name}" for person in file.people())
    if action == "revoke":
        file.revoke(name)
        return f"{name}: revoked"
    return f"{url}/#token={file.make(name, role)}"


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
