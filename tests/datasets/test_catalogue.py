"""The catalogue: committed facts of the data sets; what the literature counts, and names that prompts can use."""

import re
from collections import Counter

import pytest
import yaml

from lib.study.studies import ROOT
from tools.datasets.catalogue import NAMES, catalogue

# classes, training and test pictures, as the literature counts them; heading in CLIP's file of prompts
MTIL = {
    "aircraft": (100, 3334, 3333, "FGVCAircraft"),
    "caltech101": (101, 6941, 1736, "Caltech101"),
    "cifar100": (100, 50000, 10000, "CIFAR100"),
    "dtd": (47, 1880, 1880, "DescribableTextures"),
    "eurosat": (10, 21600, 5400, "EuroSAT"),
    "flowers": (102, 1020, 6149, "Flowers102"),
    "food": (101, 75750, 25250, "Food101"),
    "mnist": (10, 60000, 10000, "MNIST"),
    "pets": (37, 3680, 3669, "OxfordPets"),
    "cars": (196, 8144, 8041, "StanfordCars"),
    "sun397": (397, 87003, 21751, "SUN397"),
}
PUBLISHED = ROOT.parent / "shared" / "classnames" / "openai_clip_prompts.md"


def normal(name: str) -> str:
    return " ".join(name.lower().split())


def test_the_data_sets_are_as_the_literature_counts_them() -> None:
    for name, (classes, train, test, _) in (MTIL | {"tinyimagenet": (200, 100000, 10000, "")}).items():
        entry = catalogue(name)
        assert (len(entry.classes), entry.train, entry.test) == (classes, train, test)


@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_had_its_names_are_unique_and_templates_take_one(name: str) -> None:
    entry = catalogue(name)
    assert entry.files or (entry.copy and entry.by_hand)
    assert entry.copy is None or re.fullmatch("[0-9a-f]{40}", entry.copy.revision)
    assert len({normal(prompt) for prompt in entry.names}) == len(entry.names) == len(entry.classes)
    assert all(prompt == " ".join(prompt.split()) and "_" not in prompt for prompt in entry.names)
    assert 0 < len(set(entry.templates)) == len(entry.templates)
    assert all(template.format("<cat>").count("<cat>") == 1 for template in entry.templates)


@pytest.mark.parametrize(
    ("name", "own", "prompt", "label"),
    [
        ("caltech101", "Faces", "off-center face", 0),
        ("caltech101", "Faces_easy", "centered face", 1),
        ("cifar100", "aquarium_fish", "aquarium fish", 1),
        ("eurosat", "HerbaceousVegetation", "brushland or shrubland", 2),
        ("flowers", "pink-yellow dahlia?", "pink and yellow dahlia", 59),
        ("flowers", "ball moss", "air plant", 92),
        ("pets", "American Bulldog", "american bulldog", 1),
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


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="no class names of CLIP beside the project (../shared)")
@pytest.mark.parametrize("name", MTIL)
def test_names_and_templates_are_the_published_ones(name: str) -> None:
    section = PUBLISHED.read_text().split(f"\n## {MTIL[name][3]}\n")[1].split("\n## ")[0]
    classes, templates = (
        yaml.safe_load(section.split(f"{part} = ")[1].split("\n]")[0] + "\n]") for part in ("classes", "templates")
    )
    entry = catalogue(name)
    assert entry.templates == templates
    expected = Counter(normal(c) for c in classes)
    assert Counter(map(normal, entry.names)) + Counter(["background"] * (name == "caltech101")) == expected
