"""Queries to tensors: images of every kind, prompts, labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_network import ANSWERS, byte_tokenizer, mixed_queries, picture, tiny_config
from transformers import AutoProcessor

from vlm.model import IGNORED
from vlm.processing import RSUniVLMProcessor, cut_tiles, to_pixel_values, to_rgb
from vlm.prompts import Granularity, Query, Task, chat_prompt

PINPOINTS = [[32 * across, 32 * down] for across in (1, 2, 3) for down in (1, 2, 3)]


@pytest.fixture(scope="module")
def processor() -> RSUniVLMProcessor:
    tokenizer = byte_tokenizer()
    return RSUniVLMProcessor.of(tiny_config(tokenizer), tokenizer)


def layout_of(**changes) -> RSUniVLMProcessor:
    tokenizer = byte_tokenizer()
    return RSUniVLMProcessor.of(tiny_config(tokenizer, **changes), tokenizer)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"])
def test_a_pil_image_of_any_mode_becomes_rgb_first(processor, mode) -> None:
    grey = Image.fromarray(picture(0)[:, :, 0])
    image = Image.new(mode, (40, 30)) if mode in ("LAB", "HSV", "I;16") else grey.convert(mode)
    batch = processor([Query(Task.CAPTION, (image,))])
    expected = processor([Query(Task.CAPTION, (image.convert("RGB"),))])
    assert torch.equal(batch["pixel_values"], expected["pixel_values"])


def test_a_palette_with_transparency_becomes_rgb_without_a_warning() -> None:
    image = Image.fromarray(picture(0)).convert("P")
    image.info["transparency"] = bytes(range(256))
    assert to_rgb(image).mode == "RGB"


def test_an_array_and_a_pil_image_of_the_same_pixels_are_the_same(processor) -> None:
    pixels = picture(7)
    from_array = processor([Query(Task.CAPTION, (pixels,))])
    flipped_view = processor([Query(Task.CAPTION, (pixels[::-1, ::-1][::-1, ::-1],))])
    from_image = processor([Query(Task.CAPTION, (Image.fromarray(pixels),))])
    assert torch.equal(from_array["pixel_values"], from_image["pixel_values"])
    assert torch.equal(flipped_view["pixel_values"], from_image["pixel_values"])
    assert from_array["image_sizes"].tolist() == [[40, 30]]


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        "image.png",
        None,
    ],
)
def test_anything_else_is_refused_with_what_is_wanted(processor, wrong) -> None:
    with pytest.raises(TypeError, match=r"PIL image or a uint8 array of shape \(height, width, 3\)"):
        processor([Query(Task.CAPTION, (wrong,))])


def test_pixels_lie_between_minus_one_and_one() -> None:
    black, white = Image.new("RGB", (32, 32)), Image.new("RGB", (32, 32), (255, 255, 255))
    pixels = to_pixel_values([black, white])
    assert pixels.dtype == torch.float32
    assert pixels.is_contiguous()
    assert (pixels[0] == -1).all()
    assert (pixels[1] == 1).all()


def test_pad_surrounds_a_wide_image_with_grey_and_square_stretches_it() -> None:
    white = Image.new("RGB", (64, 32), (255, 255, 255))
    (padded,) = cut_tiles(white, layout_of(aspect="pad").layout)
    (stretched,) = cut_tiles(white, layout_of(aspect="square").layout)
    assert padded.getpixel((16, 1)) == (127, 127, 127)
    assert padded.getpixel((16, 16)) == (255, 255, 255)
    assert (np.asarray(stretched) == 255).all()


def test_anyres_shows_the_whole_image_first_and_then_its_tiles_row_by_row() -> None:
    image = Image.new("RGB", (64, 32), (255, 0, 0))
    image.paste((0, 0, 255), (32, 0, 64, 32))
    tiles = cut_tiles(image, layout_of(aspect="anyres", grid_pinpoints=PINPOINTS).layout)
    assert len(tiles) == 3
    assert tiles[1].getpixel((5, 5)) == (255, 0, 0)
    assert tiles[2].getpixel((25, 5)) == (0, 0, 255)


@settings(max_examples=80, deadline=None)
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    aspect=st.sampled_from(["square", "pad", "anyres", "anyres_max_4"]),
)
def test_an_image_of_any_size_becomes_square_tiles(width, height, aspect) -> None:
    layout = layout_of(aspect=aspect, grid_pinpoints=PINPOINTS).layout
    tiles = cut_tiles(Image.new("RGB", (width, height)), layout)
    assert {tile.size for tile in tiles} == {(32, 32)}
    assert len(tiles) == layout.tiles((width, height))


def test_a_prompt_holds_one_placeholder_for_every_row_of_its_images(processor) -> None:
    batch = processor(mixed_queries())
    placeholders = (batch["input_ids"] == processor.image_token_id).sum(dim=1)
    assert placeholders.tolist() == [16, 16, 16, 32]
    assert batch["pixel_values"].shape == (5, 3, 32, 32)
    assert batch["granularity"].tolist() == [0, 1, 2, 2]


def test_pieces_around_the_images_are_tokenised_on_their_own(processor) -> None:
    query = mixed_queries()[3]
    ids = processor([query])["input_ids"][0]
    words = processor.tokenizer.decode(ids[ids != processor.image_token_id])
    assert words == chat_prompt(query.message, 2).replace("<image>", "")


def test_a_granularity_of_the_query_overrides_the_task_s(processor) -> None:
    query = Query(Task.SEGMENT, (picture(0),), "water", granularity=Granularity.IMAGE)
    assert processor([query])["granularity"].tolist() == [0]


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_labels_cover_the_answer_and_its_end_and_nothing_else(processor, padding_side) -> None:
    batch = processor(mixed_queries(), ANSWERS, padding_side=padding_side)
    for ids, labels, mask, answer in zip(
        batch["input_ids"], batch["labels"], batch["attention_mask"], ANSWERS, strict=True
    ):
        kept = labels != IGNORED
        assert torch.equal(ids[kept], labels[kept])
        assert mask[kept].all()
        assert processor.tokenizer.decode(labels[kept]) == answer + "<|im_end|>"


def test_an_answer_follows_the_prompt_that_generation_begins_from(processor) -> None:
    queries = mixed_queries()[:1]
    prompt = processor(queries)["input_ids"][0].tolist()
    taught = processor(queries, ["a road"])["input_ids"][0].tolist()
    assert taught[: len(prompt)] == prompt
    assert processor.read([taught[len(prompt) :]]) == ["a road"]


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_padding_is_masked_and_on_the_side_that_was_asked(processor, padding_side) -> None:
    batch = processor(mixed_queries(), padding_side=padding_side)
    mask = batch["attention_mask"]
    assert (batch["input_ids"][mask == 0] == processor.tokenizer.pad_token_id).all()
    order = mask if padding_side == "left" else mask.flip(1)
    assert (order.diff(dim=1) >= 0).all()
    assert mask.sum(dim=1).max() == mask.shape[1]


def test_a_text_that_holds_a_placeholder_is_refused(processor) -> None:
    with pytest.raises(ValueError, match="may not contain <image>"):
        processor([Query(Task.QUESTION, (picture(0),), "what is <image>?")])
    with pytest.raises(ValueError, match="may not contain <image>"):
        processor([Query(Task.CAPTION, (picture(0),))], ["an <image>"])


def test_a_query_that_is_too_long_says_by_how_much(processor) -> None:
    with pytest.raises(ValueError, match=r"takes 3080 rows, but the network reads at most 2048"):
        processor([Query(Task.QUESTION, (picture(0),), "why " * 750)])


def test_counts_that_do_not_match_are_refused(processor) -> None:
    with pytest.raises(ValueError, match="nothing to encode"):
        processor([])
    with pytest.raises(ValueError, match="holds 1 <image> for 2"):
        processor.encode(["<image>"], [[picture(0), picture(1)]])
    with pytest.raises(ValueError, match="2 prompts need as many"):
        processor.encode(["a", "b"], [[]])
    with pytest.raises(ValueError, match="and answers if any"):
        processor(mixed_queries(), ["one"])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aspect": "pad", "merge": "spatial_unpad"},
        {"aspect": "anyres_max_4", "merge": "spatial_unpad", "grid_pinpoints": PINPOINTS},
    ],
)
def test_a_saved_processor_makes_the_same_batches(tmp_path: Path, changes) -> None:
    processor = layout_of(**changes)
    processor.save_pretrained(tmp_path)
    for again in (RSUniVLMProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        first, second = processor(mixed_queries(), ANSWERS), again(mixed_queries(), ANSWERS)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert again.max_rows == 2048
