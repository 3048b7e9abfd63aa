"""Uploads: copied when they are taken, swept from Gradio's folder, and gone with the session."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dca_hub.errors import DcaHubError
from dca_hub.space import leftovers, uploads
from dca_hub.space.settings import Settings

_ROOT = Path(__file__).resolve().parents[2]


def test_what_is_old_goes_and_what_is_new_stays(tmp_path):
    (tmp_path / "hash").mkdir()
    (tmp_path / "hash" / "a.pdf").write_bytes(b"x" * 10)
    (tmp_path / "empty").touch()
    leftovers.sweep(tmp_path, kept=60)
    assert len(list(tmp_path.rglob("*"))) == 3
    time.sleep(0.05)
    leftovers.sweep(tmp_path, kept=0.01)
    time.sleep(0.05)
    leftovers.sweep(tmp_path, kept=0.01)
    assert not list(tmp_path.rglob("*"))


def test_the_oldest_make_room_when_the_folder_is_full(tmp_path):
    for name in ("first", "second", "third"):
        (tmp_path / name).write_bytes(b"x" * 10)
        time.sleep(0.02)
    leftovers.sweep(tmp_path, most=25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["second", "third"]


def test_the_folder_is_the_programs_own_and_goes_with_it(tmp_path):
    code = (
        "from dca_hub.space.leftovers import upload_folder\n"
        "with upload_folder() as folder:\n"
        "    import gradio\n"
        "    assert gradio.File().GRADIO_CACHE == gradio.route_utils.DEFAULT_TEMP_DIR == str(folder)\n"
        "    (folder / 'left').touch()\n"
        "print(folder)\n"
    )
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).parent == tmp_path and not list(tmp_path.iterdir())


def test_a_document_that_cannot_be_read_anew_says_so_and_what_is_still_in_use(space, pdfs):
    c = space.context
    session = c.sessions.make()
    upload = uploads.take(session, str(pdfs["short"]), c.sessions, c.settings)
    for pages in ("1-2", "7"):
        upload.pages = pages
        list(uploads.read(session, [upload], c.host, c.sessions, c.settings))
    shown = uploads.listing(session)
    assert "7 is not a page range" in shown and f"Still in use, as read before: 2 of 3 pages · {upload.tokens}" in shown
    upload.pages = "3"
    list(uploads.read(session, [upload], c.host, c.sessions, c.settings))
    assert "1 of 3 pages" in uploads.listing(session) and "Still in use" not in uploads.listing(session)
    c.sessions.free(session)


def test_an_upload_that_is_gone_or_too_much_is_a_sentence(space, pdfs, tmp_path):
    session = space.context.sessions.make()
    with pytest.raises(DcaHubError, match="upload the file again"):
        uploads.take(session, str(tmp_path / "gone.pdf"), space.context.sessions, space.context.settings)
    uploads.take(session, str(pdfs["short"]), space.context.sessions, Settings(max_documents=1))
    with pytest.raises(DcaHubError, match="at most 1 document:"):
        uploads.take(session, str(pdfs["short"]), space.context.sessions, Settings(max_documents=1))
    assert pdfs["short"].exists()
    space.context.sessions.free(session)
    assert not session.folder.exists()
