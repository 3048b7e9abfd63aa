"""Says on the terminal how far vLLM is in starting, from a process of its own that ends when the server is ready.

`startup.py PID HOST PORT STAGE_FILE` is a script of the standard library alone: `dca-hub serve` runs it and then
becomes vLLM, so that signals and the exit code are vLLM's own. The plug-in writes into STAGE_FILE what vLLM is doing.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

_EVERY = 10  # seconds between two lines, the first ones of each stage aside
_TICK = 0.5


def watch_from_aside(host: str, port: int, stage_file: Path) -> None:
    """Starts the script for the server that this process becomes, out of reach of Ctrl-C and not as its child."""
    script = [sys.executable, __file__, str(os.getpid()), host, str(port), str(stage_file)]
    subprocess.run(script, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)


def reachable(host: str) -> str:
    """The address by which this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def url(host: str, port: int) -> str:
    """The address of an OpenAI-compatible server, for people of this machine."""
    name = reachable(host)
    return f"http://[{name}]:{port}/v1" if ":" in name else f"http://{name}:{port}/v1"


def watch(server: int, host: str, port: int, stage_file: Path) -> None:
    """Says how far the server is until it accepts connections or is gone."""
    started = told_at = time.monotonic()
    told = ""
    while _runs(server):
        seconds = time.monotonic() - started
        if _accepts(host, port):
            _say(f"ready after {seconds:.0f} s, at {url(host, port)}")
            return
        stage = _stage(stage_file)
        if stage != told or time.monotonic() - told_at >= _EVERY:
            _say(f"{seconds:.0f} s: {stage}")
            told, told_at = stage, time.monotonic()
        time.sleep(_TICK)
    _say(f"vLLM ended after {time.monotonic() - started:.0f} s without being ready; its first error above says why")


def _stage(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip() or "vLLM starts its processes"
    except OSError:
        return "vLLM starts its processes"


def _runs(server: int) -> bool:
    try:
        os.kill(server, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # one that has ended and was not waited for yet runs no more
        return Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((reachable(host), port), timeout=1).close()
    except OSError:
        return False
    return True


def _say(words: str) -> None:
    print(f"dca-hub: {words}", flush=True)


def _main(server: str, host: str, port: str, stage_file: str) -> None:
    if os.fork():
        os._exit(0)  # the parent goes on at once, and the one that watches is nobody's child
    os.setsid()
    try:
        watch(int(server), host, int(port), Path(stage_file))
    except BrokenPipeError:
        pass  # nobody reads any longer
    finally:
        Path(stage_file).unlink(missing_ok=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
