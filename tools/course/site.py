"""The site: every notebook as a page with its outputs, which opens from disk without a network.

`python -m tools.course.site` writes reports/site/index.html and a page a notebook. The study's notebooks are the copies
that its stages have executed. The course has no stages: its notebooks are executed here, again when they have changed.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import latex2mathml.converter
import nbformat
from jinja2 import Environment, FileSystemLoader
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from lib.files import whole
from lib.study import params, plan
from lib.study.code_digests import of_notebook
from lib.study.studies import NOTEBOOKS, REPORTS
from tools.course.exercises import SOLUTIONS, STUDENTS
from tools.stages.engine import ThisPython

SITE = REPORTS / "site"
PARTS = {"study": "The study", "course": "The course", "solutions": "Solutions of the course"}
MATHS = re.compile(r"(\$\$?)(?=\S)([^$]+?)(?<=\S)\1")


@dataclass(frozen=True)
class Page:
    """A notebook on the site: its part, the file's name, its title, the executed copy (None: not run here)."""

    part: str
    name: str
    title: str
    notebook: Any
    seconds: float | None

    @property
    def takes(self) -> str:
        """How long it took to run, in words."""
        if self.seconds is None:
            return f"not run here: `make {'pretrain' if self.name.startswith('02') else 'study-all'}` runs it"
        return f"ran in {self.seconds:.0f} s" if self.seconds < 90 else f"ran in {self.seconds / 60:.0f} min"


def study_pages(study: str = "mini") -> list[Page]:
    """The study's notebooks, as its stages left them; the learning notebook with the first run of the method."""
    first = plan.first_of(params.load(), "moe_adapters")
    pages = []
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        key = f"--{Path(first.result).stem}" if first and path.stem == "05_learn" else ""
        copy = REPORTS / "notebooks" / study / f"{path.stem}{key}.ipynb"
        read = nbformat.read(copy if copy.exists() else path, 4)
        seconds = read.metadata.get("papermill", {}).get("duration") if copy.exists() else None
        pages.append(Page("study", path.stem, title(read), read, seconds))
    return pages


def course_pages() -> list[Page]:
    """The course for students, with empty exercises, and its solutions; both executed."""
    found = [("course", path, f"course_{path.stem}") for path in sorted(STUDENTS.glob("[0-9]*.ipynb"))]
    found += [("solutions", path, f"solution_{path.stem}") for path in sorted(SOLUTIONS.glob("[0-9]*.ipynb"))]
    pages = []
    for part, path, name in found:
        read = executed(path, SITE / "executed" / f"{name}.ipynb")
        pages.append(Page(part, name, title(read), read, read.metadata.get("seconds")))
    return pages


def executed(path: Path, copy: Path) -> Any:
    """A notebook with its outputs: those of a copy, if it ran the same code, or executed now."""
    code, notebook = of_notebook(path), nbformat.read(path, 4)
    if copy.exists() and (before := nbformat.read(copy, 4)).metadata.get("code") == code:
        ran = [cell for cell in before.cells if cell.cell_type == "code"]
        for cell, same in zip((c for c in notebook.cells if c.cell_type == "code"), ran, strict=True):
            cell.outputs = same.outputs
        notebook.metadata["seconds"] = before.metadata["seconds"]
        return notebook
    print(f"running {path.relative_to(NOTEBOOKS)}", flush=True)
    began, place = time.monotonic(), {"metadata": {"path": path.parent}}
    NotebookClient(notebook, timeout=1200, kernel_manager_class=ThisPython, resources=place).execute()
    notebook.metadata |= {"code": code, "seconds": time.monotonic() - began}
    with whole(copy) as partial:
        nbformat.write(notebook, partial)
    return notebook


def title(notebook: Any) -> str:
    """A notebook's first heading."""
    return notebook.cells[0].source.splitlines()[0].removeprefix("# ")


def body(notebook: Any) -> str:
    """A notebook's cells as HTML, formulas as MathML."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = MATHS.sub(lambda found: latex2mathml.converter.convert(found[2]), cell.source)
    return HTMLExporter(template_name="basic").from_notebook_node(notebook)[0]


def write(pages: list[Page]) -> None:
    """Writes the pages and the list of them."""
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    template = templates.get_template("site.html")
    style = HtmlFormatter(style="default").get_style_defs(".highlight")
    parts = {heading: [page for page in pages if page.part == part] for part, heading in PARTS.items()}
    files = {"index": template.render(parts=parts, page=None, style=style)}
    for before, page, after in zip([None, *pages], pages, [*pages[1:], None], strict=False):
        about = {"before": before, "after": after, "style": style, "body": body(page.notebook)}
        files[page.name] = template.render(page=page, **about)
    SITE.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (SITE / f"{name}.html").write_text(text)
    print(f"written: {len(files)} pages, {(SITE / 'index.html').relative_to(REPORTS.parent)}")


if __name__ == "__main__":
    write([*study_pages(), *course_pages()])
