"""The stage `report`: `python -m tools.stages.report params.yaml` writes reports/index.html.

For another study it writes reports/<study>/index.html. With `--readme` it writes the tables of results in the READMEs.
"""

import sys
from pathlib import Path

from lib.report import tables
from lib.report.page import page
from lib.study import params, plan
from lib.study.studies import NOTEBOOKS, REPORTS, ROOT

MARKS = ("<!-- results: `python -m tools.stages.report --readme` writes this table -->", "<!-- end of results -->")
READMES = (ROOT / "README.md", NOTEBOOKS / "course" / "README.md")


def readme_table(results: list[tables.Content], order: str) -> str:
    """The READMEs' table: every run of an order."""
    return tables.markdown(tables.named_summary([content for content in results if content["order"] == order]))


def main(file: str, readme: bool) -> None:
    """Writes the report of a params file; with `readme` the tables in the READMEs in its place."""
    study = params.load(file)
    order = plan.main_order(study)
    if readme:
        table = readme_table(tables.read(REPORTS / "results" / study.study), order)
        texts = {path: tables.with_table(path.read_text(), table, MARKS) for path in READMES}
    else:
        folder = REPORTS if file == "params.yaml" else REPORTS / study.study
        texts = {folder / "index.html": page(REPORTS, study.study, order)}
    for target, text in texts.items():
        _write(target, text)


def _write(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    print(f"written: {target.relative_to(ROOT)}")


if __name__ == "__main__":
    files = [argument for argument in sys.argv[1:] if argument != "--readme"]
    main(files[0] if files else "params.yaml", "--readme" in sys.argv)
