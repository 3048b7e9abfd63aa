"""Makes the pictures of the README from a running Space.

    python docs/pictures.py                                             needle.png and explain.png, of the demo model
    python docs/pictures.py --chat MODEL FILE.pdf QUESTION QUESTION     chat.png

Needs playwright and chromium, as the browser tests do.
"""

import argparse
import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).resolve().parent
_LARGEST = 240_000  # bytes
_LONGEST = 3_600_000  # milliseconds that a step may take


def chat(page: Page, pdf: str, questions: list[str]) -> None:
    """Questions about a document, and the page that the last answer rests on."""
    page.locator("#upload input[type=file]").set_input_files(pdf)
    page.locator("#meter .dh-meter").wait_for()
    for turn, question in enumerate(questions):
        page.locator("#question textarea").fill(question)
        page.locator("#ask").click()
        page.locator("#past .dh-turn").nth(turn).wait_for()
        page.locator("#ask").wait_for()
    page.locator(".dh-chip").last.click()
    page.locator(".dh-viewer[data-marked=true]").wait_for()
    _save(page, "chat.png")


def needle(page: Page) -> None:
    """The heat maps of both, and one prompt in detail."""
    page.locator("#tab-needle-button").click()
    page.locator("#needle-run").click()
    page.get_by_text("50 of 50 prompts are done").wait_for()
    page.locator("[data-side=plain] button.dh-cell").nth(13).click()
    page.locator(".dh-trial").wait_for()
    _save(page, "needle.png", full_page=True)


def explain(page: Page) -> None:
    """The positions that attention sees, and the perplexity of both."""
    page.locator("#tab-explain-button").click()
    canvas = page.locator(".dh-canvas[data-side=dca]")
    canvas.wait_for()
    page.locator("#curve-run").click()
    page.locator(".dh-chart svg").wait_for()
    side = canvas.bounding_box()["width"] / 32
    canvas.hover(position={"x": 3.5 * side, "y": 28.5 * side})
    _save(page, "explain.png", full_page=True)


def _save(page: Page, name: str, **options) -> None:
    page.wait_for_timeout(600)
    shot = Image.open(io.BytesIO(page.screenshot(**options))).convert("RGB")
    shot.save(HERE / name, optimize=True)
    if (HERE / name).stat().st_size > _LARGEST:  # 256 colours are a third of it
        shot.quantize(256, dither=Image.Dither.NONE).save(HERE / name, optimize=True)
    print(f"{name}: {(HERE / name).stat().st_size / 1000:.0f} KB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chat", nargs="+", metavar="MODEL FILE QUESTION", help="a chat about a PDF, with that model")
    args = parser.parse_args()
    sys.path.insert(0, str(HERE.parent))
    from dca_hub.space.build import build, serve
    from dca_hub.space.settings import Settings

    blocks, context = build(Settings(port=7900, **({"model": args.chat[0]} if args.chat else {})))
    address = serve(blocks, context, wait=False)
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page(viewport={"width": 1366, "height": 860}, color_scheme="light")
        page.set_default_timeout(_LONGEST)
        page.goto(address)
        if args.chat:
            chat(page, args.chat[1], args.chat[2:])
        else:
            needle(page)
            explain(page)
        browser.close()
    blocks.close()
    context.close()


if __name__ == "__main__":
    main()
