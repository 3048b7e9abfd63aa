"""A Space on its way to the Hub and back: started from the download, and asked a question."""

import json
import re
import subprocess
import sys

import pytest
from gradio_client import Client, handle_file

from dca_hub.publishing.allowed import in_space
from support.pdfs import make_pdf, save

FRONT = "---\ntitle: A\nsdk: gradio\nsdk_version: 6.31.0\napp_file: app.py\n---\n# A\n"
NAME = "me/chat"


@pytest.fixture
def folder(tmp_path):
    """The least that is a Space, with strays that must not leave."""
    place = tmp_path / "space"
    (place / "sub" / "__pycache__").mkdir(parents=True)
    for name, text in {
        "README.md": FRONT,
        "app.py": "print('hello')\n",
        "requirements.txt": "gradio\n",
        "sub/tool.py": "x = 1\n",
        ".env": "SECRET=1\n",
        "sub/__pycache__/tool.pyc": "x",
        "service.key": "x",
    }.items():
        (place / name).write_text(text, encoding="utf-8")
    (place / "outside.txt").symlink_to("/etc/hostname")
    return place


def publish(user, folder, *options, expect: int = 0):
    done = user.dca_hub("publish-space", str(folder), NAME, *options, expect=expect)
    assert user.token is None or user.token not in done.stdout + done.stderr
    return done


def test_the_files_the_settings_and_nothing_else(hub, machine, folder):
    user = machine()
    options = ("--suggest-hardware", "t4-small", "--preload", "org/a", "--variable", "DCA_MAX_PAGES=9")
    done = publish(user, folder, *options, "--json")
    space = hub.repositories["space", NAME]
    assert set(space.files) == {".gitattributes", "README.md", "app.py", "requirements.txt", "sub/tool.py"}
    said = json.loads(done.stdout)
    assert said["left_out"] == [".env", "outside.txt", "service.key", "sub/__pycache__/tool.pyc"]
    card = space.files["README.md"].decode()
    assert "suggested_hardware: t4-small" in card and "preload_from_hub:\n- org/a" in card
    assert space.created_with["sdk"] == "gradio" and "hardware" not in space.created_with
    assert space.created_with["variables"] == [{"key": "DCA_MAX_PAGES", "value": "9"}]
    stages = [line for line in done.stderr.splitlines() if line in ("building", "app starting", "running")]
    assert stages == ["building", "app starting", "running"]

    (folder / "sub/tool.py").unlink()
    (folder / "app.py").write_text("print('again')\n", encoding="utf-8")
    publish(user, folder, *options[:4], "--variable", "DCA_MAX_PAGES=12")
    assert set(space.files) == {".gitattributes", "README.md", "app.py", "requirements.txt"}
    assert space.variables == {"DCA_MAX_PAGES": "12"} and len(space.commits) == 3
    publish(user, folder, *options[:4])
    assert len(space.commits) == 3, "nothing changed"


@pytest.mark.parametrize(
    "options, words",
    [
        (("--variable", "HF_TOKEN=x"), "looks like a secret"),
        (("--variable", "GREETING=hf_" + "aB3" * 12), "looks like a Hub token"),
        (("--variable", "GREETING"), "write NAME=VALUE"),
    ],
)
def test_secrets_are_no_variables(options, words, hub, machine, folder):
    done = publish(machine(), folder, *options, expect=2)
    assert words in done.stderr and "aB3aB3" not in done.stderr
    assert not hub.repositories


def test_a_build_that_fails_is_told(hub, machine, folder):
    hub.stages = ["BUILDING", "BUILD_ERROR"]
    done = publish(machine(), folder, expect=2)
    assert "The Space does not run (build error: the build broke)" in done.stderr


def test_a_dry_run_creates_nothing(hub, machine, folder):
    publish(machine(token=None), folder, "--dry-run")
    assert not hub.repositories and all(asked.startswith("GET") for asked in hub.requests)


def test_the_space_runs_from_the_download(hub, machine, tmp_path):
    user = machine()
    made = user.dca_hub("space", "--out", "made", "--json")
    names = json.loads(made.stdout)["files"]
    assert all(in_space(name) for name in names)
    hub.stages = ["RUNNING"]
    publish(user, user.home / "made")
    visitor = machine("visitor", token=None)
    visitor.python(
        f"from huggingface_hub import snapshot_download as get; get({NAME!r}, repo_type='space', local_dir='space')"
    )
    space = visitor.home / "space"
    kept = {path.relative_to(space).as_posix() for path in space.rglob("*") if path.is_file()}
    assert kept - {".gitattributes"} == set(names) | {n for n in kept if n.startswith(".cache/")}
    key = "48213"
    pages = [f"Page {n}. The ship went on over the sea. " * 10 for n in range(1, 4)]
    pdf = save(tmp_path, make_pdf([pages[0], f"The pass key is {key}. Remember it. {key} is the pass key.", pages[1]]))
    environment = visitor.environment(PYTHONPATH="", GRADIO_ANALYTICS_ENABLED="False", PYTHONUNBUFFERED="1")
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=space,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        url, said = None, []
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"http://[\d.:]+", line):
                url = found[0]
                break
        assert url, "".join(said)
        client = Client(url, verbose=False)
        answer = client.predict(handle_file(str(pdf)), "What is the pass key?", api_name="/ask")
        assert key in json.dumps(answer)
    finally:
        process.kill()
        process.wait()
