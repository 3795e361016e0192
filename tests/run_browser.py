"""Opens notebooks in JupyterLab in a browser without a window, and runs all their cells without an error.

make browser              a few notebooks, about two minutes on two cores
make browser ALL=1        all of them; those that need a study's checkpoints after `make study`

Needs chromium and chromedriver (Debian: `apt-get install chromium chromium-driver`). JupyterLab saves what it opens, so
it gets a copy of the project; `make lab` names the command.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from lib.study.studies import DATA, NOTEBOOKS, ROOT
from tools.stages.processes import end_with_parent

WHOLE = bool(os.environ.get("ALL"))
FEW = ["course/1_forgetting.ipynb", "course/solutions/7_metrics.ipynb"]  # these need no pictures
ALL = sorted(str(path.relative_to(NOTEBOOKS)) for path in NOTEBOOKS.rglob("[0-9]*.ipynb"))
NEED_A_STUDY = {"08_ablations.ipynb"}
FLAGS = (
    "headless=new no-sandbox disable-gpu disable-quic disable-dev-shm-usage no-first-run disable-sync "
    "disable-background-networking disable-component-update window-size=1400,1000"
)
OPTIONS = ["--allow-root", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None"]
STATE = """
const app = window.jupyterapp
const page = app && [...app.shell.widgets('main')].find(widget => widget.content?.model?.cells)
if (!page || !page.content.model.cells.length) return null
if (!app.shell.currentWidget) app.shell.activateById(page.id)
if (page.sessionContext.session?.kernel?.status != 'idle') return null
return {
    path: page.context.path,
    cells: page.content.model.toJSON().cells.filter(cell => cell.cell_type == 'code'),
}
"""
END = "window.jupyterapp.serviceManager.sessions.shutdownAll().then(arguments[0])"  # memory for the next notebook
RUN = "window.jupyterapp.commands.execute('notebook:run-all-cells').then(arguments[0])"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's home with a copy of the project and JupyterLab on it, started as `make lab` does; it notes the address
    that the browser should open."""
    home = tmp_path_factory.mktemp("home")
    project, browser = home / "project", home / "browser"
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(".*", "data"))
    kept = ["backbone", "catalogue", "mini" if WHOLE else "mini/tasks", "mini/features"]
    for part in (part for part in kept if (DATA / part).exists()):
        shutil.copytree(DATA / part, project / "data" / part, dirs_exist_ok=True)
    browser.write_text('#!/bin/sh\necho "$1" > "$HOME/opening" && mv "$HOME/opening" "$HOME/opened"\n')
    browser.chmod(0o755)
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "MAKE"))}
    show = ["make", "--dry-run", "--no-print-directory", "lab", f"VENV={sys.prefix}"]
    recipe = subprocess.run(show, cwd=project, env=plain, capture_output=True, text=True, check=True).stdout
    command = next(line for line in recipe.splitlines() if "jupyterlab" in line).split()
    environment = plain | {"HOME": str(home), "PYTHONPATH": str(project), "BROWSER": str(browser)}
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, *OPTIONS], cwd=project, env=environment, stdout=log, stderr=log, preexec_fn=end_with_parent
        )
        try:
            opened: Any = home / "opened"
            WebDriverWait(opened, 120).until(Path.exists, f"JupyterLab opened no page: {home / 'log'}")
            yield home
        finally:
            server.terminate()  # it ends its kernels
            server.wait()


@pytest.fixture(scope="module")
def browser(home: Path) -> Iterator[webdriver.Chrome]:
    """Chromium on the page that JupyterLab opened."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or pytest.fail("there is no chromium: see above")
    for flag in [*FLAGS.split(), f"user-data-dir={home / 'profile'}"]:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as driver:
        driver.get((home / "opened").read_text().strip())
        yield driver


def state(browser: webdriver.Chrome) -> dict[str, Any]:
    """The open notebook's path and code cells, once its kernel is idle."""
    return WebDriverWait(browser, 120).until(lambda _: browser.execute_script(STATE), "no notebook has an idle kernel")


def run(browser: webdriver.Chrome, name: str) -> list[dict[str, Any]]:
    """The code cells of a notebook after all have run."""
    place = browser.current_url.partition("/lab")[0]
    browser.execute_async_script(END)
    browser.get("about:blank")
    browser.get_log("browser")  # forgets the messages of the page before
    browser.get(f"{place}/lab/tree/notebooks/{name}?reset")
    assert state(browser)["path"] == f"notebooks/{name}"
    browser.set_script_timeout(900)
    browser.execute_async_script(RUN)
    return state(browser)["cells"]


def complaints(browser: webdriver.Chrome, cells: list[dict[str, Any]]) -> list[str]:
    """Cells that did not run, errors and warnings in their outputs, and errors of the page itself."""
    problems = [f"not run: {cell['source']}" for cell in cells if cell["source"] and not cell["execution_count"]]
    outputs = [output for cell in cells for output in cell["outputs"]]
    problems += [str(each) for each in outputs if each["output_type"] == "error" or each.get("name") == "stderr"]
    problems += [e.text for e in browser.find_elements("css selector", "[data-mime-type$='jupyter.error']")]
    return problems + [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_make_lab_opens_on_the_start_notebook(browser: webdriver.Chrome) -> None:
    assert state(browser)["path"] == "notebooks/00_start_here.ipynb"


@pytest.mark.parametrize("name", ALL if WHOLE else FEW)
def test_a_notebook_runs_without_an_error(name: str, home: Path, browser: webdriver.Chrome) -> None:
    if name in NEED_A_STUDY and not (home / "project/data/mini/runs").exists():
        pytest.skip(f"{name} needs a finished run: `make study` makes one")
    assert complaints(browser, run(browser, name)) == []


def test_the_explorer_shows_its_moments_or_says_what_makes_them(home: Path, browser: webdriver.Chrome) -> None:
    cells = run(browser, "course/explorer.ipynb")  # it may draw the pictures first
    assert complaints(browser, cells) == []
    printed = "".join("".join(output.get("text", "")) for cell in cells for output in cell["outputs"])
    assert ("moments, the last after" if (home / "project/data/mini/runs").exists() else "`make study`") in printed
    assert len(browser.find_elements("css selector", ".widget-dropdown select")) == 2
