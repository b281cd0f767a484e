"""The network by itself: experts per sample, loss, generation, image rows, training."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_network import ANSWERS, byte_tokenizer, mixed_queries, picture, stir, tiny_config, tiny_network
from torch.nn import functional
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from vlm.model import ConvolutionStem, Routes, RSUniVLMConfig, RSUniVLMForConditionalGeneration, TileLayout
from vlm.processing import RSUniVLMProcessor, cut_tiles, to_rgb
from vlm.prompts import Granularity, Query, Task

PINPOINTS = [[32 * across, 32 * down] for across in (1, 2, 3) for down in (1, 2, 3)]


@pytest.fixture(scope="module")
def network() -> tuple[RSUniVLMForConditionalGeneration, RSUniVLMProcessor]:
    model, processor = tiny_network()
    stir(model)
    return model, processor


@torch.no_grad()
@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_a_mixed_batch_has_the_losses_of_its_samples_one_by_one(network, padding_side) -> None:
    model, processor = network
    queries = mixed_queries()
    together = model(**processor(queries, ANSWERS, padding_side=padding_side)).token_losses
    alone = [model(**processor([query], [answer])).token_losses for query, answer in zip(queries, ANSWERS, strict=True)]
    assert [len(losses) for losses in alone] == [len(answer) + 1 for answer in ANSWERS]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_a_mixed_batch_generates_what_its_samples_generate_one_by_one(network) -> None:
    model, processor = network
    queries = mixed_queries()
    together = model.generate(**processor(queries), max_new_tokens=12)
    alone = [model.generate(**processor([query]), max_new_tokens=12)[0] for query in queries]
    assert together.tolist() == torch.stack(alone).tolist()


def test_a_repetition_penalty_sees_the_new_tokens_of_a_padded_batch_and_nothing_of_the_prompt(network) -> None:
    model, processor = network
    queries = mixed_queries()
    free = model.generate(**processor(queries), max_new_tokens=12)
    together = model.generate(**processor(queries), max_new_tokens=12, repetition_penalty=1e6)
    for query, row, unpenalised in zip(queries, together.tolist(), free.tolist(), strict=True):
        assert [row] == model.generate(**processor([query]), max_new_tokens=12, repetition_penalty=1e6).tolist()
        assert row[0] == unpenalised[0]
        assert len(set(row)) == len(row)


@torch.no_grad()
def test_each_granularity_uses_its_own_expert_in_every_layer(network) -> None:
    model, processor = network
    query = mixed_queries()[0]
    calls: list[tuple[int, int]] = []
    handles = [
        expert.register_forward_hook(lambda *_, where=(depth, number): calls.append(where))
        for depth, layer in enumerate(model.language_model.layers)
        for number, expert in enumerate(layer.mlp)
    ]
    logits = []
    for granularity in Granularity:
        calls.clear()
        batch = processor([Query(query.task, query.images, granularity=granularity)])
        logits.append(model(**batch, logits_to_keep=1).logits)
        assert calls == [(0, granularity), (1, granularity)]
    for handle in handles:
        handle.remove()
    assert not torch.allclose(logits[0], logits[1])
    assert not torch.allclose(logits[1], logits[2])


@pytest.mark.parametrize("wrong", [3, -1])
def test_a_granularity_without_an_expert_is_refused(network, wrong) -> None:
    model, processor = network
    batch = processor(mixed_queries())
    batch["granularity"] = torch.tensor([0, 1, wrong, 2])
    with pytest.raises(ValueError, match=r"out of range: use integers in 0\.\.2"):
        model(**batch)
    with pytest.raises(ValueError, match="out of range"):
        model.generate(**batch, max_new_tokens=2)


@pytest.mark.parametrize("wrong", [None, torch.tensor(1), torch.tensor([1, 1]), torch.tensor([0.0, 1.0, 1.0, 2.0])])
def test_a_granularity_that_is_not_one_integer_per_sample_is_refused(network, wrong) -> None:
    model, processor = network
    batch = processor(mixed_queries())
    batch["granularity"] = wrong
    with pytest.raises(ValueError, match="granularity"):
        model(**batch)


@torch.no_grad()
def test_a_dense_network_accepts_any_granularity_and_ignores_it() -> None:
    model, processor = tiny_network(num_experts=1)
    batch = processor(mixed_queries())
    expected = model(**batch).logits
    batch["granularity"] = torch.tensor([9, -4, 0, 1])
    assert torch.equal(model(**batch).logits, expected)
    batch.pop("granularity")
    assert torch.equal(model(**batch).logits, expected)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=9))
def test_routes_put_every_sample_back_in_its_place(granularity) -> None:
    routes = Routes.of(torch.tensor(granularity), len(granularity), 3)
    if routes.rows:
        pairs = zip(routes.experts, routes.rows, strict=True)
        outputs = torch.cat([torch.full((len(rows),), expert) for expert, rows in pairs])
        assert outputs[routes.restore].tolist() == granularity
    else:
        assert granularity == [routes.experts[0]] * len(granularity)


@torch.no_grad()
def test_the_loss_is_the_mean_over_answer_tokens_of_the_next_token_s_cross_entropy(network) -> None:
    model, processor = network
    batch = processor(mixed_queries(), ANSWERS)
    labels = batch.pop("labels")
    logits = model(**batch).logits
    expected = functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    out = model(**batch, labels=labels)
    torch.testing.assert_close(out.loss, expected)
    assert out.logits is None
    shared = model(**batch, labels=labels, num_items_in_batch=1000).loss
    torch.testing.assert_close(shared * 1000, expected * (labels[:, 1:] != -100).sum())


@torch.no_grad()
def test_only_rows_with_labels_and_only_the_last_row_of_a_prompt_reach_the_vocabulary(network) -> None:
    model, processor = network
    seen: list[int] = []
    handle = model.lm_head.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[:-1].numel()))
    batch = processor(mixed_queries(), ANSWERS)
    model(**batch)
    assert seen == [sum(len(answer) + 1 for answer in ANSWERS)]
    seen.clear()
    model.generate(**processor(mixed_queries()), max_new_tokens=3)
    assert seen == [4, 4, 4]
    handle.remove()


def test_a_batch_without_any_label_has_loss_zero_and_can_be_learned_from() -> None:
    model, processor = tiny_network()
    batch = processor(mixed_queries(), ANSWERS)
    batch["labels"].fill_(-100)
    loss = model(**batch).loss
    loss.backward()
    assert loss.item() == 0


def test_gradient_checkpointing_changes_neither_loss_nor_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        model, processor = tiny_network()
        stir(model)
        model.train()
        if checkpointing:
            # the second is its name in the oldest transformers that is supported
            (getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable)()
            assert model.language_model.gradient_checkpointing
        loss = model(**processor(mixed_queries(), ANSWERS)).loss
        loss.backward()
        gradients.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(gradients[0]) == len(gradients[1])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_only_the_experts_that_were_asked_receive_gradients() -> None:
    model, processor = tiny_network()
    model.train()
    model(**processor(mixed_queries()[:2], ANSWERS[:2])).loss.backward()
    for layer in model.language_model.layers:
        learned = [expert.gate_proj.weight.grad is not None for expert in layer.mlp]
        assert learned == [True, True, False]


@pytest.mark.parametrize("num_experts", [1, 3])
def test_training_in_bfloat16_autocast_learns_four_answers_from_scratch(num_experts) -> None:
    model, processor = tiny_network(num_experts=num_experts)
    model.train()
    batch = processor(mixed_queries(), ANSWERS, padding_side="right")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert abs(losses[0] - math.log(260)) < 0.5
    assert losses[-1] < 0.2
    model.eval()
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    assert processor.read(model.generate(**processor(mixed_queries()), max_new_tokens=20)) == ANSWERS


@torch.no_grad()
def test_features_are_taken_before_the_last_norm_of_the_tower(network) -> None:
    model, processor = network
    pixels = processor(mixed_queries())["pixel_values"]
    expected = model.image_features(pixels)
    norm = model.vision_tower.post_layernorm
    weight = norm.weight.clone()
    norm.weight.fill_(float("nan"))
    assert torch.equal(model.image_features(pixels), expected)
    norm.weight.copy_(weight)
    hidden = model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(model.projector(hidden), expected)


def test_vision_layers_says_how_many_layers_feed_the_projector() -> None:
    model, _ = tiny_network(vision_layers=2)
    assert len(model.vision_tower.encoder.layers) == 2
    assert not hasattr(model.vision_tower, "head")
    with pytest.raises(ValueError, match=r"vision_layers must be in 1\.\.3"):
        tiny_config(byte_tokenizer(), vision_layers=4)


@torch.no_grad()
@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    aspect=st.sampled_from(["square", "pad", "anyres", "anyres_max_1", "anyres_max_4"]),
    merge=st.sampled_from(["flat", "spatial", "spatial_unpad"]),
)
def test_an_image_of_any_size_gives_as_many_rows_as_it_has_placeholders(width, height, aspect, merge) -> None:
    config = tiny_config(byte_tokenizer(), aspect=aspect, merge=merge, grid_pinpoints=PINPOINTS)
    layout = config.layout
    tiles = cut_tiles(to_rgb(picture(0, width, height)), layout)
    assert len(tiles) == layout.tiles((width, height))
    model = small_projector_only(config)
    pixels = torch.zeros(len(tiles), 3, 32, 32)
    assert len(model.image_rows(model.image_features(pixels), [(width, height)])) == layout.rows((width, height))


_BUILT: dict[str, RSUniVLMForConditionalGeneration] = {}


def small_projector_only(config: RSUniVLMConfig) -> RSUniVLMForConditionalGeneration:
    """A network for this layout; only its layout differs from the one built before."""
    merge = config.merge
    if merge not in _BUILT:
        _BUILT[merge] = RSUniVLMForConditionalGeneration(config)
    _BUILT[merge].config.aspect = config.aspect
    return _BUILT[merge]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aspect": "highres"}, "aspect 'highres' is not supported"),
        ({"aspect": "anyres"}, "needs grid_pinpoints"),
        ({"aspect": "anyres", "grid_pinpoints": [[33, 32]]}, "no multiple of the tile side"),
        ({"merge": "spatial_maxpool2x2"}, "merge 'spatial_maxpool2x2' is not supported"),
        ({"num_experts": 0}, "num_experts must be at least 1"),
        ({"views": 9}, "views must be in 1..8, not 9"),
        ({"drafts": 0}, "drafts must be in 1..64, not 0"),
        ({"stem": [[8, 0], [24, 1]]}, "a stem of 2 levels makes patches of 4 pixels, 24 wide: the tower wants 8"),
        ({"stem": [[8, 0], [16, 0], [16, 1]]}, "16 wide: the tower wants 8 pixels and 24"),
    ],
)
def test_an_unsupported_configuration_is_refused_by_name(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_config(byte_tokenizer(), **changes)


@pytest.mark.parametrize("kind", ["mlp", "mlp0x_gelu", "resampler"])
def test_an_unknown_projector_is_refused(kind) -> None:
    with pytest.raises(ValueError, match="use linear or mlpNx_gelu"):
        tiny_network(projector=kind)


@pytest.mark.parametrize(("kind", "layers"), [("linear", 1), ("mlp1x_gelu", 1), ("mlp2x_gelu", 2), ("mlp3x_gelu", 3)])
def test_projectors_have_the_depth_that_their_name_says(kind, layers) -> None:
    model, processor = tiny_network(projector=kind)
    linear = [module for module in model.projector.modules() if isinstance(module, torch.nn.Linear)]
    assert len(linear) == layers
    assert model.generate(**processor(mixed_queries()), max_new_tokens=2).shape == (4, 2)


def test_the_newline_row_follows_every_image_when_the_merge_says_so() -> None:
    plain, _ = tiny_network(merge="flat")
    model, processor = tiny_network(merge="spatial_unpad")
    assert not hasattr(plain, "image_newline")
    batch = processor([Query(Task.DESCRIBE_CHANGE, (picture(0), picture(1)))])
    assert (batch["input_ids"] == processor.image_token_id).sum() == 2 * (16 + 1)
    rows = model.image_rows(model.image_features(batch["pixel_values"]))
    assert torch.equal(rows[16], model.image_newline)
    assert torch.equal(rows[33], model.image_newline)


def test_a_stem_of_convolutions_stands_in_for_the_cut_into_patches(tmp_path: Path) -> None:
    model, processor = tiny_network(stem=[[8, 0], [16, 1], [24, 1]])
    start = ConvolutionStem(3, [[8, 0], [16, 1], [24, 1]])
    pixels = torch.rand(2, 3, 32, 32)
    assert start(pixels).shape == (2, 24, 4, 4)
    assert all((block.convolutions[1].weight == 0).all() for block in start.layers if hasattr(block, "convolutions"))
    stir(model)
    model.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert torch.equal(again.image_features(pixels), model.image_features(pixels))
    loss = model(**processor(mixed_queries(), ANSWERS)).loss
    loss.backward()
    assert all(p.grad is not None for p in model.vision_tower.embeddings.parameters())


def test_placeholders_that_do_not_match_the_images_are_an_error(network) -> None:
    model, processor = network
    batch = processor(mixed_queries())
    batch["pixel_values"] = batch["pixel_values"][:-1]
    with pytest.raises(ValueError, match="80 image placeholders, but the images give 64 rows"):
        model(**batch)
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model(granularity=batch["granularity"])


def test_anyres_needs_the_sizes_of_the_images() -> None:
    model, processor = tiny_network(aspect="anyres", merge="spatial_unpad", grid_pinpoints=PINPOINTS)
    batch = processor(mixed_queries())
    batch.pop("image_sizes")
    with pytest.raises(ValueError, match="image_sizes is missing"):
        model(**batch)


def test_a_prompt_without_an_image_is_answered(network) -> None:
    model, processor = network
    batch = processor.encode(["hello", "you there"], [[], []], granularity=[0, 1])
    assert "pixel_values" not in batch
    assert model.generate(**batch, max_new_tokens=3).shape == (2, 3)


def test_beams_and_samples_keep_pairs_and_granularities_together(network) -> None:
    model, processor = network
    queries = mixed_queries()
    batch = processor(queries)
    greedy = model.generate(**batch, max_new_tokens=6)
    torch.manual_seed(0)
    sampled = model.generate(**batch, max_new_tokens=6, do_sample=True, top_k=1, num_return_sequences=2)
    assert sampled[::2].tolist() == sampled[1::2].tolist() == greedy.tolist()
    assert model.generate(**batch, max_new_tokens=6, num_beams=2).shape[0] == 4


@torch.no_grad()
def test_a_saved_network_comes_back_through_the_auto_classes(tmp_path: Path) -> None:
    model, processor = tiny_network(merge="spatial_unpad")
    stir(model)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path)
    reader = AutoProcessor.from_pretrained(tmp_path)
    assert type(config) is RSUniVLMConfig
    assert type(again) is RSUniVLMForConditionalGeneration
    assert type(reader) is RSUniVLMProcessor
    assert again.config.layout == reader.layout == model.config.layout
    expected = model(**processor(mixed_queries(), ANSWERS)).token_losses
    assert torch.equal(again(**reader(mixed_queries(), ANSWERS)).token_losses, expected)


def test_anyres_picks_the_canvas_that_keeps_most_pixels_and_wastes_least() -> None:
    layout = TileLayout(384, 27, "anyres_max_9", "spatial_unpad", ((384, 768), (768, 384), (768, 768), (1152, 768)))
    assert layout.canvas((1000, 500)) == (1152, 768)
    assert layout.canvas((768, 384)) == (768, 384)
    assert layout.canvas((100, 100)) == (384, 768)
