"""Opens the report in a browser without a window (`make browser`): it fits the window, says nothing, and can be used.

Needs chromium and chromedriver, as tests/run_browser.py does. The report is drawn from the results that are there.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_core_python.selenium import Axe
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from lib.report.page import pages
from lib.study import params, plan
from lib.study.studies import REPORTS

FLAGS = "headless=new no-sandbox disable-gpu disable-dev-shm-usage no-first-run allow-file-access-from-files"
WIDTHS = {"a desk": (1300, 900), "a phone": (390, 800)}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "index.html"
    file.write_text(pages(REPORTS, "mini", plan.main_order(params.load()))["index.html"])
    return file


@pytest.fixture(params=WIDTHS)
def window(request: pytest.FixtureRequest) -> tuple[int, int]:
    """Width and height."""
    return WIDTHS[request.param]


@pytest.fixture
def browser(window: tuple[int, int], report: Path) -> Iterator[webdriver.Chrome]:
    """Chromium on the report, in a window."""
    width, height = window
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or pytest.fail("there is no chromium: see tests/run_browser.py")
    for flag in FLAGS.split():
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as driver:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(report.as_uri())
        yield driver
        assert driver.get_log("browser") == []


def scheme(browser: webdriver.Chrome, name: str) -> None:
    """The reader prefers light or dark pages."""
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": name}]}
    )


@pytest.mark.parametrize("light", ["light", "dark"])
def test_the_page_fits_and_can_be_read_by_everyone(
    browser: webdriver.Chrome, window: tuple[int, int], light: str
) -> None:
    scheme(browser, light)
    for fold in browser.find_elements(By.TAG_NAME, "details"):
        browser.execute_script("arguments[0].open = true", fold)
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= window[0]  # not innerWidth: a phone widens its window to what does not fit
    found = Axe().run(browser)["violations"]
    serious = {
        each["id"]: each["nodes"][0]["html"][:120] for each in found if each["impact"] in ("serious", "critical")
    }
    assert serious == {}


def test_a_cell_says_what_happened_and_arrow_keys_move(browser: webdriver.Chrome) -> None:
    cells = browser.find_elements(By.CSS_SELECTOR, "#matrix td[tabindex]")
    tasks = int(len(cells) ** 0.5)
    browser.execute_script("arguments[0].focus()", cells[0])
    first = browser.find_element(By.ID, "cell").text
    assert "after task 1" in first
    browser.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    second = browser.find_element(By.ID, "cell").text
    assert "after task 2" in second
    assert "Before:" in second
    assert len(cells) == tasks**2


def test_every_method_and_every_moment_can_be_drawn(browser: webdriver.Chrome) -> None:
    choice, moment = Select(browser.find_element(By.ID, "run")), browser.find_element(By.ID, "moment")
    assert len(choice.options) > 3
    for name in [option.text for option in choice.options]:
        choice.select_by_visible_text(name)
        last = int(moment.get_attribute("max") or 0)
        move = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
        browser.execute_script(move, moment, last)
        assert f"after task {last + 1}" in browser.find_element(By.ID, "when").text
        bars = browser.find_elements(By.CSS_SELECTOR, "#bars .bar")
        assert len(bars) == last + 1
        assert not browser.find_elements(By.CSS_SELECTOR, "#bars .later")


def test_a_figure_is_shown_at_its_own_size(browser: webdriver.Chrome) -> None:
    image = browser.find_element(By.CSS_SELECTOR, "figure img")
    browser.execute_script("arguments[0].click()", image)
    shown = browser.find_element(By.CSS_SELECTOR, "dialog[open] img")
    assert shown.get_attribute("alt") == image.get_attribute("alt")
    browser.execute_script("document.querySelector('dialog').click()")
    assert not browser.find_elements(By.CSS_SELECTOR, "dialog[open]")


def test_the_walk_shows_pictures_mistakes_first_and_what_was_asked_for(browser: webdriver.Chrome) -> None:
    if not browser.find_elements(By.ID, "walker"):
        pytest.skip("these results have no pictures to walk through")
    place, verdict = (browser.find_element(By.ID, name) for name in ("place", "verdict"))
    first = verdict.text
    assert "(wrong)" in first
    browser.execute_script("document.getElementById('next').click()")
    assert place.text.startswith("2 of ")
    assert verdict.text != first
    Select(browser.find_element(By.ID, "which")).select_by_value("right")
    assert "(right)" in verdict.text
    rows = browser.find_elements(By.CSS_SELECTOR, "#routers tr")
    assert len(browser.find_elements(By.CSS_SELECTOR, "#routers tr.mine")) == 1
    assert len(rows) == len(browser.find_elements(By.CSS_SELECTOR, "#routers .error")) + 1  # CLIP has no error
