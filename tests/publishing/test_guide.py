"""The publishing guide, command by command, against a Hub on loopback."""

import re
import shlex

from support.machines import ROOT


def commands_of(page: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_every_command_of_the_guide_works(hub, machine):
    hub.stages = ["RUNNING"]
    commands = commands_of("docs/publishing.md")
    assert len(commands) == 6 and all(line.startswith("python -m dca_hub ") for line in commands)
    user = machine()
    said = [user.run(*shlex.split(line)[1:]).stdout for line in commands]
    assert "loaded back from the Hub" in said[2]
    assert {("model", "me/demo-dca"), ("space", "me/chat")} == set(hub.repositories)
    [tag] = hub.model("me/demo-dca").tags
    assert re.fullmatch(r"dca-[0-9a-f]{12}", tag)
