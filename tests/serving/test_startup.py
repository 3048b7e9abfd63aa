"""What is said while vLLM starts, and what is refused before."""

import os
import socket
import subprocess
import sys

import pytest

from dca_hub import DcaHubError
from dca_hub.serving import startup
from dca_hub.serving.launch import Wanted, public_note, refuse_port
from dca_hub.vllm_plugin import stage

# A server that takes connections once its standard input is closed.
SERVER = """
import socket, sys
sys.stdin.read()
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
while True:
    listening.accept()[0].close()
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_the_stages_and_the_address_are_told(tmp_path, monkeypatch):
    """By the script as `serve` runs it: it outlives the process that started it, and ends by itself."""
    port, file = free_port(), tmp_path / "stage"
    file.touch()
    monkeypatch.setenv(stage.STAGE_VARIABLE, str(file))
    with subprocess.Popen([sys.executable, "-c", SERVER, str(port)], stdin=subprocess.PIPE) as server:
        try:
            command = [sys.executable, startup.__file__, str(server.pid), "0.0.0.0", str(port), str(file)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as script:
                assert script.wait(60) == 0, "what watches is its child"
                lines = iter(script.stdout.readline, "")
                assert "s: vLLM starts its processes" in next(lines)
                stage.building("cpu")
                assert "s: loading the weights" in next(lines)
                stage.built("cpu", compiles=True)
                assert "s: compiling the model, about 90 s at a first start" in next(lines)
                server.stdin.close()
                *_, last = lines
                assert last.startswith("dca-hub: ready after") and f"at http://127.0.0.1:{port}/v1" in last
        finally:
            server.kill()
    assert not file.exists()
    stage.built("cpu", compiles=True)  # nobody asks any longer
    assert not file.exists()


def test_a_server_that_ends_before_it_is_ready_is_said(tmp_path, capsys):
    server = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    startup.watch(server.pid, "127.0.0.1", free_port(), tmp_path / "none")  # ended, and not waited for
    server.wait()
    startup.watch(server.pid, "127.0.0.1", free_port(), tmp_path / "none")
    assert capsys.readouterr().out.count("without being ready; its first error above says why") == 2


@pytest.mark.parametrize(
    "host, said",
    [
        ("127.0.0.1", "http://127.0.0.1:8000/v1"),
        ("0.0.0.0", "http://127.0.0.1:8000/v1"),
        ("::", "http://[::1]:8000/v1"),
        ("example.org", "http://example.org:8000/v1"),
    ],
)
def test_the_address_for_people_of_this_machine(host, said):
    assert startup.url(host, 8000) == said


def test_a_port_that_is_taken_is_refused_before_anything_is_loaded():
    taken = pytest.raises(DcaHubError, match=r"Port \d+ is in use, .*: choose another port")
    with socket.create_server(("127.0.0.1", 0)) as other, taken:
        refuse_port(Wanted(port=other.getsockname()[1]))
    refuse_port(Wanted(port=free_port()))
    refuse_port(Wanted(port=0))
    with pytest.raises(DcaHubError, match="choose another host"):
        refuse_port(Wanted(host="192.0.2.1", port=free_port()))  # an address of documentation: nobody's


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_ports_of_ipv6():
    try:
        other = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 on the loopback")
    with other, pytest.raises(DcaHubError, match="is in use"):
        refuse_port(Wanted(host="::1", port=other.getsockname()[1]))


def test_an_open_address_is_warned_of(monkeypatch):
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    assert "it asks for no key" in public_note(Wanted(host="0.0.0.0"))
    for closed in (Wanted(), Wanted(host="::1"), Wanted(host="localhost")):
        assert public_note(closed) is None
    assert public_note(Wanted(host="0.0.0.0", further=("--api-key", "secret"))) is None
    monkeypatch.setitem(os.environ, "VLLM_API_KEY", "secret")
    assert public_note(Wanted(host="::")) is None
