"""The folder of a Space: whole, and started by itself."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from dca_hub.errors import DcaHubError
from dca_hub.space import folder, settings


def test_a_space_folder_is_whole_and_says_what_a_space_needs(tmp_path):
    out = tmp_path / "space"
    files = folder.write(out, models="smollm-360m-instruct", hardware="cpu-basic")
    assert {"README.md", "app.py", "requirements.txt", "settings.json", "dca_hub/loading.py"} <= set(files)
    assert {"dca_hub/modeling/dual_chunk_attention.py", "dca_hub/configs/demo.yaml"} <= set(files)
    assert "dca_hub/demo/model/model.safetensors" in files and not any("__pycache__" in name for name in files)
    front = yaml.safe_load((out / "README.md").read_text().split("---")[1])
    assert front["sdk"] == "gradio" and front["app_file"] == "app.py" and len(front["short_description"]) <= 60
    assert front["models"] == front["preload_from_hub"] == ["HuggingFaceTB/SmolLM-360M-Instruct"]
    read = settings.read([], {"SPACE_ID": "a/b"}, out / "settings.json")
    assert read.choices() == ["demo", "smollm-360m-instruct"]
    with pytest.raises(DcaHubError, match="force=True"):
        folder.write(out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(DcaHubError, match="not a Space"):
        folder.write(tmp_path / "mine", force=True)
    with pytest.raises(DcaHubError, match="catalogue"):
        folder.write(tmp_path / "other", model="no-such")
    assert not (tmp_path / "other").exists()


def test_the_app_of_a_space_is_the_app_of_the_checkout():
    assert (Path(folder.__file__).parents[2] / "app.py").read_text() == folder.APP


def test_a_space_folder_starts_by_itself(tmp_path):
    out = tmp_path / "space"
    folder.write(out)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, "app.py", "--port", str(port)], cwd=out, env=environment)
    try:
        while True:
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read().decode()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() - begun < 90
                time.sleep(0.1)
        print(f"started in {time.monotonic() - begun:.1f} s")
        assert "DCA Hub" in page and "fonts.googleapis" not in page
    finally:
        process.terminate()
        process.wait(20)
