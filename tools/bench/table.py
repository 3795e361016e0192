"""What the benchmark measured, as a table for people: printed, and on the page on speed."""

from pathlib import Path
from typing import Any

from lib.report.page import with_table
from lib.study.paths import ROOT

COLUMNS = ("image", "text", "optimiser", "step")
PAGE = ROOT / "docs" / "speed.md"
MARKS = ("<!-- bench: `make bench` writes this -->", "<!-- end of bench -->")


def write(found: dict[str, Any], page: Path = PAGE) -> None:
    """Sets the table on the page on speed."""
    page.write_text(with_table(page.read_text(), f"```\n{table(found)}\n```", MARKS))


def table(found: dict[str, Any]) -> str:
    """Everything that reports/bench.json holds, in lines."""
    rate = f"{found['rate'] / 1e9:.0f} GFLOP/s of matrix products in single precision"
    return "\n".join([f"{found['threads']} threads, {rate}", "", *_steps(found), "", *_rest(found)])


def _steps(found: dict[str, Any]) -> list[str]:
    heads = "".join(f"{head:>10}" for head in ("image s", "text s", "optim. s", "step s", "peak MB"))
    lines = [f"{'a step at ViT-B/16, B = 8':<28}{heads}"]
    for classes, told in found["steps"].items():
        memory = told["peak_memory_mb"]
        for way, parts in told["seconds"].items():
            numbers = "".join(f"{parts[part]:10.2f}" for part in COLUMNS)
            lines.append(f"{f'{classes} classes, {way}':<28}{numbers}{_megabytes(memory[way]):>10}")
        lines.append(f"{f'{classes} classes, recompute':<68}{_megabytes(memory['recompute']):>10}")
        fewer = told["operations"]["plain"] / told["operations"]["ours"]
        lines.append(
            f"    plain over ours {_range(told['ratio'])}; ours does {fewer:.1f} times fewer operations, "
            f"at {100 * told['share_of_rate']:.0f} % of the rate"
        )
    for name, told in found["options"].items():
        lines.append(f"option {name}: {told.get('failed') or f'{_range(told)} of the usual time'}")
    return lines


def _rest(found: dict[str, Any]) -> list[str]:
    e, s, mini = found["evaluation"], found["selector"], found["evaluation_t8"]
    pooled, a = found["evaluation_batches"], s["alexnet"]
    passes, again = e["passes_a_picture"], f"{100 * e['asked_again']:.0f} %"
    return [
        f"evaluation of {e['tasks']} tasks (counted): {passes['ours']} passes a test picture instead of "
        f"{passes['plain']}, {e['ratio']} times fewer operations, if {again} are asked again after a task",
        f"mini (measured): {mini['passes_a_picture']} passes a test picture in 8 tasks"
        if mini
        else "mini was not run: the worst case is counted",
        *(
            [f"batches sent to routers, task by task: {pooled['by_task']}; all tasks at once: {pooled['pooled']}"]
            if pooled
            else []
        ),
        f"selector with {s['tasks']} tasks: {s['selector_ms']:.2f} ms a picture, "
        f"{100 * s['share']:.1f} % of the image encoder",
        f"on AlexNet's features: {a['features_ms']:.1f} ms for these and {a['selector_ms']:.1f} ms, "
        f"together {100 * a['share']:.0f} % of the image encoder",
        f"a step waits {100 * found['waiting']:.1f} % of its time for its pictures",
    ]


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _range(told: dict[str, float]) -> str:
    return f"{told['median']} ({told['least']} to {told['largest']})"
