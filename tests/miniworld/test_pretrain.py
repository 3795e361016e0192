"""The pre-training: its pictures and captions, loss and batches, its snapshots, and its report."""

from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.clip import tiny
from tools.miniworld import pretrain, world
from tools.miniworld.pretrain import EASY, LOOK, Pairs

SMALL = {"image_size": 32, "width": 32, "layers": 1, "heads": 2, "embed": 16, "context": 32, "text_layers": 1}
LEAST = SMALL | {"image_size": 16, "width": 8, "heads": 1, "embed": 4}


@cache
def rows() -> list[int]:
    return pretrain.rows_in_use(32)


@cache
def rendered() -> Pairs:
    return pretrain.render(0, 64, "train", 32, workers=1)


@cache
def names() -> Tensor:
    return pretrain.compact([world.PHRASE.format(name) for name in world.names()], 32)


def equal(one: nn.Module, two: nn.Module) -> bool:
    first, second = one.state_dict(), two.state_dict()
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def compact(model: Any) -> Any:
    """The model with a token table of the rows in use alone, as it is trained."""
    table = model.token_embedding.weight[rows()].clone()
    model.token_embedding = nn.Embedding.from_pretrained(table, freeze=False)
    return model.eval()


def test_a_picture_depends_on_seed_split_and_index_alone() -> None:
    first, again, held_out = ([world.example(3, i, s) for i in range(20)] for s in ("train", "train", "held_out"))
    pictures = [example.picture.tobytes() for example in (*first, *held_out, world.example(4, 7))]
    assert len(set(pictures)) == 41
    assert [example[1:] for example in first] == [example[1:] for example in again]
    assert pictures[7] == world.example(3, 7).picture.tobytes()  # whatever was drawn before it


def test_rendered_pictures_are_the_worlds_with_their_captions() -> None:
    made, tokenizer = rendered(), open_clip.SimpleTokenizer(context_length=32)
    for index in (0, 17, 63):
        example = world.example(0, index, easy=index < EASY * 64)
        assert torch.equal(made.pictures[index], torch.from_numpy(example.picture).permute(2, 0, 1))
        assert world.names()[int(made.name[index])] == example.name
        whole = torch.tensor(rows())[made.looks[made.look[index]]]
        assert torch.equal(whole, tokenizer([example.look])[0, : len(whole)])
    assert " plain " in world.example(0, 1, easy=True).look


def test_the_vocabulary_covers_every_caption() -> None:
    assert rows() == sorted(set(rows()))
    assert (rows()[0], rows()[-1]) == (0, 49407)  # the end token stays the largest
    shown = [world.example(0, index, "held_out") for index in range(200)]
    texts = [example.look for example in shown] + [f"this is the {example.name}." for example in shown]
    assert set(open_clip.SimpleTokenizer(context_length=32)(texts).unique().tolist()) <= set(rows())


@torch.no_grad()
def test_text_features_of_compact_tokens_are_open_clips() -> None:
    captions = [world.PHRASE.format(name) for name in world.names()[:12]]
    tokens = open_clip.SimpleTokenizer(context_length=32)(captions)
    expected = tiny.build(SMALL, seed=0).eval().encode_text(tokens, normalize=True)
    model = compact(tiny.build(SMALL, seed=0))
    torch.testing.assert_close(pretrain.text_features(model, names()[:12]), expected)


@torch.no_grad()
def test_loss_by_hand() -> None:
    """Two pictures of one name, a third, and a name of none of them; two looks."""
    model, made = compact(tiny.build(SMALL, seed=0)), rendered()
    batch = Pairs(made.pictures[:3], torch.tensor([4, 9, 4]), torch.tensor([1, 1, 0]), made.looks)
    image = F.normalize(model.encode_image(batch.pictures.float() / 127.5 - 1), dim=-1)
    text = pretrain.text_features(model, names()[[4, 9, 30]])
    scores = model.logit_scale.exp() * image @ text.T
    by_name = F.cross_entropy(scores, torch.tensor([0, 1, 0]), label_smoothing=0.05)
    looks = model.logit_scale.exp() * image @ pretrain.text_features(model, made.looks[:2]).T
    expected = by_name + LOOK * F.cross_entropy(looks, torch.tensor([1, 1, 0]))
    got = pretrain.loss_of(model, batch, names(), torch.arange(3), torch.tensor([30, 9]))
    torch.testing.assert_close(got, expected)


def test_the_first_steps_see_easy_pictures_alone_and_any_step_is_drawn_alone() -> None:
    early = torch.cat([pretrain.batch_of(0, step, 100, 400, 5) for step in range(5)])
    later = torch.cat([pretrain.batch_of(0, step, 100, 400, 5) for step in range(5, 85)])
    assert int(early.max()) < EASY * 400
    assert sorted(later.tolist()) == list(range(400))  # an epoch is a permutation
    assert torch.equal(pretrain.batch_of(0, 9, 100, 400, 5), later[20:25])


def test_training_is_the_same_by_seed_and_moves_the_words_in_use(tmp_path: Path) -> None:
    given: Any = (rendered(), SMALL, 0, 12, 16, 2e-3, tmp_path)
    first, again = (pretrain.train(*given) for _ in range(2))
    assert not list(tmp_path.iterdir())  # too short for a snapshot: both began from nothing
    assert equal(first, again)
    assert not first.training
    start = tiny.token_table(32, 0)
    touched = (first.state_dict()[tiny.TABLE] != start).any(dim=1).nonzero().flatten().tolist()
    assert touched
    assert set(touched) <= set(rows())
    given = (rendered(), names(), torch.arange(64), torch.arange(20))
    before, after = (pretrain.loss_of(compact(m), *given) for m in (tiny.build(SMALL, seed=0), first))
    assert after < before


def test_an_interrupted_training_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill soon after the snapshot of step 500."""
    made = rendered()
    small = Pairs(F.interpolate(made.pictures.float(), (16, 16)).byte(), made.name, made.look, made.looks)
    whole, calls = pretrain.loss_of, []

    def killed(*given: Any) -> Tensor:
        calls.append(1)
        if len(calls) == 503:
            raise KeyboardInterrupt
        return whole(*given)

    monkeypatch.setattr(pretrain, "OTHERS", 8)
    undisturbed = pretrain.train(small, LEAST, 0, 505, 3, 2e-3, tmp_path / "whole")
    monkeypatch.setattr(pretrain, "loss_of", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain.train(small, LEAST, 0, 505, 3, 2e-3, tmp_path / "cut")
    resumed = pretrain.train(small, LEAST, 0, 505, 3, 2e-3, tmp_path / "cut")
    assert len(calls) == 503 + 5
    assert equal(resumed, undisturbed)


@torch.no_grad()
def test_zero_shot_by_kind_is_open_clips_answer() -> None:
    model, made = tiny.build(SMALL, seed=0).eval(), pretrain.render(0, 300, "held_out", 32, workers=1)
    got = pretrain.zero_shot_by_kind(model, made, 32)
    assert set(got) == set(pretrain.kinds())
    mine = [i for i, name in enumerate(made.name) if world.names()[name] in pretrain.kinds()["digits"]]
    choices = pretrain.kinds()["digits"]
    prompts = open_clip.SimpleTokenizer(context_length=32)([f"a photo of the {name}." for name in choices])
    images = model.encode_image(pretrain.normalise(made.pictures[mine]), normalize=True)
    answers = (images @ model.encode_text(prompts, normalize=True).T).argmax(dim=1)
    right = [choices[answer] == world.names()[made.name[i]] for answer, i in zip(answers, mine, strict=True)]
    assert got["digits"] == pytest.approx(100 * sum(right) / len(right))
