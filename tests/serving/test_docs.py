"""docs/serving.md says what the catalogue and the command line say."""

import re
import shlex
from pathlib import Path

import pytest

from dca_hub import catalogue, cli
from dca_hub.serving.memory_table import NAMES, table

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_the_memory_table_is_the_catalogues():
    shown = re.search(r"<!-- memory table -->\n(.*?)\n<!-- end", GUIDE, re.DOTALL)[1]
    assert shown == table([catalogue.find(name) for name in NAMES])


def test_the_numbers_of_the_table():
    row = table([catalogue.find("llama-2-7b-chat")]).splitlines()[-1]
    per_token = 2 * 32 * 32 * 128 * 2
    assert f"| {per_token * 131_072 / 2**30:.1f} |" in row
    assert "none: share it" in table([catalogue.find("llama-3-70b-instruct")])


COMMANDS = re.findall(r"^python -m dca_hub (.*)$", GUIDE, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_guide_is_one(command):
    args = cli._parser().parse_args(shlex.split(command))
    assert args.command in ("serve", "ask")
