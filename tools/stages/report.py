"""The stage `report`: `python -m tools.stages.report params.yaml` writes reports/index.html and slides.html.

For another study it writes them to reports/<study>. With `--readme` it writes the tables of results into the pages:
README.md (eight methods, the claims in short), docs/results.md and the course's README.
"""

import sys
from pathlib import Path

from lib.report import claims, goals, tables
from lib.report.front import EIGHT
from lib.report.page import pages
from lib.study import params, plan
from lib.study.studies import NOTEBOOKS, REPORTS, ROOT

MARKS = ("<!-- results: `python -m tools.stages.report --readme` writes this table -->", "<!-- end of results -->")
CLAIMS = ("<!-- claims: `python -m tools.stages.report --readme` writes this table -->", "<!-- end of claims -->")
GOALS = ("<!-- goals: `python -m tools.stages.report --readme` writes this table -->", "<!-- end of goals -->")
HUNDRED = ("<!-- hundred: `python -m tools.stages.report --readme` writes this table -->", "<!-- end of hundred -->")
FIRST, WHOLE, COURSE = ROOT / "README.md", ROOT / "docs" / "results.md", NOTEBOOKS / "course" / "README.md"
Marks = tuple[str, str]


def made(results: list[tables.Content], order: str, hundred: list[tables.Content]) -> dict[Path, dict[Marks, str]]:
    """The tables of each page, by their marks, from the results of a study whose main order is `order`.

    hundred: the results of the study of that name, a hundred tasks in a row.
    """
    mine = [content for content in results if content["order"] == order]
    few = [content for content in mine if tables.label(content) in EIGHT]
    judged, aimed = claims.table(results).drop(columns=["compared", "pairs"]), goals.table(results)
    methods = tables.markdown(tables.comparison(mine))
    return {
        FIRST: {
            MARKS: tables.markdown(tables.comparison(few)),
            CLAIMS: tables.markdown(judged.drop(columns=["where", "depends on"])),
        },
        WHOLE: {
            MARKS: methods,
            CLAIMS: tables.markdown(judged),
            GOALS: tables.markdown(aimed.drop(columns=["pairs"])),
            HUNDRED: tables.markdown(tables.comparison(hundred)),
        },
        COURSE: {MARKS: methods},
    }


def main(file: str, for_readme: bool) -> None:
    """Writes the report of a params file; with `for_readme` the tables of the pages in its place."""
    study = params.load(file)
    order = plan.main_order(study)
    if for_readme:
        texts = {}
        results, hundred = (tables.read(REPORTS / "results" / name) for name in (study.study, "hundred"))
        for path, found in made(results, order, hundred).items():
            texts[path] = path.read_text()
            for marks, table in found.items():
                texts[path] = tables.with_table(texts[path], table, marks)
    else:
        folder = REPORTS if file == "params.yaml" else REPORTS / study.study
        texts = {folder / n: text for n, text in pages(REPORTS, study.study, order, study.tasks.limits).items()}
    for target, text in texts.items():
        _write(target, text)


def _write(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    print(f"written: {target.relative_to(ROOT)}")


if __name__ == "__main__":
    files = [argument for argument in sys.argv[1:] if argument != "--readme"]
    main(files[0] if files else "params.yaml", "--readme" in sys.argv)
