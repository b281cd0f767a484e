"""A network of the shape of the embedded model, small enough to build in every test."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, SiglipVisionConfig

from vlm.model import RSUniVLMConfig, RSUniVLMForConditionalGeneration
from vlm.processing import RSUniVLMProcessor
from vlm.prompts import Query, Task


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte, and the four special tokens."""
    vocabulary = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<image>"],
    )


def tiny_config(tokenizer: PreTrainedTokenizerFast, **changes: Any) -> RSUniVLMConfig:
    """Two decoder layers, three tower layers, 16 patches a tile."""
    settings: dict[str, Any] = {
        "text_config": Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
        ),
        "vision_config": SiglipVisionConfig(
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=32,
            patch_size=8,
        ),
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        "mask_grid": 12,
        "tile_pixels": 32,
    }
    return RSUniVLMConfig(**(settings | changes))


def tiny_network(seed: int = 0, **changes: Any) -> tuple[RSUniVLMForConditionalGeneration, RSUniVLMProcessor]:
    """A network with random weights, in evaluation mode, and its processor."""
    tokenizer = byte_tokenizer()
    config = tiny_config(tokenizer, **changes)
    torch.manual_seed(seed)
    model = RSUniVLMForConditionalGeneration(config).eval()
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, RSUniVLMProcessor.of(config, tokenizer)


def stir(model: RSUniVLMForConditionalGeneration, seed: int = 1) -> None:
    """Give every parameter a size at which each of them shows in the logits."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)


def picture(seed: int, width: int = 40, height: int = 30) -> np.ndarray:
    """Random pixels (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def mixed_queries() -> list[Query]:
    """Four queries of all three granularities, one of them with a pair of images, of different lengths."""
    return [
        Query(Task.CAPTION, (picture(0),)),
        Query(Task.GROUND, (picture(1),), "the plane at the far left"),
        Query(Task.SEGMENT, (picture(2),), "water"),
        Query(Task.SEGMENT_CHANGE, (picture(3), picture(4)), "building"),
    ]


ANSWERS = ["a road", "[1, 2, 3, 4]", "others*12", "x"]
