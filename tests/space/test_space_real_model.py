"""The chat with a real model, in a real browser: DCA_REAL_MODEL names its folder (SmolLM2-135M-Instruct is quick).

What a small model says is not asserted, only what the Space makes of it.
"""

import os
import re
from pathlib import Path

import pytest

MODEL = os.environ.get("DCA_REAL_MODEL", "")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(MODEL, "config.json").is_file(), reason="DCA_REAL_MODEL names no folder of a model"),
]


@pytest.fixture(scope="module")
def real(make_space):
    blocks, running = make_space(model=MODEL, models="demo", port=7960, read_ahead=True)
    yield running
    blocks.close()
    running.context.close()


def test_a_document_is_ready_asked_cited_continued_and_kept(visit, real, pdfs):
    visitor = visit(space=real)
    page = visitor.page
    visitor.bring(pdfs["short"])
    page.locator("#ready").get_by_text("Ready").wait_for()
    visitor.ask("What is the pass key?")
    answer = real.newest().turns[0].answers["dca"]
    assert answer.text and answer.stats.read_tokens < 60  # all but the question was read before
    assert {look.page for look in answer.looks} == {1, 2, 3}
    visitor.shoot("real-chat")
    page.locator(".dh-looked-most").click()
    page.locator(".dh-viewer .dh-looked-heat").first.wait_for()
    visitor.shoot("real-page")
    page.locator("[aria-label='Next page'], [aria-label='Previous page']").first.is_enabled()
    page.keyboard.press("Escape")

    page.locator("#answer-options button").first.click()
    page.locator("#longest input[type=number]").fill("8")
    page.locator("#longest input[type=number]").press("Enter")
    visitor.ask("Tell me everything that the document says.")
    page.get_by_text("reached the length limit that you set").wait_for()
    before = page.locator("#past .dh-text").last.inner_text()
    page.locator("#past [data-press=continue]").click()
    page.locator("#stop").wait_for()
    page.locator("#ask").wait_for()
    assert page.locator("#past .dh-text").last.inner_text().startswith(re.split(r"\[\d", before)[0].strip()[:20])
    page.wait_for_timeout(1200)
    page.reload()
    page.locator("#past .dh-turn").nth(1).wait_for()
    assert page.locator("#documents .dh-document").count() == 1


def test_stop_at_every_stage(visit, real, pdfs):
    """While the document is read, while the answer is written, and at once: what there is stays, and the next question
    is answered."""
    visitor = visit(space=real)
    page = visitor.page
    page.locator("#example").click()
    page.get_by_text("29 pages · ").wait_for()
    visitor.begin("Who is Ayala?")
    page.locator("#stop").click()
    page.locator("#past").get_by_text("what was read is kept").wait_for()
    page.locator("#ask").wait_for()
    page.locator("#documents .dh-cross").click()
    page.get_by_text("No document yet").wait_for()
    visitor.bring(pdfs["short"])
    page.locator("#question textarea").fill("Tell me a long story about the keeper.")
    page.locator("#ask").click()
    page.locator("#live .dh-caret").wait_for()
    page.locator("#stop").click()
    page.locator("#past .dh-turn").nth(1).get_by_text("Stopped.").wait_for()
    page.locator("#question textarea").fill("What is the pass key?")
    page.locator("#ask").click()
    page.locator("#stop").click()
    page.locator("#ask").wait_for()
    visitor.ask("What is the pass key?")
    assert page.locator("#past .dh-answer").last.get_attribute("data-state") == "done"
