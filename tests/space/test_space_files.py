"""What visitors brought is deleted when the program ends, however it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import httpx
import pytest

from dca_hub.space import folders

_ROOT = Path(__file__).resolve().parents[2]


def _start(folder: Path) -> tuple[subprocess.Popen, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "TMPDIR": str(folder), "DCA_READ_AHEAD": "no"}
    environment.pop("GRADIO_TEMP_DIR", None)
    process = subprocess.Popen([sys.executable, "app.py", "--port", str(port)], cwd=_ROOT, env=environment)
    url, begun = f"http://127.0.0.1:{port}", time.monotonic()
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return process, url
        except OSError:
            assert process.poll() is None and time.monotonic() - begun < 150
            time.sleep(0.2)


def _bring(url: str, path: Path) -> None:
    """A document that a session has copied, and one that nobody has asked for yet."""
    from gradio_client import Client, handle_file

    with httpx.Client() as client:
        client.post(f"{url}/gradio_api/upload", files={"files": ("left.pdf", path.read_bytes())})
    Client(url, verbose=False).submit(handle_file(str(path)), "What?", "dca", "", "", 1000, api_name="/ask")


def _files(folder: Path) -> list[Path]:
    return [path for prefix in folders.PREFIXES for path in folder.glob(f"{prefix}*/**/*.pdf")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_leaves_no_file_of_a_visitor(tmp_path, pdfs, number):
    process, url = _start(tmp_path)
    try:
        _bring(url, pdfs["example"])
        deadline = time.monotonic() + 60
        while len(_files(tmp_path)) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(_files(tmp_path)) >= 2
        process.send_signal(number)
        assert process.wait(40) == 128 + number
    finally:
        process.kill()
    assert not [path for prefix in folders.PREFIXES for path in tmp_path.glob(f"{prefix}*")]


def test_what_a_killed_program_left_goes_at_the_next_start(tmp_path):
    code = "import sys, time; from dca_hub.space import folders; p = folders.make('dca-space-', sys.argv[1]); "
    code += "(p / 'x.pdf').touch(); print(p, flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=_ROOT, stdout=subprocess.PIPE, text=True
    )
    left = Path(process.stdout.readline().strip())
    own = folders.make("dca-uploads-", tmp_path)
    (tmp_path / "dca-space-somebody-elses").mkdir()
    assert folders.remove_dead(tmp_path) == []  # it lives
    process.kill()
    process.wait(10)
    process.stdout.close()
    assert folders.remove_dead(tmp_path) == [left] and not left.exists()
    assert own.is_dir() and (tmp_path / "dca-space-somebody-elses").is_dir()
    folders.remove(own)
    assert not own.exists()
