"""The network's arithmetic, compared with the original's scores."""

import pytest
import torch
from helpers import CPU, IMAGES, golden_rows, golden_score
from torch.nn import functional as F

from longclip_cli.checkpoints.load import load_model
from longclip_cli.models.clip import scores_from_cosines
from longclip_cli.models.tokenizer import tokenize
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.images import load_image


def features(model, row):
    pixel_values = load_image(IMAGES / row["image_path"], model.sizes.image_size, ScoringOptions()).pixel_values
    ids = tokenize(row["text"], model.sizes.context_length).ids
    return model.encode_image(pixel_values[None]), model.encode_text([torch.tensor([ids])], torch.tensor([len(ids)]))


@pytest.mark.parametrize("row", golden_rows("expected.jsonl"), ids=lambda row: f"{row['id']}-{row['image_path']}")
def test_a_pair_scores_as_the_original_scores_it(model, row):
    score = (torch.cosine_similarity(*features(model, row)).item() + 1) / 2
    assert score == golden_score(row)


def test_padding_after_the_end_token_changes_nothing(model):
    ids = tokenize("a rocket on its launch pad", 248).ids
    alone = model.encode_text([torch.tensor([ids])], torch.tensor([len(ids)]))
    padded = model.encode_text([torch.tensor([ids + [123] * 40])], torch.tensor([len(ids)]))
    torch.testing.assert_close(alone, padded, rtol=0, atol=1e-5)


def test_texts_encoded_together_have_the_features_of_each_alone(model):
    texts = ["a rocket", "a rocket on its launch pad", "a cat", "a cup of coffee on a table, with a spoon"]
    ids = sorted((tokenize(text, 248).ids for text in texts), key=len)
    lengths = torch.tensor([len(text) for text in ids])
    alone = [model.encode_text([torch.tensor([text])], torch.tensor([len(text)])) for text in ids]
    short, rest = torch.tensor(ids[:2]), [torch.tensor([text]) for text in ids[2:]]
    torch.testing.assert_close(model.encode_text([short, *rest], lengths), torch.cat(alone), rtol=0, atol=1e-5)


def test_pooling_in_the_last_block_equals_the_whole_block(model):
    block = model.transformer.resblocks[-1]
    groups = [(3, 11), (1, 4)]
    x = torch.randn(3 * 11 + 4, model.sizes.text.width, generator=torch.Generator().manual_seed(0))
    position = torch.tensor([0, 4, 10, 2])
    whole = block(x, groups, causal=True)[torch.tensor([0, 11 + 4, 22 + 10, 33 + 2])]
    torch.testing.assert_close(block.pool(x, groups, position, causal=True), whole, rtol=0, atol=1e-5)


def test_silu_with_a_scale_around_it_is_quick_gelu(model, weights):
    name = "transformer.resblocks.0"
    x = torch.randn(1, model.sizes.text.width, generator=torch.Generator().manual_seed(0))
    block = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
    value = F.linear(F.layer_norm(x, x.shape[-1:], block["ln_1.weight"], block["ln_1.bias"]), *of_value(block))
    # A single position attends to itself.
    y = x + F.linear(value, block["attn.out_proj.weight"], block["attn.out_proj.bias"])
    hidden = F.layer_norm(y, x.shape[-1:], block["ln_2.weight"], block["ln_2.bias"])
    hidden = F.linear(hidden, block["mlp.c_fc.weight"], block["mlp.c_fc.bias"])
    hidden = hidden * torch.sigmoid(1.702 * hidden)
    expected = y + F.linear(hidden, block["mlp.c_proj.weight"], block["mlp.c_proj.bias"])
    torch.testing.assert_close(model.transformer.resblocks[0](x, [(1, 1)], causal=True), expected, rtol=0, atol=1e-4)


def of_value(block):
    """Return weight and bias of the value, the last third of the projection."""
    return block["attn.in_proj_weight"].chunk(3)[2], block["attn.in_proj_bias"].chunk(3)[2]


@pytest.mark.parametrize(
    "sizes",
    [
        dict(embed_dim=96, image_size=48, patch=16, image_width=128, image_layers=1, text_width=192, text_layers=2),
        dict(embed_dim=32, image_size=42, patch=14, image_width=64, image_layers=3, text_width=64, text_layers=1),
    ],
)
def test_any_size_is_read_from_the_shapes(checkpoint_maker, tmp_path, sizes):
    torch.save(checkpoint_maker.longclip(1, **sizes), tmp_path / "model.pt")
    model = load_model(str(tmp_path / "model.pt"), CPU, torch.float32)
    assert model.sizes.image_size == sizes["image_size"]
    assert model.sizes.context_length == 248
    side = sizes["image_size"]
    assert model.encode_image(torch.zeros(2, 3, side, side, dtype=torch.uint8)).shape == (2, sizes["embed_dim"])
    assert model.encode_text([torch.tensor([[49406, 49407]])], torch.tensor([2])).shape == (1, sizes["embed_dim"])


def test_a_score_is_never_outside_zero_and_one():
    assert scores_from_cosines(torch.tensor([1.0000002, -1.0000002, 0.0])).tolist() == [1.0, 0.0, 0.5]
