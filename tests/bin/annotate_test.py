"""`annotate` as its users call it, and killed while raters answer.

RAHF_ANNOTATE_KILLS=20 kills the server more often than the suite has time for.
"""

import json
import os
import pathlib
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid

import httpx2 as httpx
import numpy as np
import pytest
from PIL import Image

from rahf.annotation import tokens
from rahf.bin import annotate, annotate_flags
from rahf.datasets.ratings import rating_files

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCORES = {"plausibility": 2, "alignment": 4, "aesthetics": 3, "overall": 3}
KILLS = int(os.environ.get("RAHF_ANNOTATE_KILLS", "3"))
IMAGES = 800 + 200 * max(0, KILLS - 3)
LABEL = {"scores": SCORES, "nothing_wrong": True}


@pytest.fixture
def work(tmp_path):
    """A folder with images.jsonl and its images."""
    for index in range(IMAGES):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{index}.png")
    rows = [{"image": f"{index}.png", "prompt": "a cat"} for index in range(IMAGES)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "images.jsonl").write_text(text)
    return tmp_path


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _start(work, port) -> subprocess.Popen:
    words = ["-m", "rahf.bin.annotate", "serve", str(work / "images.jsonl")]
    words += [f"--images={work}", f"--workdir={work / 'w'}", f"--port={port}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    log = (work / "log.txt").open("a")
    server = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=environment, stdout=log, stderr=log
    )
    log.close()
    for _ in range(300):
        try:
            httpx.get(f"http://127.0.0.1:{port}/api/me")
            return server
        except httpx.TransportError:
            assert server.poll() is None, (work / "log.txt").read_text()
            time.sleep(0.05)
    raise TimeoutError


def _token(work, name, capsys, role="rater") -> str:
    flags = [f"--workdir={work / 'w'}", f"--role={role}"]
    annotate.main(["tokens", "make", name, *flags])
    found = re.fullmatch(r"http://\S+/#token=(\S+)\n", capsys.readouterr().out)
    assert found
    return found[1]


def _rate(port, token, acknowledged, stop) -> None:
    """Answers as fast as it can; resends until acknowledged, as the page does."""
    headers = {"authorization": f"Bearer {token}"}
    base = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=base, headers=headers, timeout=5) as client:

        def post(path, body):
            while not stop.is_set():
                try:
                    answer = client.post(path, json=body)
                except httpx.TransportError:
                    time.sleep(0.02)
                    continue
                if answer.status_code != 429:
                    return answer.json()
                time.sleep(0.05)
            return None

        while (found := post("/api/next", {})) and found["assignment"]:
            task = found["assignment"]
            event = {"id": str(uuid.uuid4()), "kind": "answer", "label": LABEL}
            path = f"/api/assignments/{task['id']}/events"
            if post(path, {"events": [event]}):
                acknowledged.append((task["id"], event["id"]))


def test_kill_9_loses_no_acknowledged_answer_and_doubles_none(work, capsys):
    port, stop, acknowledged = _free_port(), threading.Event(), []
    names = [f"r{index}" for index in range(4)]
    held = [_token(work, name, capsys) for name in names]
    server = _start(work, port)
    threads = [
        threading.Thread(target=_rate, args=(port, token, acknowledged, stop))
        for token in held
    ]
    try:
        for thread in threads:
            thread.start()
        for more in np.random.default_rng(KILLS).integers(5, 100, KILLS):
            wanted = len(acknowledged) + more  # the kill must come under load
            patience = time.monotonic() + 20
            while len(acknowledged) < wanted:
                assert time.monotonic() < patience, "nothing is answered"
                time.sleep(0.001)
            server.send_signal(signal.SIGKILL)
            server.wait()
            server = _start(work, port)
        refused = subprocess.run(
            [*server.args[:-1], "--port=0"],  # type: ignore[misc]
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode and "serving annotation" in refused.stderr
        annotate.main(["backup", f"--workdir={work / 'w'}", f"--output={work}/b.db"])
        stop.set()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        server.kill()
        server.wait()
    database = sqlite3.connect(work / "w" / "annotation.db")
    stored = database.execute("SELECT assignment, id FROM events").fetchall()
    database.close()
    assert 20 < len(acknowledged) < 3 * IMAGES, "none, or all before the kills"
    assert set(acknowledged) <= set(stored), "lost"
    assert len({pair[0] for pair in stored}) == len(stored), "doubled"
    output = work / "ratings.jsonl"
    annotate.main(["export", f"--workdir={work / 'w'}", f"--output={output}"])
    rated = rating_files.read(output)
    assert sum(len(image.ratings) for image in rated) == len(stored)
    annotate.main(["status", f"--workdir={work / 'w'}"])
    assert f"{IMAGES} images" in capsys.readouterr().out
    log = (work / "log.txt").read_text()
    assert not [token for token in held if token in log]


def test_tokens_are_listed_and_revoked(tmp_path, capsys):
    _token(tmp_path, "r1", capsys)
    flags = [f"--workdir={tmp_path / 'w'}"]
    annotate.main(["tokens", "list", *flags])
    assert capsys.readouterr().out == "rater    r1\n"
    annotate.main(["tokens", "revoke", "r1", *flags])
    with pytest.raises(SystemExit, match="nobody"):
        annotate.main(["tokens", "revoke", "r1", *flags])


def test_other_hosts_need_tls_or_a_proxy(tmp_path, capsys):
    words = ["serve", "x.jsonl", "--images=.", f"--workdir={tmp_path}"]
    with pytest.raises(SystemExit):
        annotate.main([*words, "--host=0.0.0.0"])
    assert "--behind_proxy" in capsys.readouterr().err
    for host in ("::1", "[::1]", "0:0::1", "127.0.0.1", "localhost"):
        annotate_flags.parse(None, [*words, f"--host={host}"])  # this machine alone
    with pytest.raises(SystemExit):
        annotate_flags.parse(None, [*words, "--host=2001:db8::1"])


def test_a_port_in_use_is_named(work):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flags = [str(work / "images.jsonl"), f"--images={work}", f"--port={port}"]
        with pytest.raises(SystemExit, match=rf"--port={port}: .*in use.*--port=0"):
            annotate.main(["serve", *flags, f"--workdir={work / 'w'}"])


def test_nothing_is_written_over_what_the_server_uses(work):
    flags = [f"--workdir={work / 'w'}"]
    annotate.main(["tokens", "make", "r1", *flags])
    tokens_before = (work / "w" / "tokens.json").read_bytes()
    for command in ("backup", "export"):
        for name in ("annotation.db", "annotation.db-wal", "tokens.json"):
            with pytest.raises(SystemExit, match="the server keeps its work there"):
                annotate.main([command, *flags, f"--output={work / 'w' / name}"])
    assert (work / "w" / "tokens.json").read_bytes() == tokens_before


def test_tokens_that_are_changed_at_once_are_all_changed(tmp_path):
    file = [tokens.TokenFile(tmp_path) for _ in range(8)]
    for each in file:
        each.people()  # what they know is old soon
    file[0].make("old", "rater")
    work = [threading.Thread(target=file[0].revoke, args=("old",))]
    work += [
        threading.Thread(target=each.make, args=(f"r{number}", "rater"))
        for number, each in enumerate(file)
    ]
    for each in work:
        each.start()
    for each in work:
        each.join()
    names = {person.name for person in tokens.TokenFile(tmp_path).people()}
    assert names == {f"r{number}" for number in range(8)}
