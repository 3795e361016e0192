"""The tiny CLIP's pre-training: its pictures, loss and batches, its snapshots, and its report."""

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
from tools.miniworld.pretrain import Pairs

SMALL = {"image_size": 48, "width": 32, "layers": 1, "heads": 2, "embed": 16, "context": 32, "text_layers": 1}
LEAST = SMALL | {"image_size": 16, "width": 8, "heads": 1, "embed": 4}


@cache
def rows() -> list[int]:
    return pretrain.rows_in_use(32)


@cache
def rendered() -> Pairs:
    return pretrain.render(0, 64, "train", 32, workers=1)


def equal(one: nn.Module, two: nn.Module) -> bool:
    first, second = one.state_dict(), two.state_dict()
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def test_rendered_pictures_are_the_worlds_with_their_captions() -> None:
    made, tokenizer = rendered(), open_clip.SimpleTokenizer(context_length=32)
    for index in (0, 17, 63):
        example = world.example(0, index)
        assert torch.equal(made.pictures[index], torch.from_numpy(example.picture).permute(2, 0, 1))
        assert pretrain.contents()[int(made.content[index])] == example.content
        assert bool(made.coloured[index]) == example.coloured
        whole = torch.tensor(rows())[made.tokens[index]]
        assert torch.equal(whole, tokenizer([example.caption])[0, : len(whole)])


def compact(model: Any) -> Any:
    """The model with a token table of the rows in use alone, as it is trained."""
    table = model.token_embedding.weight[rows()].clone()
    model.token_embedding = nn.Embedding.from_pretrained(table, freeze=False)
    return model.eval()


@torch.no_grad()
def test_text_features_of_compact_tokens_are_open_clips() -> None:
    captions = [world.example(0, index).caption for index in range(12)]
    tokens = open_clip.SimpleTokenizer(context_length=32)(captions)
    expected = tiny.build(SMALL, seed=0).eval().encode_text(tokens, normalize=True)
    model = compact(tiny.build(SMALL, seed=0))
    got = pretrain.text_features(model, rendered().tokens[:12])
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("coloured", [False, True])
@torch.no_grad()
def test_contrastive_loss_of_two_equal_contents_by_hand(coloured: bool) -> None:
    model = compact(tiny.build(SMALL, seed=0))
    made = rendered()
    batch = Pairs(made.pictures[:3], made.tokens[:3], torch.tensor([4, 4, 9]), torch.tensor([False, coloured, False]))
    image = F.normalize(model.encode_image(batch.pictures.float() / 127.5 - 1), dim=-1)
    logits = model.logit_scale.exp() * image @ pretrain.text_features(model, batch.tokens).T
    by_picture, by_caption = logits.log_softmax(dim=1), logits.log_softmax(dim=0)
    if coloured:  # caption 1 names colours: it is not true of picture 0, while caption 0 is true of both
        rows = [by_picture[0, 0], (by_picture[1, 0] + by_picture[1, 1]) / 2, by_picture[2, 2]]
        columns = [(by_caption[0, 0] + by_caption[1, 0]) / 2, by_caption[1, 1], by_caption[2, 2]]
    else:
        rows = [by_picture[0, :2].mean(), by_picture[1, :2].mean(), by_picture[2, 2]]
        columns = [by_caption[:2, 0].mean(), by_caption[:2, 1].mean(), by_caption[2, 2]]
    expected = -(sum(rows, torch.zeros(())) / 3 + sum(columns, torch.zeros(())) / 3) / 2
    got = pretrain.contrastive_loss(model, batch, torch.arange(3))
    torch.testing.assert_close(got, expected)


def test_each_epoch_is_a_permutation_of_its_own_and_any_step_is_drawn_alone() -> None:
    epochs = [torch.cat([pretrain.batch_of(0, step, 64, 16) for step in range(s, s + 4)]) for s in (0, 4)]
    assert all(sorted(epoch.tolist()) == list(range(64)) for epoch in epochs)
    assert not torch.equal(*epochs)
    assert torch.equal(pretrain.batch_of(0, 5, 64, 16), epochs[1][16:32])


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
    models = (compact(tiny.build(SMALL, seed=0)), compact(first))
    before, after = (pretrain.contrastive_loss(model, rendered(), torch.arange(64)) for model in models)
    assert after < before


def test_an_interrupted_training_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill soon after the snapshot of step 500."""
    small = Pairs(
        F.interpolate(rendered().pictures.float(), (16, 16)).byte(),
        rendered().tokens[:, :9],
        rendered().content,
        rendered().coloured,
    )
    whole, calls = pretrain.contrastive_loss, []

    def killed(model: Any, made: Pairs, batch: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 503:
            raise KeyboardInterrupt
        return whole(model, made, batch)

    undisturbed = pretrain.train(small, LEAST, 0, 505, 4, 2e-3, tmp_path / "whole")
    monkeypatch.setattr(pretrain, "contrastive_loss", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain.train(small, LEAST, 0, 505, 4, 2e-3, tmp_path / "cut")
    resumed = pretrain.train(small, LEAST, 0, 505, 4, 2e-3, tmp_path / "cut")
    assert len(calls) == 503 + 5
    assert equal(resumed, undisturbed)


@torch.no_grad()
def test_zero_shot_by_kind_is_open_clips_answer() -> None:
    model, made = tiny.build(SMALL, seed=0).eval(), rendered()
    got = pretrain.zero_shot_by_kind(model, made, 32)
    prompts = open_clip.SimpleTokenizer(context_length=32)([f"a photo of the digit {d}." for d in world.DIGITS])
    first = pretrain.contents().index(("digits", "zero"))
    mine = (made.content >= first) & (made.content < first + 10)
    images = model.encode_image(pretrain.normalise(made.pictures[mine]), normalize=True)
    answers = (images @ model.encode_text(prompts, normalize=True).T).argmax(dim=1)
    right = 100 * (answers == made.content[mine] - first).float().mean().item()
    assert got["digits"] == pytest.approx(right)
    assert set(got) == set(world.KINDS)
