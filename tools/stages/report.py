"""The stage `report`: `python -m tools.stages.report params.yaml` writes reports/index.html.

For another study it writes reports/<study>/index.html. With `--readme` it writes the tables of results in the READMEs.
"""

import sys
from pathlib import Path

from lib.report import claims, goals, tables
from lib.report.page import page
from lib.study import params, plan
from lib.study.studies import NOTEBOOKS, REPORTS, ROOT

MARKS = ("<!-- results: `python -m tools.stages.report --readme` writes this table -->", "<!-- end of results -->")
CLAIMS = ("<!-- claims: `python -m tools.stages.report --readme` writes this table -->", "<!-- end of claims -->")
GOALS = ("<!-- goals: `python -m tools.stages.report --readme` writes this table -->", "<!-- end of goals -->")
READMES = (ROOT / "README.md", NOTEBOOKS / "course" / "README.md")


def readme_table(results: list[tables.Content], order: str) -> str:
    """The READMEs' table: every run of an order, decided per picture."""
    return tables.markdown(tables.comparison([content for content in results if content["order"] == order]))


def claims_table(results: list[tables.Content]) -> str:
    """The README's table of the paper's claims."""
    return tables.markdown(claims.table(results).drop(columns=["compared", "pairs"]))


def goals_table(results: list[tables.Content]) -> str:
    """The README's table of what the method beyond aims at."""
    return tables.markdown(goals.table(results).drop(columns=["pairs"]))


def main(file: str, for_readme: bool) -> None:
    """Writes the report of a params file; with `for_readme` the tables in the READMEs in its place."""
    study = params.load(file)
    order = plan.main_order(study)
    if for_readme:
        results = tables.read(REPORTS / "results" / study.study)
        table = readme_table(results, order)
        texts = {path: tables.with_table(path.read_text(), table, MARKS) for path in READMES}
        readme = READMES[0]
        texts[readme] = tables.with_table(texts[readme], claims_table(results), CLAIMS)
        texts[readme] = tables.with_table(texts[readme], goals_table(results), GOALS)
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
