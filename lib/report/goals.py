"""What the method beyond the paper aims at, judged like the paper's claims: paired, in both label spaces."""

from collections.abc import Callable

import pandas as pd

from lib.report import paired
from lib.report.claims import BEYOND, FAILS, HOLDS, METHOD, OPEN, UNTESTED, Claim, Evidence, Judged, larger
from lib.report.claims import table as claims_table
from lib.report.looks import name
from lib.report.paired import LEVEL
from lib.report.tables import Content

RIVALS = (METHOD, "rail_primal", "moe_confidence", "moram")
AIMED = ("transfer", "average", "last")
GAIN, NEAR = 1.0, 1.0  # points above zero-shot; points that an oracle may be ahead


def above_all(metric: str) -> Callable[[Evidence], Judged]:
    """Is it above each of the rivals? Holm's correction is over all rivals and metrics of a label space.

    Among own classes the candidates tell it the task, so the rivals are told the task, too (their oracle).
    """

    def judge(evidence: Evidence) -> Judged:
        decision = f"{evidence.labels}sample"
        other = decision if evidence.labels else "oracle"
        table = paired.against(evidence.results, BEYOND, [*RIVALS], [*AIMED], decision, other)
        cells = {run: cell[metric] for run, cell in table.items() if cell[metric][0].pairs > 1}
        if not cells:
            return Judged(UNTESTED, None, "")
        strongest = min(cells, key=lambda run: cells[run][0].mean)
        won = all(gap.mean > 0 and p < LEVEL for gap, p in cells.values())
        lost = any(gap.mean < 0 and p < LEVEL for gap, p in cells.values())
        words = f"{name(BEYOND)} and {name(strongest)}, the strongest of {len(cells)}"
        whole = len(cells) == len(RIVALS)  # it cannot be above those that have no results yet
        return Judged(FAILS if lost else UNTESTED if not whole else HOLDS if won else OPEN, cells[strongest][0], words)

    return judge


GOALS = (
    *(Claim(f"Above MoE-Adapters, RAIL, MoE-Confidence and MoRAM: {m.title()}", "", above_all(m)) for m in AIMED),
    Claim("Transfer is at least 1 point above zero-shot", "", larger(BEYOND, "zero_shot", "transfer", least=GAIN)),
    *(
        Claim(
            f"{m.title()}: within 1 point of its own oracle", "", larger(BEYOND, BEYOND, m, "sample", -NEAR, "oracle")
        )
        for m in ("average", "last")
    ),
)


def table(results: list[Content]) -> pd.DataFrame:
    """One line a goal, like the table of the paper's claims."""
    return claims_table(results, GOALS).drop(columns=["where"]).rename(columns={"claim": "goal"})
