"""A served workdir as the network sees it: TLS; and as the disk does: synced."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.parse

import pytest
from PIL import Image

from rahf.annotation import assignment, client, serving, store, tokens
from rahf.annotation.records import Feedback, RatingTask
from rahf.datasets.ratings.consolidation import SCORE_FIELDS

ROOT = pathlib.Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def _served(folder, *flags):
    """Yields the address that the command prints."""
    (folder / "images.jsonl").write_text('{"image": "a.png", "prompt": "a cat"}\n')
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    words = ["-m", "rahf.bin.annotate", "serve", f"{folder}/images.jsonl", *flags]
    words += [f"--images={folder}", f"--workdir={folder / 'w'}", "--port=0"]
    server = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        line = server.stdout.readline()
        assert "serving" in line, line
        yield line.split()[-1]
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def _make_certificate(folder):
    """Writes a certificate for 127.0.0.1 that signs itself, and its key."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "rahf test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            pem,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


def test_with_a_certificate_all_goes_through_tls(tmp_path):
    certificate, key = _make_certificate(tmp_path)
    token = tokens.TokenFile(tmp_path / "w").make("r1", "rater")
    flags = ("--host=127.0.0.1", f"--certificate={certificate}", f"--key={key}")
    with _served(tmp_path, *flags) as url:
        assert url.startswith("https://127.0.0.1:")
        place = urllib.parse.urlsplit(url)
        trusting = ssl.create_default_context(cafile=str(certificate))
        secure = http.client.HTTPSConnection(
            place.hostname or "", place.port, context=trusting, timeout=30
        )
        body, kind = json.dumps({"token": token}), {"Content-Type": "application/json"}
        secure.request("POST", "/api/session", body, kind)
        answer = secure.getresponse()
        assert (answer.status, answer.version) == (200, 11) and answer.read()
        cookie, _, options = answer.headers["set-cookie"].partition(";")
        assert "secure" in options.lower(), "it must never travel without TLS"
        secure.request("GET", "/api/me", headers={"Cookie": cookie})
        assert json.loads(secure.getresponse().read())["name"] == "r1"
        secure.close()
        plain = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            plain.request("GET", "/")
            plain.getresponse()
        plain.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            client.AnnotationClient(url, token).next()


def test_more_practice_than_known_answers_is_refused(tmp_path):
    (tmp_path / "images.jsonl").write_text('{"image": "a.png"}\n')
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    options = serving.ServeOptions(
        tasks=str(tmp_path / "images.jsonl"),
        images=str(tmp_path),
        workdir=str(tmp_path / "w"),
        qualification=1,
    )
    with pytest.raises(ValueError, match="--qualification=1 needs .*has 0"):
        serving.serve(options)


def test_the_connection_that_writes_syncs_every_commit(tmp_path):
    with store.open_store(tmp_path) as opened, opened.transaction() as db:
        # A killed process cannot tell (its kernel lives on), a loss of power would.
        assert db.execute("PRAGMA synchronous").fetchone()[0] == 2, "FULL"
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_every_save_waits_for_the_disk(tmp_path):
    program = """
import sys
from rahf.annotation import store
with store.open_store(sys.argv[1]) as opened:
    opened.add_rater("first")
    print("BEGIN", file=sys.stderr, flush=True)
    for number in range(5):
        opened.submit(lambda: opened.add_rater(f"r{number}")).result()
    print("END", file=sys.stderr, flush=True)
"""
    words = ["strace", "-f", "-y", "-e", "trace=fsync,fdatasync,write"]
    done = subprocess.run(
        [*words, sys.executable, "-c", program, str(tmp_path / "w")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr[-2000:]
    between = done.stderr.partition('"BEGIN')[2].partition('"END')[0]
    synced = [
        line
        for line in between.splitlines()
        if "sync(" in line and "annotation.db-wal" in line
    ]
    assert len(synced) >= 5, between[-2000:]


def _serve(tmp_path, monkeypatch, capsys, **options):
    """Returns what a server prints, which ends at once."""
    import uvicorn

    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: None)
    # It would close the streams of all loggers, pytest's among them.
    monkeypatch.setattr(uvicorn.Config, "configure_logging", lambda self: None)
    row = {"image": "a.png", "prompt": "a cat"} | options.pop("row", {})
    (tmp_path / "images.jsonl").write_text(json.dumps(row))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    places = {"images": str(tmp_path), "workdir": str(tmp_path / "w"), "port": 0}
    tasks = str(tmp_path / "images.jsonl")
    serving.serve(serving.ServeOptions(tasks=tasks, **places, **options))
    return capsys.readouterr().out


def _wanted(tmp_path):
    with store.open_store(tmp_path / "w") as opened:
        return [row["wanted"] for row in opened.read("SELECT wanted FROM images")]


def test_another_number_of_raters_at_a_restart_is_applied_and_said(
    tmp_path, monkeypatch, capsys
):
    said = _serve(tmp_path, monkeypatch, capsys, raters=2)
    assert "--raters" not in said and _wanted(tmp_path) == [2]
    said = _serve(tmp_path, monkeypatch, capsys)
    assert "--raters" not in said and _wanted(tmp_path) == [2], "none is no other"
    said = _serve(tmp_path, monkeypatch, capsys, raters=5)
    assert "--raters=5: so many answers for 1 older images" in said
    assert _wanted(tmp_path) == [5]


def test_show_guesses_without_guesses_says_so(tmp_path, monkeypatch, capsys):
    said = _serve(tmp_path, monkeypatch, capsys)
    assert "--show_guesses" not in said
    said = _serve(tmp_path, monkeypatch, capsys, show_guesses=True)
    assert "--show_guesses: 0 of 1 images have a guess" in said
    row = {"guess": {"misaligned_words": [1]}}
    said = _serve(tmp_path, monkeypatch, capsys, show_guesses=True, row=row)
    assert "--show_guesses" not in said


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("::1", "[::1]"),
        ("[::1]", "[::1]"),
        ("2001:DB8:0:0::1", "[2001:db8::1]"),
        ("127.0.0.1", "127.0.0.1"),
        ("raters.example", "raters.example"),
    ],
)
def test_an_address_of_ipv6_is_as_browsers_have_it(given, host):
    assert serving.bracket(given) == host


def test_a_bare_address_of_ipv6_is_served(tmp_path, monkeypatch, capsys):
    said = _serve(tmp_path, monkeypatch, capsys, host="::1")
    assert "serving http://[::1]:" in said


# A folder is not read-only to root, whom this turns into nobody.
_EXPORT = """
import os, sys
from rahf.annotation import serving
if os.geteuid() == 0:
    os.setgid(65534), os.setuid(65534)
try:
    open(sys.argv[1] + "/x", "w")
except PermissionError:
    print(serving.export(workdir=sys.argv[1], output=sys.argv[2]))
"""


@pytest.mark.parametrize("log", [False, True])
def test_a_read_only_workdir_can_be_exported(log):
    with tempfile.TemporaryDirectory() as folder:  # whose parents all may enter
        work, out = pathlib.Path(folder) / "w", pathlib.Path(folder) / "out"
        with store.open_store(work) as opened:
            task = RatingTask(image="a.png", prompt="a cat")
            opened.add_images([(task, 8, 8)], raters=1)
            opened.add_rater("r1")
            taken = assignment.take(opened, "r1", assignment.AssignmentRules())
            label = Feedback(scores=dict.fromkeys(SCORE_FIELDS, 3), nothing_wrong=True)
            event = store.Event(id="12345678", kind="answer", label=label)
            opened.save(taken, "r1", [event], lease=100)
            if log:  # of a server that was killed
                shutil.copytree(work, work.with_name("killed"))
        work = work.with_name("killed") if log else work
        out.mkdir()
        (work / "annotation.db-shm").unlink(missing_ok=True)
        for place, mode in ((folder, 0o755), (out, 0o777), (work, 0o555)):
            os.chmod(place, mode)
        for file in work.iterdir():
            file.chmod(0o444)
        words = [sys.executable, "-c", _EXPORT, str(work), str(out / "ratings.jsonl")]
        done = subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, check=False
        )
        work.chmod(0o755)
        assert "1 answers" in done.stdout, done.stderr[-2000:]
        assert (out / "ratings.jsonl").read_text().count("\n") == 1
