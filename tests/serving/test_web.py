"""The page in a real browser, without a window. The screenshot is left in `build/demo.png`."""

import shutil
import time

import pytest

from tests.conftest import REPOSITORY
from tests.serving.conftest import NOTES, png

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def address(service):
    from reclmis.serving.web import launch

    page = launch(service, block=False)
    yield page.local_url
    page.close()


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("No Chromium on this machine.")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(address)
    page.requested = requested
    yield page
    page.close()


def picture_of(page, name):
    """The address of a picture once it is there."""
    shown = page.locator(f"#{name} img")
    shown.first.wait_for(timeout=20_000)
    return shown.first.get_attribute("src")


def ask(page, note):
    page.locator("#note textarea").fill(note)
    page.locator("#segment").click()


def test_the_mask_follows_the_note(page):
    page.locator("#image input[type=file]").set_input_files(
        files=[{"name": "scan.png", "mimeType": "image/png", "buffer": png()}]
    )
    ask(page, NOTES[0])
    first = picture_of(page, "mask")
    assert picture_of(page, "overlay") and picture_of(page, "patches")
    words = page.locator("#words").inner_text()
    assert "upper" in words.replace("\n", "").replace(" ", "")
    ask(page, NOTES[1])
    page.wait_for_function("old => document.querySelector('#mask img')?.getAttribute('src') !== old", arg=first)
    assert picture_of(page, "mask") != first
    assert "%" in page.locator("#message").inner_text()
    (REPOSITORY / "build").mkdir(exist_ok=True)
    page.screenshot(path=REPOSITORY / "build" / "demo.png", full_page=True)


def test_what_is_asked_during_an_answer_is_answered_afterwards(page, service, monkeypatch):
    answer, asked = service.answer, []

    def slow(content, note, threshold):
        asked.append(note)
        time.sleep(1.5)
        return answer(content, note, threshold)

    monkeypatch.setattr(service, "answer", slow)
    page.locator("#image input[type=file]").set_input_files(
        files=[{"name": "scan.png", "mimeType": "image/png", "buffer": png()}]
    )
    ask(page, NOTES[0])
    deadline = time.monotonic() + 20
    while NOTES[0] not in asked and time.monotonic() < deadline:
        page.wait_for_timeout(20)
    ask(page, NOTES[1])
    page.wait_for_function(
        "document.querySelector('#words')?.innerText.replace(/\\s/g, '').includes('lower')", timeout=20_000
    )
    assert asked[-1] == NOTES[1]


def test_an_example_is_answered(page):
    page.get_by_text("synthetic-1.png").first.click()
    page.locator("#segment").click()
    assert picture_of(page, "overlay")


@pytest.mark.parametrize(
    ("content", "message"), [(b"<html>", "no image of a kind that is read"), (png()[:100], "damaged")]
)
def test_bad_files_are_answered_with_a_sentence(page, content, message):
    page.locator("#image input[type=file]").set_input_files(
        files=[{"name": "scan.png", "mimeType": "image/png", "buffer": content}]
    )
    ask(page, NOTES[0])
    page.locator("#message", has_text=message).wait_for(timeout=20_000)
    assert page.locator("#mask img").count() == 0


def test_no_note_no_image_is_a_sentence(page):
    page.locator("#segment").click()
    page.locator("#message", has_text="Upload an image").wait_for(timeout=20_000)


def test_a_file_that_is_too_large_stays_outside(page):
    page.locator("#image input[type=file]").set_input_files(
        files=[{"name": "scan.png", "mimeType": "image/png", "buffer": b"x" * 200_000}]
    )
    page.get_by_text("size", exact=False).first.wait_for(timeout=20_000)
    page.locator("#segment").click()
    page.locator("#message", has_text="Upload an image").wait_for(timeout=20_000)
