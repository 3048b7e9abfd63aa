"""A user's machine in the tests: its own home and caches, and the commands run on it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from support.hub_server import OWNER_TOKEN, Hub

ROOT = Path(__file__).resolve().parents[2]
BASE = "org/tiny-llama"


@dataclass
class Machine:
    home: Path
    hub: Hub
    token: str | None = OWNER_TOKEN
    seconds: int = 300  # that a command may take

    def environment(self, **more: str) -> dict[str, str]:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING", "TRANSFORMERS"))
        }
        return {
            **kept,
            "HOME": str(self.home),
            "HF_HOME": str(self.home / "hf"),
            "HF_ENDPOINT": self.hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            **({"HF_TOKEN": self.token} if self.token else {}),
            **more,
        }

    def run(self, *arguments: str, expect: int | None = 0, **more: str) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            text=True,
            env=self.environment(**more),
            cwd=self.home,
            timeout=self.seconds,
        )
        if expect is not None and done.returncode != expect:
            raise AssertionError(f"exit code {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def dca_hub(self, *arguments: str, expect: int | None = 0, **more: str) -> subprocess.CompletedProcess:
        return self.run("-m", "dca_hub", *arguments, expect=expect, **more)

    def python(self, code: str, expect: int | None = 0, **more: str) -> subprocess.CompletedProcess:
        return self.run("-c", code, expect=expect, **more)

    def json(self, code: str, **more: str):
        """What the code printed last, read as JSON."""
        return json.loads(self.python(code, **more).stdout.strip().splitlines()[-1])
