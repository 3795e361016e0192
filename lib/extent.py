"""What a full study asks for, computed from its params and the catalogue: pictures, disk, steps, operations, hours.

    python -m lib.extent          writes the README's table

Of the main story (`make study`). A training step takes 3 forward passes' operations where all weights learn and 2 where
CLIP is frozen (gradients pass through it, none are for it); small experts add under a tenth. Tests are counted without
class prompts (well under 1 %), for selectors with every routed picture run again after every task. Hours are at RATE.
Memory is that of a training step, which `compute.accumulate`, `compute.recompute` and bf16 make smaller.
"""

from dataclasses import dataclass
from functools import cache

import open_clip

from lib import params, plan, report
from lib.counting import CONTEXT, IMAGE, PATCHES, TEXT, tower_flops
from lib.datasets import Entry, catalogue
from lib.paths import ROOT
from lib.towers import cut_padding

RATE = 1e14  # operations a second: about a tenth of what the makers of large GPUs promise in bf16
PICTURE = PATCHES + tower_flops(*IMAGE)
PIXELS, NUMBER = 3 * 224**2, 4  # bytes
JOINT, ALEXNET = 512, 256 * 13**2  # widths of features
MODEL = 124_323_841  # parameters of ViT-B/16 that are trained and kept: all but the token table
FROZEN = ("adapter", "moe_adapters")  # methods that leave CLIP as it is
# Megabytes of the method's step in single precision, fitted to three that were measured on a CPU (docs/speed.md):
# what there is without pictures and prompts, with the model; for a picture of a batch; for a class's prompt.
ALONE, A_PICTURE, A_PROMPT = 1500, 101, 3.4
MARKS = ("<!-- extent: `python -m lib.extent` writes this table -->", "<!-- end of extent -->")


@dataclass(frozen=True)
class Part:
    """A task as it is learned: its class names, training template, training and test pictures."""

    names: tuple[str, ...]
    template: str
    train: int
    test: int


def parts(study: params.Study) -> list[Part]:
    """The tasks of the main order; a data set that is cut becomes several."""
    found: list[Part] = []
    for name in study.tasks.orders[plan.main_order(study)]:
        entry = catalogue(name)
        template = (study.tasks.templates or entry.templates)[0]
        for count in study.tasks.cut or [len(entry.names)]:
            share = count / len(entry.names)
            found.append(
                Part(
                    tuple(entry.names[:count]),
                    template,
                    round(entry.train * share),
                    round(entry.test * share),
                )
            )
    return found


def entries(study: params.Study) -> list[Entry]:
    """The data sets of all orders."""
    return [catalogue(name) for name in sorted({n for names in study.tasks.orders.values() for n in names})]


def steps(study: params.Study, run: str, part: Part) -> int:
    """Training steps of a task."""
    if params.method_of(run) == "zero_shot":
        return 0
    return study.train.epochs * (seen(study, run, part) // study.train.batch) or study.train.steps


def seen(study: params.Study, run: str, part: Part) -> int:
    """Training pictures of a task."""
    shots = study.runs[run].set.get("shots", 0)
    return min(part.train, shots * len(part.names)) if shots else part.train


@cache
def text_flops(names: tuple[str, ...], template: str, model: str) -> int:
    """Operations of one pass over a task's prompts, cut to the longest."""
    prompts = [template.format(name) for name in names]
    length = cut_padding(open_clip.get_tokenizer(model)(prompts)).shape[1]
    return len(names) * tower_flops(*TEXT, min(length, CONTEXT))


def training(study: params.Study, run: str) -> int:
    """Operations of a run's training."""
    passes, total = 2 if params.method_of(run) in FROZEN else 3, 0
    for part in parts(study):
        text = text_flops(part.names, part.template, study.backbone.model)
        batch = min(study.train.batch, seen(study, run, part))
        total += steps(study, run, part) * passes * (batch * PICTURE + text)
    return total


def testing(study: params.Study, run: str) -> int:
    """Operations of a run's tests."""
    tests, method = [part.test for part in parts(study)], params.method_of(run)
    later = range(len(tests), 0, -1)  # how often a task is tested from its own turn on
    if method == "zero_shot":
        pictures = 0  # the stage `zero_shot` counts them
    elif method == "finetune_single":
        pictures = sum(tests)
    elif method == "moe_adapters" or study.tasks.labels == "seen":
        pictures = sum(test * times for test, times in zip(tests, later, strict=True))
    else:
        pictures = len(tests) * sum(tests)
    return pictures * PICTURE


def kept(study: params.Study, run: str) -> int:
    """Bytes of a run's checkpoints: one for every task where each has a stage."""
    method, tasks = params.method_of(run), len(parts(study))
    settings = study.methods[method] | study.runs[run].set
    if method not in FROZEN:
        return 0 if method == "zero_shot" else MODEL * NUMBER
    experts, r = settings.get("experts", 1), settings["bottleneck"]
    widths = [width for width, layers in ((IMAGE[0], IMAGE[1]), TEXT) for _ in range(layers)]
    pool = sum(experts * (2 * d * r + r + d) for d in widths)
    router = sum(2 * d * experts for d in widths) if experts > 1 else 0
    s = ALEXNET if study.selector.features == "alexnet" else IMAGE[0]
    coder = (
        2 * s * study.selector.code + study.selector.code + s
        if settings.get("selector") == "autoencoder"
        else 0
    )
    many = 1 if settings.get("router") == "shared" else tasks
    whole = [pool + min(t, many) * router + t * coder for t in range(1, tasks + 1)]
    return NUMBER * (sum(whole) if study.runs[run].by_task else whole[-1])


def seen_once(study: params.Study) -> int:
    """Pictures of all orders' data sets: what is decoded, and what the frozen CLIP looks at once."""
    return sum(entry.train + entry.test for entry in entries(study))


def decoded(study: params.Study) -> int:
    """Bytes of the decoded pictures, which studies share."""
    return seen_once(study) * PIXELS


def features(study: params.Study) -> int:
    """Bytes of what the frozen CLIP, and for the selector perhaps AlexNet, say of every picture."""
    width = (
        2 * ALEXNET + NUMBER * JOINT if study.selector.features == "alexnet" else NUMBER * (IMAGE[0] + JOINT)
    )
    return seen_once(study) * width


def memory(study: params.Study) -> float:
    """Bytes that a step of the method takes with the study's batch and its task of the most classes."""
    classes = max(len(part.names) for part in parts(study))
    return 1e6 * (ALONE + A_PICTURE * study.train.batch + A_PROMPT * classes)


def row(study: params.Study) -> list[str]:
    """A study's line of the README's table."""
    runs = [run for run, settings in study.runs.items() if settings.story]
    pictures = seen_once(study)
    taken = sum(steps(study, run, part) for run in runs for part in parts(study))
    operations = pictures * PICTURE + sum(training(study, run) + testing(study, run) for run in runs)
    return [
        f"`{study.study}`",
        f"{len(runs)} of {len(plan.items(study))}",
        f"{pictures:,}",
        f"{decoded(study) / 1e9:.0f} GB",
        f"{features(study) / 1e9:.1f} GB",
        f"{sum(kept(study, run) for run in runs) / 1e9:.1f} GB",
        f"{memory(study) / 1e9:.0f} GB",
        f"{taken:,}",
        f"{operations / 1e15:.0f}",
        f"{operations / RATE / 3600:.1f}",
    ]


HEAD = [
    "study",
    "runs",
    "pictures",
    "decoded",
    "features",
    "checkpoints",
    "memory",
    "steps",
    "10^15 operations",
    "GPU-hours",
]


def table() -> str:
    """The README's table of all studies whose pictures are in the catalogue."""
    every = [params.load(folder / "params.yaml") for folder in plan.studies().values()]
    rows = [HEAD, ["---"] * len(HEAD), *(row(study) for study in every if study.tasks.source == "datasets")]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(report.with_table(readme.read_text(), table(), MARKS))
    print("written: README.md")
