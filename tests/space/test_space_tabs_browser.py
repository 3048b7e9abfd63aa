"""The other tabs, and the whole on other screens, in a real browser."""

import json
import re
import time

import pytest

from dca_hub.evaluation import needle, runs
from dca_hub.modeling.dual_chunk_geometry import DualChunkGeometry

pytestmark = pytest.mark.browser
_TABS = ("chat", "needle", "explain", "model")


def _choose(visitor, group: str, wanted: list[str]) -> None:
    for box in visitor.page.locator(f"#{group} label").all():
        on = any(box.inner_text().startswith(f"{words} ") for words in wanted)
        box.locator("input").set_checked(on)


def test_needle_maps_fill_side_by_side_stop_and_go_on(visit, tmp_path):
    visitor = visit("?tab=needle", permissions=["clipboard-read", "clipboard-write"])
    page = visitor.page
    page.locator("#needle-run").wait_for()
    _choose(visitor, "needle-lengths", ["256", "512", "1,024", "2,048"])
    page.locator("#needle-depths input[type=number]").fill("3")
    page.locator("#needle-run").click()
    page.locator("button.dh-cell").nth(3).wait_for()
    sides = [page.locator(f"[data-side={side}] button.dh-cell").count() for side in ("dca", "plain")]
    assert abs(sides[0] - sides[1]) <= 1  # a race: the maps fill side by side
    width = page.locator("#needle-status .dh-spinner").evaluate("spinner => getComputedStyle(spinner).borderTopWidth")
    visitor.shoot("needle-running")
    page.locator("#needle-stop").click()
    page.get_by_text("Run continues from here").wait_for()
    done = page.locator("button.dh-cell").count()
    assert width == "2px"
    assert 4 <= done < 24
    visitor.shoot("needle-stopped")
    page.locator("#needle-run").click()
    page.get_by_text("24 of 24 prompts are done").wait_for(timeout=180_000)
    numbers = [int(cell.inner_text()) for cell in page.locator("[data-side=dca] button.dh-cell").all()]
    assert len(numbers) == 12 and sum(numbers) / 12 > 80
    assert page.locator("[data-side=plain] button.dh-cell").count() == 12
    assert page.locator(".dh-heat th.dh-last", has_text="512").count() == 2  # where the trained window ends

    page.locator("[data-side=dca] button.dh-cell").nth(7).click()
    trial = page.locator(".dh-trial").first.inner_text()
    assert re.search(r"expected\s+\d{5}", trial) and "answered" in trial and "pass key" in trial
    visitor.shoot("needle-done", full_page=True)
    with page.expect_download() as caught:
        page.locator("#needle-jsonl").click()
    caught.value.save_as(tmp_path / "needle.jsonl")
    results = needle.from_text((tmp_path / "needle.jsonl").read_text())
    [run] = runs.read(tmp_path / "needle.jsonl")
    assert run.task == "needle" and run.variants == ["DCA", "plain"] and len(run.samples) == len(results)
    assert run.header["command"].startswith("dca-hub needle demo --lengths ")
    assert len(results) == 24
    with page.expect_download() as caught:
        page.locator("#needle-png").click()
    caught.value.save_as(tmp_path / "needle.png")
    assert (tmp_path / "needle.png").read_bytes().startswith(b"\x89PNG")

    page.locator("#needle-link").click()
    page.locator("#needle-link", has_text="Copied").wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.endswith("/?tab=needle&lengths=256,512,1024,2048&depths=3&trials=1&haystack=prose&mode=both&model=demo")
    other = visitor.browser_context.new_page()
    other.goto(link)
    other.get_by_text("The settings of the link are chosen").wait_for()
    assert other.locator("#needle-lengths input:checked").count() == 4
    assert other.locator("#needle-depths input[type=number]").input_value() == "3"
    other.goto(link.replace("256,512,1024,2048", "9" * 400))
    other.get_by_text("This link cannot be followed here. lengths must be whole numbers").wait_for()
    other.close()

    page.locator("#needle-clear").click()
    page.get_by_text("A number is hidden").wait_for()
    part = tmp_path / "part.jsonl"
    part.write_text("".join((tmp_path / "needle.jsonl").read_text().splitlines(keepends=True)[:9]))
    page.locator("#needle-load input[type=file], input[type=file][accept*=jsonl]").last.set_input_files(str(part))
    page.get_by_text("8 results of demo: Run measures what is missing.").wait_for()
    assert page.locator("#needle-lengths input:checked").count() == 4
    assert page.locator("#needle-mode input:checked").get_attribute("value") == "both"
    page.locator("#needle-run").click()
    page.get_by_text("24 of 24 prompts are done").wait_for(timeout=180_000)


def test_a_needle_test_of_nothing_is_refused(visit):
    visitor = visit("?tab=needle")
    visitor.page.locator("#needle-run").wait_for()
    _choose(visitor, "needle-lengths", [])
    visitor.page.locator("#needle-run").click()
    visitor.page.get_by_text("needs at least one length").wait_for()
    visitor.page.wait_for_timeout(1000)
    assert visitor.page.locator("#needle-run").inner_text() == "Run"
    assert "needs at least one length" in visitor.page.locator("#needle-status").inner_text()


def test_the_picture_follows_the_sliders_and_the_pointer(visit):
    visitor = visit("?tab=explain")
    page = visitor.page
    canvas = page.locator(".dh-canvas[data-side=dca]")
    canvas.wait_for()
    for name, value in (("length", 40), ("trained", 20), ("chunk", 16), ("local", 6)):
        page.locator(f"#slider-{name} input[type=number]").fill(str(value))
        page.locator(f"#slider-{name} input[type=number]").press("Enter")
    page.get_by_text("s = C − w = 10 tokens").wait_for()
    page.wait_for_timeout(400)
    geometry = DualChunkGeometry(16, 6, 20)
    side = canvas.bounding_box()["width"] / 40
    for query, key in ((3, 1), (15, 8), (39, 0), (25, 14), (39, 39)):
        canvas.hover(position={"x": (key + 0.5) * side, "y": (query + 0.5) * side})
        said = page.locator("[data-says=dca]").inner_text()
        assert said.startswith(f"query {query} sees key {key} at distance {geometry.distance(query, key)}:")
        plain = page.locator("[data-says=plain]").inner_text()
        assert plain.startswith(f"query {query} sees key {key} at distance {query - key}:")
        assert plain.endswith("never met in training") == (query - key >= 20)
    canvas.focus()
    page.keyboard.press("ArrowUp")
    assert page.locator("[data-says=dca]").inner_text().startswith("query 38 does not see key 39")
    data = json.loads(page.locator("[data-picture]").get_attribute("data-picture"))
    assert all(data["dca"]["distance"][i][j] == geometry.distance(i, j) for i in range(40) for j in range(i + 1))
    visitor.shoot("explain", full_page=True)
    page.locator("#slider-local input[type=number]").fill("16")
    page.locator("#slider-local input[type=number]").press("Enter")
    page.wait_for_function("document.querySelector('#slider-chunk input[type=number]').value == '17'")  # makes room
    page.get_by_text("s = C − w = 1 token").wait_for()
    page.locator("#slider-trained input[type=number]").fill("8")
    page.locator("#slider-trained input[type=number]").press("Enter")
    page.wait_for_function("document.querySelector('#slider-local input[type=number]').value == '7'")
    page.wait_for_function("document.querySelector('#slider-chunk input[type=number]').value == '8'")


def test_perplexity_of_both_is_drawn(visit):
    visitor = visit("?tab=explain")
    page = visitor.page
    page.locator("#curve-run").wait_for()
    _choose(visitor, "curve-lengths", ["256", "512", "2,048"])
    page.locator("#curve-run").click()
    page.locator(".dh-chart svg").wait_for(timeout=120_000)
    rows = [row.inner_text().split() for row in page.locator(".dh-curve tr").all()][1:]
    values = {row[0]: (float(row[1].replace(",", "")), float(row[2].replace(",", ""))) for row in rows}
    assert values["256"][0] == values["256"][1]
    assert values["2,048"][0] < values["2,048"][1] / 1.5
    visitor.shoot("explain-perplexity", full_page=True)


def test_measuring_perplexity_stops(visit, space):
    visitor = visit("?tab=explain")
    page = visitor.page
    page.locator("#curve-run").wait_for()
    _choose(visitor, "curve-lengths", ["8,192"])  # it takes a while
    page.locator("#curve-run").click()
    page.locator("#curve").get_by_text("Measuring, DCA").wait_for()
    session, begun = space.newest(), time.monotonic()
    page.locator("#curve-stop").click()
    assert session.job.wait(5) and session.job.stopped
    print(f"stopped after {time.monotonic() - begun:.2f} s")
    page.get_by_text("Stopped").first.wait_for()
    page.locator("#curve-run").wait_for()


def test_the_model_tab_says_what_models_need_and_loads_one(visit, space):
    visitor = visit("?tab=model")
    page = visitor.page
    page.locator("#loaded-model[data-name=demo]").wait_for()
    page.locator("#model-name input").click()
    page.get_by_role("option", name="llama-3.1-8b-instruct").click()
    page.locator("#model-facts", has_text="gated").wait_for()
    assert "16.1 GB" in page.locator("#model-facts").inner_text()
    visitor.shoot("model")
    page.locator("#model-name input").click()
    page.get_by_role("option", name="demo", exact=True).click()
    generation = space.context.host.generation
    page.locator("#model-load").click()
    page.wait_for_function("() => !document.querySelector('#model-state .dh-spinner')")
    page.locator("#loaded-model[data-name=demo]").wait_for()
    for _ in range(100):
        if space.context.host.generation > generation:
            break
        page.wait_for_timeout(100)
    assert space.context.host.generation == generation + 1 and space.context.host.ready


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_tab_fits_every_screen_and_axe_finds_nothing(visit, pdfs, theme):
    visitor = visit(f"?__theme={theme}", color_scheme=theme)
    page, axe = visitor.page, _axe()
    assert page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")
    visitor.bring(pdfs["short"])
    visitor.ask("What is the pass key?")
    page.locator("#tab-model-button").click()
    looked_through = (1440, 390)
    if theme == "light":  # once: what these add does not depend on the colours
        looked_through = (1440, 1024, 390)
        for models in page.locator("#model-all, #model-large").all():
            if not models.locator(".dh-models").is_visible():
                models.locator("> button").click()
    for width in (1440, 1024, 390, 360):
        page.set_viewport_size({"width": width, "height": 860})
        for tab in _TABS:
            page.locator(f"#tab-{tab}-button").click()  # none is behind a menu
            page.locator("button.primary:visible").first.hover()  # its colours change then
            page.wait_for_timeout(400)
            widths = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
            assert widths[0] <= widths[1], (tab, widths)
            visitor.shoot(f"{tab}-{theme}-{width}", full_page=True)
            if axe and width in looked_through:
                found = axe.run(page, options=_RULES).response["violations"]
                assert not [(tab, rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found]
    page.locator("#tab-chat-button").click()
    for label in page.locator("#mode label, #mode-row button:not(.dh-pressed)").all():
        box = label.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width, label.inner_text()
    assert len({button.bounding_box()["y"] for button in page.locator("#mode-row > button").all()}) == 1
    page.locator(".dh-chip").first.click()
    page.locator(".dh-viewer").wait_for()
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 860})
        visitor.shoot(f"page-{theme}-{width}")
        found = axe.run(page, options=_RULES).response["violations"] if axe else []
        assert not [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found]


_RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}}


def _axe():
    """axe, or None where it is not installed: the screens are looked at all the same."""
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        return None
    return Axe()


def test_a_page_that_opens_below_comes_into_view(visit, pdfs):
    visitor = visit(viewport={"width": 390, "height": 780})
    page = visitor.page
    visitor.bring(pdfs["short"])
    visitor.ask("What is the pass key?")
    page.locator(".dh-chip").first.click()
    page.locator(".dh-viewer").wait_for()
    page.wait_for_function("document.querySelector('.dh-quote').getBoundingClientRect().bottom < innerHeight")
    box = page.locator("#page-column").bounding_box()
    assert (box["x"], box["y"], box["width"]) == (0, 0, 390)  # a sheet over all else
    visitor.shoot("chat-citation-390")


def test_on_a_phone_documents_fold_into_a_line_once_they_are_read(visit, pdfs):
    visitor = visit(viewport={"width": 390, "height": 780})
    page = visitor.page
    assert page.locator("#upload").is_visible()
    page.locator("#upload input[type=file]").set_input_files(str(pdfs["short"]))
    fold = page.locator(".dh-fold")
    fold.wait_for()
    page.locator("#meter").wait_for(state="hidden")
    assert "short.pdf" in fold.inner_text() and not page.locator("#upload").is_visible()
    fold.click()
    page.locator("#meter .dh-meter").wait_for()
    assert fold.get_attribute("aria-expanded") == "true"
    fold.click()
    page.locator("#meter").wait_for(state="hidden")


def test_controls_have_names_and_an_answer_is_spoken(visit, pdfs):
    visitor = visit()
    page = visitor.page
    page.get_by_role("textbox", name="Your question").wait_for()
    page.get_by_role("radio", name="Side by side").wait_for()
    assert page.get_by_role("textbox", name="Textbox", exact=True).count() == 0
    visitor.bring(pdfs["short"])
    visitor.ask("What is the pass key?")
    page.wait_for_function("document.querySelector('#spoken').textContent.startsWith('Answer: ')")
    page.locator("#mode input").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#mode input").nth(1).is_checked()
    for button in page.locator("button:visible").all():
        assert (button.inner_text() or button.get_attribute("aria-label") or "").strip(), button.evaluate(
            "b => b.outerHTML"
        )


def test_light_and_dark_can_be_switched_and_tabs_linked(visit):
    visitor = visit("?tab=model", color_scheme="light")
    page = visitor.page
    page.locator("#model-load").wait_for()
    page.locator("#tab-explain-button").click()
    page.wait_for_url("**/?tab=explain")
    page.locator("#theme-toggle").click()
    assert page.evaluate("document.body.classList.contains('dark')")
    visitor.shoot("explain-dark")
    page.reload()
    page.locator(".dh-canvas").first.wait_for()
    page.wait_for_function("() => document.body.classList.contains('dark')")


def test_everything_can_be_reached_by_keyboard(visit, pdfs):
    visitor = visit()
    page = visitor.page
    visitor.bring(pdfs["short"])
    visitor.ask("What is the pass key?")
    reached = set()
    page.locator("body").press("Tab")
    for _ in range(60):
        reached.add(
            page.evaluate(
                "() => { const e = document.activeElement; return e.id || e.closest('[id]')?.id + ':' + e.className; }"
            )
        )
        page.keyboard.press("Tab")
    words = " ".join(reached)
    for wanted in ("theme-toggle", "tab-chat-button", "example", "ask", "retry", "clear", "dh-chip", "export-json"):
        assert wanted in words, (wanted, sorted(reached))
