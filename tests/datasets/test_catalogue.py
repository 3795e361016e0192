"""The catalogue: committed facts of the data sets; what the literature counts, and names that prompts can use."""

from collections import Counter

import pytest
import yaml

from lib.study.paths import ROOT
from tools.datasets.catalogue import CATALOGUE, NAMES, catalogue

CLASSES = [100, 101, 100, 47, 10, 102, 101, 10, 37, 196, 397]
TEST = [3333, 1736, 10000, 1880, 5400, 6149, 25250, 10000, 3669, 8041, 21751]
TRAIN = [3334, 6941, 50000, 1880, 21600, 1020, 75750, 60000, 3680, 8144, 87003]
WHOLE = {"caltech101": 8677, "eurosat": 27000, "sun397": 108754}  # pictures, where the protocol draws the split
PUBLISHED = ROOT.parent / "shared" / "classnames" / "openai_clip_prompts.md"
HEADINGS = {
    "aircraft": "FGVCAircraft",
    "caltech101": "Caltech101",
    "cifar100": "CIFAR100",
    "dtd": "DescribableTextures",
    "eurosat": "EuroSAT",
    "flowers": "Flowers102",
    "food": "Food101",
    "mnist": "MNIST",
    "pets": "OxfordPets",
    "cars": "StanfordCars",
    "sun397": "SUN397",
}
MTIL = list(HEADINGS)


def normal(name: str) -> str:
    return " ".join(name.lower().split())


def test_mtil_is_as_the_literature_counts_it() -> None:
    entries = [catalogue(name) for name in MTIL]
    assert [len(entry.classes) for entry in entries] == CLASSES
    assert [entry.test for entry in entries] == TEST
    assert [entry.train for entry in entries] == TRAIN
    assert (sum(CLASSES), sum(TEST)) == (1201, 97209)
    for name, pictures in WHOLE.items():
        assert catalogue(name).train == int(0.8 * pictures)
        assert catalogue(name).train + catalogue(name).test == pictures
    tiny = catalogue("tinyimagenet")
    assert (len(tiny.classes), tiny.train, tiny.test) == (200, 200 * 500, 200 * 50)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_unique_and_templates_take_one(name: str) -> None:
    entry = catalogue(name)
    assert len({normal(prompt) for prompt in entry.names}) == len(entry.names) == len(entry.classes)
    assert all(prompt == " ".join(prompt.split()) and "_" not in prompt for prompt in entry.names)
    assert entry.templates
    assert len(set(entry.templates)) == len(entry.templates)
    for template in entry.templates:
        assert template.count("{}") == 1
        assert template.replace("{}", "").count("{") == 0
        assert template.format("cat").count("cat") == 1


@pytest.mark.parametrize(
    ("name", "own", "prompt", "label"),
    [
        ("caltech101", "Faces", "off-center face", 0),
        ("caltech101", "Faces_easy", "centered face", 1),
        ("caltech101", "crocodile_head", "head of a crocodile", 29),
        ("cifar100", "aquarium_fish", "aquarium fish", 1),
        ("eurosat", "HerbaceousVegetation", "brushland or shrubland", 2),
        ("eurosat", "SeaLake", "lake or sea", 9),
        ("flowers", "pink-yellow dahlia?", "pink and yellow dahlia", 59),
        ("flowers", "ball moss", "air plant", 92),
        ("mnist", "7 - seven", "7", 7),
        ("pets", "American Bulldog", "american bulldog", 1),
        ("pets", "Bengal", "Bengal", 5),
        ("cars", "Ram C/V Cargo Van Minivan 2012", "Ram C/V Cargo Van Minivan 2012", 173),
        ("sun397", "jail/indoor", "jail indoor", 206),
        ("sun397", "jail_cell", "jail cell", 207),
        ("tinyimagenet", "n02124075", "Egyptian cat", 0),
    ],
)
def test_classes_that_are_easily_paired_wrongly(name: str, own: str, prompt: str, label: int) -> None:
    classes = catalogue(name).classes
    assert classes[own] == prompt
    assert list(classes)[label] == own


@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_had_and_is_cited(name: str) -> None:
    entry = catalogue(name)
    assert entry.files or entry.by_hand
    assert len(entry.source) > 30
    for file in entry.files:
        assert ".." not in file.to
        assert not file.to.startswith("/")
    assert (CATALOGUE / f"{name}.yaml").read_text().count("MIT licence") == 1  # of CLIP's names or templates


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="no class names of CLIP beside the project (../shared)")
@pytest.mark.parametrize("name", MTIL)
def test_names_and_templates_are_the_published_ones(name: str) -> None:
    section = PUBLISHED.read_text().split(f"\n## {HEADINGS[name]}\n")[1].split("\n## ")[0]
    classes, templates = (
        yaml.safe_load(section.split(f"{part} = ")[1].split("\n]")[0] + "\n]") for part in ("classes", "templates")
    )
    entry = catalogue(name)
    assert entry.templates == templates
    expected = Counter(normal(c) for c in classes)
    assert Counter(map(normal, entry.names)) + Counter(["background"] * (name == "caltech101")) == expected
