"""docs/cli.md is what the parsers say."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_reference_is_what_the_commands_say():
    made = subprocess.run(
        [sys.executable, "-m", "dca_hub.cli.reference"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    if sys.version_info[:2] == (3, 11):  # argparse lays lines out differently from one Python to the next
        assert made == written, "run: python -m dca_hub.cli.reference > docs/cli.md"
    options = lambda text: set(re.findall(r"--[a-z][a-z0-9-]+", text))
    assert len(options(made)) > 50 and options(made) == options(written)
