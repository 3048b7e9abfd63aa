"""Makes the pictures of the README from a running Space, with the demo model: `python docs/pictures.py`.

Needs playwright and chromium, as the browser tests do.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).resolve().parent
_LARGEST = 240_000  # bytes
_LONGEST = 240_000  # milliseconds that a step may take


def chat(page: Page) -> None:
    """A question about the example, and the page that the answer rests on."""
    page.locator("#example").click()
    page.locator("#meter .dh-meter").wait_for()
    for turn in range(2):
        page.locator("#question textarea").fill("What is the pass key?")
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
    sys.path.insert(0, str(HERE.parent))
    from dca_hub.space.build import build, serve
    from dca_hub.space.settings import Settings

    blocks, context = build(Settings(port=7900))
    address = serve(blocks, context, wait=False)
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page(viewport={"width": 1366, "height": 860}, color_scheme="light")
        page.set_default_timeout(_LONGEST)
        page.goto(address)
        for picture in (chat, needle, explain):
            picture(page)
        browser.close()
    blocks.close()
    context.close()


if __name__ == "__main__":
    main()
