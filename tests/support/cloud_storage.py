"""A server on this machine that answers as Google Cloud Storage does.

It serves what gcsfs, tensorstore and google-cloud-storage ask for: buckets, listings,
ranges, the three kinds of upload, copies, batches and conditions on generations. The
objects are a dict, which tests copy, damage and put back.
"""

import contextlib
import email
import functools
import http.server
import json
import pathlib
import re
import sys
import threading
import urllib.parse
from collections.abc import Iterator

import fsspec

_OBJECT = re.compile(r"(?:/download)?/storage/v1/b/(\w+)/o/(.+)")
_COPY = re.compile(r"(?:/storage/v1)?/b/(\w+)/o/([^/]+)/rewriteTo/b/(\w+)/o/([^/]+)")


class Bucket:
    """The bucket `gs://bucket`.

    Attributes:
      objects: name -> (content, generation).
      refused: (method, part of the path) -> the status that requests get instead.
      asked: (method, path) of every request.
      url: the server's address.
    """

    def __init__(self):
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.refused: dict[tuple[str, str], int] = {}
        self.asked: list[tuple[str, str]] = []
        self.url = ""
        self.lock = threading.RLock()
        self._generation = 1_000

    def put(self, name: str, data: bytes) -> int:
        with self.lock:
            self._generation += 1
            self.objects[name] = (data, self._generation)
            return self._generation

    def copy_in(self, folder: pathlib.Path, prefix: str) -> None:
        """Puts the files of a local folder into the bucket."""
        for path in filter(pathlib.Path.is_file, folder.rglob("*")):
            self.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())

    def names(self, prefix: str = "") -> list[str]:
        return sorted(name for name in self.objects if name.startswith(prefix))

    def read(self, name: str) -> bytes:
        return self.objects[name][0]


@contextlib.contextmanager
def serving(monkeypatch) -> Iterator[Bucket]:
    """Serves an empty bucket to all clients in this process and its children."""
    bucket = Bucket()
    handler = functools.partial(_Handler, bucket=bucket)
    with _Server(("127.0.0.1", 0), handler) as server:
        bucket.url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", bucket.url)
        monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", bucket.url)
        monkeypatch.setenv("GCE_METADATA_ROOT", "127.0.0.1:1")
        # gcsfs would ask Google, over gRPC, of which kind the bucket is.
        monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        _forget()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield bucket
        finally:
            server.shutdown()
            thread.join()
            _forget()


def _forget() -> None:
    """Forgets the clients of an earlier server."""
    from etils.epath import backend
    from orbax.checkpoint._src.path import gcs_utils

    fsspec.get_filesystem_class("gs").clear_instance_cache()
    backend._FileSystemSpecBackend._get_filesystem.cache_clear()
    gcs_utils.get_bucket.cache_clear()


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """Clients that have ended are no errors; others are printed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one piece, flushed after each request
    disable_nagle_algorithm = True

    def __init__(self, *args, bucket):
        self._bucket = bucket
        super().__init__(*args)

    def handle_expect_100(self):
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def _answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(self._chunks())
        else:
            body = self.rfile.read(length)
        self._bucket.asked.append((self.command, self.path))
        self._send(*self._handle(self.command, self.path, self.headers, body))

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _answer

    def _chunks(self):
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _handle(self, method, path, headers, body):
        """Returns (status, headers, body)."""
        url = urllib.parse.urlsplit(path)
        query = dict(urllib.parse.parse_qsl(url.query))
        for (refused, part), status in self._bucket.refused.items():
            if method == refused and part in urllib.parse.unquote(path):
                return _error(status, "refused by the test")
        if url.path == "/batch/storage/v1":
            return self._batch(headers, body)
        if "/b/bucket" not in url.path:
            return _error(404, "The specified bucket does not exist.")
        with self._bucket.lock:
            if url.path.startswith("/upload"):
                return self._upload(query, headers, body)
            if found := _COPY.fullmatch(url.path):
                source, target = (urllib.parse.unquote(found[i]) for i in (2, 4))
                return self._copy(source, target)
            if found := _OBJECT.fullmatch(url.path):
                name = urllib.parse.unquote(found[2])
                return self._object(method, name, query, headers)
            if url.path.endswith("/o"):
                return _json(self._list(query))
        return _json({"kind": "storage#bucket", "name": "bucket", "id": "bucket"})

    def _object(self, method, name, query, headers):
        data, generation = self._bucket.objects.get(name, (None, 0))
        if not _matches(query, generation):
            return _error(412, "conditionNotMet")
        if data is None:
            return _error(404, f"No such object: bucket/{name}")
        if method == "DELETE":
            del self._bucket.objects[name]
            return 204, {}, b""
        if query.get("alt") != "media":
            return _json(_about(name, data, generation))
        if query.get("ifGenerationNotMatch") == str(generation):
            return 304, {}, b""
        extra = {"x-goog-generation": str(generation)}
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("Range", ""))
        if part and data:
            start, last = int(part[1]), min(int(part[2] or len(data)), len(data) - 1)
            extra["Content-Range"] = f"bytes {start}-{last}/{len(data)}"
            return 206, extra, data[start : last + 1]
        return 200, extra, data

    def _upload(self, query, headers, body):
        name = query.get("name", "")
        if query["uploadType"] == "resumable" and "upload_id" not in query:
            name = name or json.loads(body)["name"]
            place = f"{self._bucket.url}{self.path}&upload_id=1"
            return 200, {"Location": place}, b""
        if query["uploadType"] == "multipart":
            head = f"Content-Type: {headers['Content-Type']}\n\n".encode()
            parts = email.message_from_bytes(head + body).get_payload()
            name = json.loads(parts[0].get_payload(decode=True))["name"]
            body = _second_part(headers["Content-Type"], body)
        if not _matches(query, self._bucket.objects.get(name, (None, 0))[1]):
            return _error(412, "conditionNotMet")
        return _json(_about(name, body, self._bucket.put(name, body)))

    def _copy(self, source, target):
        if source not in self._bucket.objects:
            return _error(404, f"No such object: bucket/{source}")
        data = self._bucket.read(source)
        about = _about(target, data, self._bucket.put(target, data))
        return _json({"done": True, "resource": about})

    def _list(self, query):
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        first, end = query.get("startOffset", ""), query.get("endOffset")
        items, prefixes = [], set()
        for name in self._bucket.names(prefix):
            if name < first or (end and name >= end):
                continue
            inside, found, _ = name[len(prefix) :].partition(delimiter or "\0")
            if found:
                prefixes.add(prefix + inside + delimiter)
            else:
                items.append(_about(name, *self._bucket.objects[name]))
        most = int(query.get("maxResults", 1_000))
        return {"items": items[:most], "prefixes": sorted(prefixes)[:most]}

    def _batch(self, headers, body):
        boundary = re.search(r'boundary="?([^";]+)', headers["Content-Type"])[1]
        answers = []
        for part in re.findall(rb"(DELETE|GET) (\S+) HTTP", body):
            method, path = (text.decode() for text in part)
            status, _, text = self._handle(method, path, {}, b"")
            answers.append(
                f"--{boundary}\r\nContent-Type: application/http\r\n\r\n"
                f"HTTP/1.1 {status} Done\r\n\r\n{text.decode()}\r\n"
            )
        whole = "".join(answers) + f"--{boundary}--"
        kind = f"multipart/mixed; boundary={boundary}"
        return 200, {"Content-Type": kind}, whole.encode()

    def _send(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


def _second_part(kind: str, body: bytes) -> bytes:
    """Returns the bytes of a multipart upload's object, whatever they are."""
    boundary = re.search(r'boundary="?([^";]+)', kind)[1].strip("'").encode()
    part = body.split(b"--" + boundary)[2]
    return re.split(rb"\r?\n\r?\n", part, maxsplit=1)[1].removesuffix(b"\n")


def _matches(query, generation: int) -> bool:
    wanted = query.get("ifGenerationMatch")
    return wanted is None or int(wanted) == generation


def _about(name: str, data: bytes, generation: int) -> dict:
    return {
        "kind": "storage#object",
        "bucket": "bucket",
        "name": name,
        "id": f"bucket/{name}/{generation}",
        "size": str(len(data)),
        "generation": str(generation),
        "updated": "2026-01-01T00:00:00.000Z",
        "timeCreated": "2026-01-01T00:00:00.000Z",
    }


def _json(content) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


def _error(status: int, message: str) -> tuple[int, dict[str, str], bytes]:
    content = {"error": {"code": status, "message": message}}
    return status, {"Content-Type": "application/json"}, json.dumps(content).encode()
