"""The chat in a real browser."""

import json
import re
import threading
import time

import pytest

pytestmark = pytest.mark.browser
KEY, EXAMPLE_KEY = "48213", "71432"


def test_upload_ask_and_open_the_page(visit, pdfs):
    visitor = visit()
    page = visitor.page
    visitor.shoot("chat-empty")
    visitor.bring(pdfs["short"])
    assert "3 pages" in page.locator("#documents .dh-facts").inner_text()
    meter = page.locator("#meter").inner_text()
    assert all(
        words in meter for words in ("Trained window", "Reach with DCA", "Memory on this server", "tokens of context")
    )
    visitor.ask("What is the pass key?")
    answer = page.locator("#past .dh-answer").last.inner_text()
    assert KEY in answer and "first token" in answer and "tokens/s" in answer

    page.locator(".dh-chip", has_text="p. 2").first.click()
    page.locator(".dh-viewer").wait_for()
    assert page.locator(".dh-viewer").get_attribute("data-marked") == "true"
    assert KEY in page.locator(".dh-quote").inner_text()
    assert page.locator(".dh-page").evaluate("image => image.naturalWidth") > 500
    visitor.shoot("chat-citation")
    page.locator(".dh-viewer .dh-cross").click()
    page.locator(".dh-viewer").wait_for(state="detached")


def test_a_read_document_says_what_can_be_asked(visit, pdfs):
    visitor = visit()
    page = visitor.page
    visitor.bring(pdfs["short"])
    page.locator(".dh-ready").get_by_text("finds a number hidden").wait_for()
    assert page.locator("[data-question]").count() == 0
    page.locator("#example").click()
    page.locator("[data-question]").wait_for()
    visitor.shoot("chat-ready")
    page.locator("[data-question]").click()
    assert page.locator("#question textarea").input_value() == "What is the pass key?"
    page.keyboard.press("Enter")
    page.locator(".dh-question", has_text="What is the pass key?").wait_for()
    page.locator("#stop").click()
    page.locator("#ask").wait_for()


def test_the_second_question_answers_at_least_ten_times_sooner(visit, space):
    visitor = visit()
    page = visitor.page
    page.locator("#example").click()
    page.locator("#meter .dh-meter").wait_for()
    assert space.newest().document_tokens > 15_500
    visitor.begin("What is the pass key?")
    assert "tokens/s" in page.locator(".dh-reading").inner_text() and "left" in page.locator(".dh-reading").inner_text()
    visitor.shoot("chat-reading")
    page.locator("#past .dh-turn").first.wait_for(timeout=120_000)
    visitor.ask("What is the pass key?")
    first, second = (next(iter(turn.answers.values())) for turn in space.newest().turns)
    assert EXAMPLE_KEY in first.text and EXAMPLE_KEY in second.text
    print(f"first token: {first.stats.first_token_seconds:.2f} s, then {second.stats.first_token_seconds:.2f} s")
    assert second.stats.first_token_seconds * 10 <= first.stats.first_token_seconds
    page.locator(".dh-chip").last.click()
    page.locator(".dh-viewer[data-marked=true]").wait_for()
    visitor.shoot("chat-example")


def test_stop_while_reading_frees_the_model_within_two_seconds(visit, space):
    visitor = visit()
    page = visitor.page
    page.locator("#example").click()
    page.locator("#meter .dh-meter").wait_for()
    visitor.begin("What is the pass key?")
    page.wait_for_timeout(1500)
    session = space.newest()
    begun = time.monotonic()
    page.locator("#stop").click()
    assert session.job.wait(5)
    took = time.monotonic() - begun
    page.locator("#past .dh-stopped").wait_for()
    print(f"stopped after {took:.2f} s")
    assert took < 2.0
    assert re.search(r"Stopped after [\d,]+ of [\d,]+ tokens", page.locator("#past .dh-stopped").inner_text())
    assert session.turns[-1].answers["dca"].state == "stopped"
    visitor.shoot("chat-stopped")
    kept = session.conversations["exact"].cached_tokens
    assert kept > 0
    page.locator("#ask").wait_for()


def test_side_by_side_shows_what_dca_changes(visit):
    visitor = visit()
    page = visitor.page
    page.locator("#example").click()
    page.get_by_text("29 pages · ").wait_for()
    page.locator("#reading-options button").first.click()
    page.locator("#pages input").fill("12-17")
    page.locator("#apply").click()
    page.get_by_text("6 of 29 pages · ").wait_for()
    page.locator("#mode").get_by_text("Side by side").click()
    visitor.ask("What is the pass key?")
    answers = page.locator("#past .dh-answer")
    assert answers.count() == 2
    assert "With DCA" in answers.nth(0).inner_text() and EXAMPLE_KEY in answers.nth(0).inner_text()
    assert "Plain" in answers.nth(1).inner_text() and "tokens/s" in answers.nth(1).inner_text()
    assert EXAMPLE_KEY not in answers.nth(1).inner_text()
    boxes = [answers.nth(n).bounding_box() for n in (0, 1)]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] < boxes[1]["x"]
    visitor.shoot("chat-side-by-side")


def test_retry_undo_clear_and_export(visit, pdfs, tmp_path):
    visitor = visit()
    page = visitor.page
    visitor.bring(pdfs["short"])
    visitor.ask("What is the pass key?")
    turns = page.locator("#past .dh-turn")
    with page.expect_download() as caught:
        page.locator("#export-json").click()
    caught.value.save_as(tmp_path / "conversation.json")
    saved = json.loads((tmp_path / "conversation.json").read_text())
    assert KEY in saved["turns"][0]["answers"]["dca"]["text"] and saved["documents"][0]["name"] == "short.pdf"
    with page.expect_download() as caught:
        page.locator("#export-markdown").click()
    caught.value.save_as(tmp_path / "conversation.md")
    assert KEY in (tmp_path / "conversation.md").read_text()

    turns.first.evaluate("turn => { turn.dataset.before = '' }")
    page.locator("#retry").click()  # Stop may come and go faster than a busy machine looks
    page.locator("#past .dh-turn:not([data-before])").wait_for()
    page.locator("#ask").wait_for()
    assert turns.count() == 1 and KEY in turns.first.inner_text()
    page.locator("#undo").click()
    page.locator(".dh-empty").wait_for()
    assert page.locator("#question textarea").input_value() == "What is the pass key?"
    visitor.ask("What is the pass key?")
    page.locator("#clear").click()
    page.locator(".dh-empty").wait_for()
    assert page.locator("#documents .dh-document").count() == 1
    page.locator("#problem").get_by_text("Bring it back").click()
    turns.first.wait_for()
    assert KEY in turns.first.inner_text()
    page.locator(".dh-asked [data-press=undo]").click()
    page.locator(".dh-empty").wait_for()
    assert page.locator("#question textarea").input_value() == "What is the pass key?"


def test_what_is_cleared_while_it_is_answered_can_be_brought_back(visit):
    visitor = visit()
    page = visitor.page
    page.locator("#example").click()
    page.locator("#meter .dh-meter").wait_for()
    visitor.begin("What is the pass key?")
    page.locator("#clear").click()
    page.locator(".dh-empty").wait_for()
    page.locator("#ask").wait_for()
    page.wait_for_timeout(500)
    assert page.locator(".dh-turn").count() == 0
    page.locator("#problem").get_by_text("Bring it back").click()
    page.locator("#past .dh-turn").wait_for()
    assert "Stopped" in page.locator("#past .dh-turn").inner_text()


def test_a_reload_and_the_way_back_keep_documents_and_conversation_and_another_tab_has_neither(visit, pdfs):
    visitor = visit()
    page = visitor.page
    visitor.bring(pdfs["short"])
    visitor.ask("What is the pass key?")
    page.wait_for_timeout(1500)  # the tab notes its session twice a second
    page.reload()
    page.locator("#past .dh-turn").wait_for()
    assert KEY in page.locator("#past").inner_text() and page.locator("#documents .dh-document").count() == 1
    page.goto("about:blank")
    page.go_back()
    page.locator("#past .dh-turn").wait_for()
    visitor.ask("What is the pass key?")
    assert page.locator("#past .dh-turn").count() == 2
    other = visitor.browser_context.new_page()
    other.goto(visitor.space.url)
    other.get_by_text("No document yet").wait_for()
    assert other.locator(".dh-turn").count() == 0


def test_a_second_document_keeps_the_conversation_and_a_typo_keeps_the_text(visit, pdfs):
    visitor = visit()
    page = visitor.page
    visitor.bring(pdfs["short"])
    visitor.ask("What is the pass key?")
    page.locator("#reading-options button").first.click()
    page.locator("#pages input").fill("9-x")
    page.locator("#apply").click()
    page.locator("#documents .dh-error").wait_for()
    assert "3 pages" in page.locator("#documents").inner_text()
    page.locator("#example").click()
    page.get_by_text("29 pages · ").wait_for()
    assert page.locator("#past .dh-turn").count() == 1 and page.locator("#which").is_visible()
    page.locator("#documents .dh-cross").nth(1).click()
    page.wait_for_function("document.querySelectorAll('#documents .dh-document').length == 1")
    visitor.ask("What is the pass key?")
    assert KEY in page.locator("#past .dh-answer").last.inner_text()


def test_pages_can_be_turned_enlarged_and_closed_by_key_and_the_focus_comes_back(visit, pdfs):
    visitor = visit()
    page = visitor.page
    visitor.bring(pdfs["short"])
    visitor.ask("What is the pass key?")
    page.locator(".dh-cite").first.click()
    page.locator(".dh-viewer").wait_for()
    page.wait_for_function("document.activeElement.closest('.dh-viewer')")
    assert page.locator(".dh-strip-cell").count() == 3
    told = page.locator(".dh-strip-cell[aria-current=page]").get_attribute("title")
    assert re.search(r"Page 2; 100 % of the answer stands here; \d+ % of the attention to the pages", told)
    legend = page.locator(".dh-keys").inner_text()
    assert "by comparing words" in legend and "the model looked at while it wrote" in legend
    page.locator("[aria-label='Next page']").click()
    page.get_by_text("Page 3 of 3").wait_for()
    assert page.locator("[aria-label='Next page']").is_disabled() and page.locator(".dh-quote").count() == 0
    width = page.locator(".dh-page").bounding_box()["width"]
    page.locator(".dh-zoom").click()
    assert page.locator(".dh-page").bounding_box()["width"] > 1.8 * width
    page.locator(".dh-strip-cell").nth(1).click()
    page.locator(".dh-viewer[data-marked=true]").wait_for()
    page.keyboard.press("Escape")
    page.locator(".dh-viewer").wait_for(state="detached")
    page.wait_for_function("document.activeElement.matches('.dh-cite, .dh-chip')")
    page.locator(".dh-looked-most").click()
    page.get_by_text("Page 2 of 3").wait_for()  # the model looked where the key stands
    page.keyboard.press("Escape")
    page.locator(".dh-viewer").wait_for(state="detached")
    page.locator("#documents .dh-opens").click()  # the whole PDF, from its first page
    page.get_by_text("Page 1 of 3").wait_for()
    assert page.locator(".dh-quote").count() == 0 and page.locator(".dh-keys").count() == 0


def test_two_questions_in_a_row_are_answered_once_and_the_second_is_refused(visit, pdfs, space):
    visitor = visit()
    page = visitor.page
    visitor.bring(pdfs["short"])
    gate = threading.Event()
    blocked = space.context.lane.submit(lambda tell: gate.wait(60))
    page.locator("#question textarea").fill("What is the pass key?")
    page.locator("#question textarea").press("Enter")
    page.locator("#live").get_by_text("Waiting for the model").wait_for()
    page.locator("#question textarea").fill("And the second?")
    page.locator("#question textarea").press("Enter")
    page.locator("#problem").get_by_text("still working on your last request").wait_for()
    assert page.locator("#question textarea").input_value() == "And the second?"  # nothing is lost
    gate.set()
    assert blocked.wait(10)
    page.locator("#past .dh-turn").wait_for()
    page.locator("#ask").wait_for()
    assert page.locator("#past .dh-turn").count() == 1 and KEY in page.locator("#past").inner_text()


def test_copy_puts_the_answer_on_the_clipboard(visit, pdfs):
    visitor = visit(permissions=["clipboard-read", "clipboard-write"])
    visitor.bring(pdfs["short"])
    visitor.ask("What is the pass key?")
    visitor.page.locator("[data-copy]").first.click()
    visitor.page.get_by_text("Copied").wait_for()
    assert KEY in visitor.page.evaluate("navigator.clipboard.readText()")


def test_bad_pdfs_each_get_a_sentence(visit, pdfs):
    visitor = visit()
    page = visitor.page
    expected = {
        "disguised": "not a PDF",
        "scanned": "no OCR",
        "damaged": "damaged",
        "locked": "give the password",
        "deep": "far more work than pages of text do",
    }
    visitor.bring(*(pdfs[name] for name in expected))
    for row in page.locator("#documents .dh-document").all():
        name, words = row.locator(".dh-name").inner_text().removesuffix(".pdf"), row.inner_text()
        assert expected[name] in words and "Traceback" not in words and "/tmp" not in words
    visitor.shoot("chat-bad-pdfs", full_page=True)

    page.locator("#password input").fill("open sesame")
    page.locator("#apply").click()
    page.get_by_text("1 page ·").wait_for()
    page.locator("#ask").wait_for()
    rows = page.locator("#documents .dh-document")
    for left in reversed(range(rows.count())):
        rows.first.locator(".dh-cross").click()
        page.wait_for_function(f"document.querySelectorAll('#documents .dh-document').length == {left}")
    page.get_by_text("No document yet").wait_for()
    visitor.bring(pdfs["short"])
    visitor.ask("What is the pass key?")
    assert KEY in page.locator("#past").inner_text()


def test_asking_without_a_document_says_what_to_do(visit):
    visitor = visit()
    visitor.page.locator("#question textarea").fill("What?")
    visitor.page.locator("#question textarea").press("Enter")
    visitor.page.get_by_text("There is no document to ask about yet").wait_for()
    visitor.page.wait_for_timeout(1000)
    assert visitor.page.locator("#ask").inner_text() == "Ask" and visitor.page.locator(".dh-empty").is_visible()


def test_who_was_idle_for_long_is_told_that_the_documents_are_gone(visit, pdfs, space):
    visitor = visit()
    page = visitor.page
    visitor.bring(pdfs["short"])
    visitor.ask("What is the pass key?")
    sessions, session = space.context.sessions, space.newest()
    [key] = [key for key, held in sessions._held.items() if held is session]
    sessions.close(key, "Nothing was asked here for 20 minutes, so your documents were deleted: add them again.")
    page.locator(".dh-chip").first.click()
    page.locator("#problem").get_by_text("Nothing was asked here for 20 minutes").wait_for()
    page.locator("#question textarea").fill("What?")
    page.locator("#ask").click()
    page.locator("#problem").get_by_text("add them again").wait_for()
    page.locator("#upload input[type=file]").set_input_files(str(pdfs["short"]))
    page.locator(".dh-ready").wait_for()
    visitor.ask("What is the pass key?")
    assert KEY in page.locator("#past").inner_text()


def test_what_others_write_is_never_markup(visit, builders, tmp_path):
    attack = (
        "<img src=x onerror=window.pwned=1> ${window.pwned=2} {{constructor.constructor('window.pwned=3')()}} **b**"
    )
    path = tmp_path / "<img src=x onerror=pwned=4>${pwned=5}.pdf"
    path.write_bytes(builders.make_pdf([attack + "\n" + "<script>window.pwned=6</script>"]))
    bad = tmp_path / "<b onmouseover=pwned=7>.pdf"
    bad.write_bytes(b"%PDF-1.7 nothing")
    visitor = visit()
    page = visitor.page
    visitor.bring(path, bad)
    visitor.ask(attack)
    assert page.locator(".dh-question").inner_text().endswith(attack)
    chips = page.locator(".dh-chip")
    if chips.count():
        chips.first.click()
        page.locator(".dh-viewer").wait_for()
    page.wait_for_timeout(500)
    assert page.evaluate("window.pwned") is None
    assert page.locator("#past img, #past script, #documents img").count() == 0
