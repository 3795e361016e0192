"""The report as a site of pages that open from disk: `python -m lib.site` writes reports/site/.

The report, every notebook (with what it printed and drew, if a stage has run it), the course, the teacher's page, how
to cite. Nothing is loaded from a network: styles and pictures are in the pages, formulas are MathML.
"""

import argparse
import html
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from lib import params, plan, report
from lib.course import STUDENTS
from lib.paths import NOTEBOOKS, REPORTS, ROOT

TEACHERS = STUDENTS / "README.md"
LINK = re.compile(r'(<a\b[^>]*?\bhref=")([^"]+)(")')
STYLE = f"""{report.STYLE}
nav {{ border-bottom: 1px solid #999; padding-bottom: .5rem; margin-bottom: 1.5rem }} nav a {{ margin-right: 1rem }}
pre {{ overflow-x: auto; padding: .6rem .8rem; margin: .4rem 0; font-size: .85rem; line-height: 1.4 }}
.prompt, .anchor-link {{ display: none }}
.jp-Cell-inputArea pre, .highlight pre {{ background: #f5f5f5; border-left: 3px solid #0072B2 }}
.jp-OutputArea-output {{ overflow-x: auto }}
.note {{ color: #444; border-left: 3px solid #E69F00; padding-left: .8rem }}
table {{ display: block; overflow-x: auto; max-width: 100% }}
h1 {{ line-height: 1.2 }} math {{ font-size: 1.05em }}
.highlight .k, .highlight .kn, .highlight .ow {{ color: #0072B2; font-weight: bold }}
.highlight .s1, .highlight .s2, .highlight .sd, .highlight .sa, .highlight .si {{ color: #8a3b00 }}
.highlight .c1 {{ color: #555; font-style: italic }}
"""
PAGES = {
    "index.html": "Report",
    "notebooks.html": "Notebooks",
    "teach.html": "Teaching",
    "cite.html": "How to cite",
}


@dataclass(frozen=True)
class Rendered:
    """A notebook as a page: where it lies in the site, its title, what it shows, and whether it has been run."""

    name: str
    title: str
    body: str
    ran: bool


class _Renderer(IPythonRenderer):
    """Markdown with formulas as MathML, which browsers show by themselves."""

    def inline_math(self, body: str) -> str:
        return convert(body)

    def block_math(self, body: str) -> str:
        return f"<div>{convert(body, display='block')}</div>"

    def multiline_math(self, text: str) -> str:
        return self.block_math(text.strip("$"))


def markdown(source: str) -> str:
    """Markdown as HTML."""
    return str(MarkdownWithMath(renderer=_Renderer(escape=False)).render(source))


def rendered(notebook: Path, executed: Path) -> Rendered:
    """A notebook's page: the executed copy if there is one, else the cells alone."""
    ran = executed.exists()
    exporter = HTMLExporter(template_name="basic")
    exporter.register_filter("markdown2html", markdown)
    body, _ = exporter.from_filename(str(executed if ran else notebook))
    cells = json.loads(notebook.read_text())["cells"]
    first = next((cell["source"][0] for cell in cells if cell["cell_type"] == "markdown"), notebook.stem)
    return Rendered(f"{notebook.stem}.html", first.lstrip("# ").strip(), linked(body), ran)


def linked(body: str) -> str:
    """Links to notebooks as links to their pages; what is not part of the site loses its link, not its words."""

    def target(found: re.Match[str]) -> str:
        place = found[2]
        if place.startswith(("#", "https://")):
            return found[0]
        name = Path(place.partition("#")[0])
        known = name.suffix == ".ipynb"
        return f"{found[1]}{name.stem}.html{found[3]}" if known else "<a"

    return LINK.sub(target, body)


def notebooks(study: str) -> tuple[list[Rendered], list[Rendered]]:
    """The pages of the study's notebooks in reading order, and of the course's."""
    copies = REPORTS / "notebooks" / study
    told = []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        known = [copies / path.name, *sorted(copies.glob(f"{path.stem}--moe_adapters--*.ipynb"))]
        told.append(rendered(path, next((copy for copy in known if copy.exists()), known[0])))
    return told, [rendered(path, copies / path.name) for path in sorted(STUDENTS.glob("*.ipynb"))]


def page(title: str, body: str) -> str:
    """A whole page with the site's head and its links."""
    links = "".join(f"<a href='{place}'>{name}</a>" for place, name in PAGES.items())
    head = (
        f"<meta charset=utf-8><meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<link rel=icon href='data:,'><title>{html.escape(title)}</title><style>{STYLE}</style>"
    )
    shown = f"<nav>{links}</nav><main>{body}</main>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{shown}</body></html>\n"


def overview(told: list[Rendered], course: list[Rendered]) -> str:
    """The page that lists all notebooks."""

    def items(pages: list[Rendered]) -> str:
        lines = (f"<li><a href='{p.name}'>{html.escape(p.title)}</a></li>" for p in pages)
        return f"<ul>{''.join(lines)}</ul>"

    return f"<h1>Notebooks</h1><h2>The study</h2>{items(told)}<h2>The course</h2>{items(course)}"


def citation(file: Path = ROOT / "CITATION.cff") -> str:
    """How to cite, from CITATION.cff."""
    cff = yaml.safe_load(file.read_text())
    paper = cff["references"][0]
    names = " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"])
    bibtex = (
        f"@inproceedings{{yu{paper['year']}boosting,\n  title = {{{paper['title']}}},\n  author = {{{names}}},\n"
        f"  booktitle = {{{paper['collection-title']}}},\n  year = {{{paper['year']}}}\n}}"
    )
    return (
        f"<h1>How to cite</h1><p>{html.escape(cff['message'])}</p>"
        f"<p>{html.escape(cff['title'])}, version {html.escape(str(cff['version']))}, licence "
        f"{html.escape(cff['license'])}.</p><h2>The paper</h2><pre>{html.escape(bibtex)}</pre>"
    )


def home(study: params.Study) -> Path:
    """Where a study's site lies."""
    return (REPORTS if study.study == "mini" else REPORTS / study.study) / "site"


def write(study: params.Study, folder: Path) -> list[Path]:
    """Writes the site anew into a folder; returns its pages."""
    told, course = notebooks(study.study)
    pages = {
        "index.html": page(f"Study {study.study}", report.body(study)),
        "notebooks.html": page("Notebooks", overview(told, course)),
        "teach.html": page("Teaching", linked(markdown(TEACHERS.read_text()))),
        "cite.html": page("How to cite", citation()),
    }
    for shown in (*told, *course):
        note = (
            ""
            if shown.ran
            else "<p class=note>Not run here: the cells alone, without what they print and draw.</p>"
        )
        pages[shown.name] = page(shown.title, note + shown.body)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in pages.items():
        (folder / name).write_text(text)
    return [folder / name for name in pages]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lib.site", description="Write the site of a study.")
    parser.add_argument("--study", default="mini")
    study = params.load(plan.folder_of(parser.parse_args().study) / "params.yaml")
    print(f"written: {write(study, home(study))[0].relative_to(ROOT)}")


if __name__ == "__main__":
    main()
