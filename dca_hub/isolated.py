"""Runs a script of this project in a fresh process that knows nothing of the project, and reads its lines of JSON."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any


class ScriptFailed(Exception):
    """The script ended with an error or ran out of time; the message is the last line of what it complained of."""


def run_script(
    script: Path, *arguments: str, environment: Mapping[str, str] = os.environ, timeout: float | None = None
) -> Iterator[dict[str, Any]]:
    """The JSON objects that a script prints, one a line, each as soon as it is there. Closing the iterator ends it.

    Raises:
        ScriptFailed: after the last object.
    """
    command = [sys.executable, str(script), *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=dict(environment)
    )
    assert process.stdout is not None and process.stderr is not None  # both are pipes
    answers, errors, complaints = process.stdout, process.stderr, []
    # Read apart: a script that fills one pipe would wait for ever for the reader of the other.
    listener = threading.Thread(target=lambda: complaints.extend(errors), daemon=True)
    listener.start()
    timer = threading.Timer(timeout, process.kill) if timeout else None
    try:
        if timer:
            timer.start()
        with closing(answers):
            for line in answers:
                if line.startswith("{"):  # a library may print too
                    yield json.loads(line)
        listener.join()
        code = process.wait()
    finally:
        if timer:
            timer.cancel()
        process.kill()
        process.wait()
    if code:
        said = [line.strip() for line in complaints if line.strip()]
        raise ScriptFailed(said[-1] if said else f"exit code {code}")
