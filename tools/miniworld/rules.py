"""The rules that the world must keep, measured before any method is compared on it.

A world decides between methods only if its tasks are well posed: names can be read, zero-shot is neither hopeless nor
done, learning helps, and train and test are one distribution. `python -m tools.miniworld.rules` measures all of it and
writes reports/world.json. Fine-tuning of each task alone comes from the results of `make study`. No method of the
comparison is run, and no rule looks at one.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.files import write_json
from lib.report.tables import with_table
from lib.study.opened import OpenStudy, open_study
from tools.miniworld import world

RULES = {  # of a quantity: the least and the most that it may be; percent, or a number
    "tasks": (8, 10),
    "classes": (100, None),
    "test pictures of a task": (400, None),
    "zero-shot over chance": (1.5, None),
    "zero-shot of a task": (None, 85),
    "zero-shot, mean": (35, 65),
    "fine-tuning of a task": (82, None),
    "fine-tuning, mean": (90, None),
    "probe, mean": (75, 90),
    "train or test": (None, 60),
    "look": (97, None),
    "kind in a look": (75, 97),
    "pairs that share a look": (3, None),
    "names that stand twice": (None, 0),
    "words that were not read": (None, 0),
}


def probe(train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray) -> float:
    """Accuracy (percent) of a linear probe on features (N, D) with labels (N,)."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    return 100 * float(classifier.fit(train, train_labels).score(test, test_labels))


def between(groups: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """How often (percent) a probe tells from which group a test picture is; groups: features of (train, test)."""
    (train, n), (test, m) = (
        (np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts]))
        for parts in zip(*groups, strict=True)
    )
    return probe(train, n, test, m)


def train_or_test(train: np.ndarray, test: np.ndarray) -> float:
    """How often (percent) a probe that is fitted on one half tells train from test pictures of the other half."""
    rng, count = np.random.default_rng(0), min(len(train), len(test)) // 2 * 2
    halves = [np.split(part[rng.permutation(len(part))[:count]], 2) for part in (train, test)]
    return between([(fitted, judged) for fitted, judged in halves])


def look_of(task: str) -> str:
    """The look of a task of drawings; a task of real pictures is a look of its own."""
    return task.partition("_")[2] or task


def fine_tuning(folder: Path) -> dict[str, float]:
    """Accuracy (percent) of each task that is fine-tuned alone, the mean over a study's seeds and orders."""
    own: dict[str, list[float]] = {}
    for file in sorted(folder.glob("finetune_single--*.json")):
        run = json.loads(file.read_text())
        for task, accuracy in zip(run["tasks"], np.diag(run["accuracy"]["sample"]).tolist(), strict=True):
            own.setdefault(task, []).append(accuracy)
    return {task: float(np.mean(each)) for task, each in own.items()}


def measure(study: OpenStudy) -> dict[str, Any]:
    """All quantities of RULES, by task where they have one."""
    token, zero_shot, probes, chance = {}, {}, {}, {}
    for task, held in zip(study.tasks, study.features, strict=True):
        train, test, labels = held.train.float().numpy(), held.test.float().numpy(), task.test.labels.numpy()
        token[task.name], chance[task.name] = (train, test), 100 / len(task.classes)
        zero_shot[task.name] = 100 * float(np.mean(held.zero_shot.numpy() == labels))
        probes[task.name] = probe(train, task.train.labels.numpy(), test, labels)
    looks: dict[str, list[str]] = {}
    for name in token:
        looks.setdefault(look_of(name), []).append(name)
    in_look = {look: [token[name] for name in names] for look, names in looks.items()}
    whole = [(np.concatenate([a for a, _ in part]), np.concatenate([b for _, b in part])) for part in in_look.values()]
    pairs = {look: between(parts) for look, parts in in_look.items() if len(parts) > 1}
    classes, alone = (
        [name for task in study.tasks for name in task.classes],
        fine_tuning(study.reports / "results" / study.name),
    )
    read = {word for caption in world.vocabulary() for word in caption.strip(".").split()}
    return {
        "tasks": len(token),
        "classes": len(classes),
        "test pictures of a task": {task.name: len(task.test) for task in study.tasks},
        "zero-shot over chance": {name: zero_shot[name] / chance[name] for name in token},
        "zero-shot of a task": zero_shot,
        "zero-shot, mean": float(np.mean(list(zero_shot.values()))),
        "fine-tuning of a task": alone,
        "fine-tuning, mean": float(np.mean(list(alone.values()))),
        "probe of a task": probes,
        "probe, mean": float(np.mean(list(probes.values()))),
        "train or test": {name: train_or_test(*parts) for name, parts in token.items()},
        "look": between(whole),
        "kind in a look": pairs,
        "pairs that share a look": len(pairs),
        "names that stand twice": len(classes) - len(set(classes)),
        "words that were not read": len({word for name in classes for word in name.split()} - read),
    }


def broken(numbers: dict[str, Any]) -> list[str]:
    """The rules that measured numbers break, one line each."""
    lines = []
    for rule, (least, most) in RULES.items():
        value = numbers[rule]
        for where, each in value.items() if isinstance(value, dict) else [("", value)]:
            if (least is not None and each < least) or (most is not None and each > most):
                lines.append(f"{rule}{where and f' ({where})'}: {each:.1f}, allowed {least or 0} to {most or 'any'}")
    return lines


def table(numbers: dict[str, Any]) -> str:
    """The rules and what was measured, as a Markdown table; for a quantity by task the least and the most."""
    lines = ["| quantity | allowed | measured |", "|---|---|---|"]
    for rule, (least, most) in RULES.items():
        allowed = (
            f"{least} to {most}"
            if None not in (least, most)
            else f"at least {least}"
            if most is None
            else f"at most {most}"
        )
        value = numbers[rule]
        ends = (
            {f"{end:.4g}" for end in (min(value.values()), max(value.values()))}
            if isinstance(value, dict)
            else {f"{value:.4g}"}
        )
        lines.append(f"| {rule} | {allowed} | {' to '.join(sorted(ends, key=float))} |")
    return "\n".join(lines)


def main() -> None:
    """Measures, writes and prints."""
    study = open_study()
    numbers = measure(study)
    write_json(study.reports / "world.json", numbers)
    page = study.root / "docs" / "world.md"
    page.write_text(with_table(page.read_text(), table(numbers), ("<!-- rules -->", "<!-- /rules -->")))
    print(table(numbers), *broken(numbers), sep="\n")


if __name__ == "__main__":
    main()
