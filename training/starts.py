"""What a text stage starts from: any checkpoint of the family, or a raw SigLIP and a raw Qwen2, or nothing.

| sources | what |
|---|---|
| `published` | the published RSUniVLM, three experts |
| `embedded` | the model that comes with the package |
| folder or hub id | our own format, the published one, or LLaVA-OneVision on Qwen2, from which the reference began |
| two folders or hub ids | raw SigLIP and raw Qwen2 in the hub's layout, in any order; the projector is fresh |
| none | the embedded model's shape, its tower from the warm-up (`training.nano`) |

Weights are read as float32 and every tensor must be there: what does not fit is listed in one ValueError.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, SiglipVisionConfig

import vlm
from vlm import checkpoints
from vlm.model import RSUniVLMConfig, RSUniVLMForConditionalGeneration
from vlm.processing import END_OF_ANSWER, RSUniVLMProcessor
from vlm.prompts import PLACEHOLDER

EMBEDDED = Path(vlm.__file__).parent / "nano"
NAMED = {"published": checkpoints.PUBLISHED, "embedded": str(EMBEDDED)}
MASK_GRID = 24
"""Mask cells a side of the published network (paper, section 7)."""


def load(sources: Sequence[str | Path]) -> tuple[RSUniVLMForConditionalGeneration, RSUniVLMProcessor]:
    """Model and processor of one source, or of two: see the table above."""
    names = [NAMED.get(str(source), str(source)) for source in sources]
    if len(names) == 2:
        folders = [checkpoints.fetch(name) for name in names]
        kinds = [str(checkpoints.read_json(folder / "config.json").get("model_type", "")) for folder in folders]
        found = {kind.split("_")[0]: folder for kind, folder in zip(kinds, folders, strict=True)}
        if set(found) != {"siglip", "qwen2"}:
            raise ValueError(f"two sources should be a siglip and a qwen2 model, not {' and '.join(kinds)}")
        return join(found["siglip"], found["qwen2"])
    if len(names) != 1:
        raise ValueError(f"a start is one checkpoint, or a SigLIP and a Qwen2, not {len(names)} sources")
    model, processor = checkpoints.load(names[0], dtype=torch.float32)
    if model.config.layout.splits:
        # As the paper does with its start: each image is one square, with one newline row where there is a newline.
        model.config.aspect, model.config.grid_pinpoints = "square", None
        processor = RSUniVLMProcessor.of(model.config, processor.tokenizer)
    return model, processor


def fingerprint(source: str) -> str:
    """A short hash of the weights of "embedded", of a folder or of a file; of a hub id, the id itself."""
    path = Path(NAMED["embedded"] if source == "embedded" else source)
    if not path.exists():
        return source
    digest = hashlib.blake2b(digest_size=8)
    for one in [path] if path.is_file() else sorted(path.glob("*.safetensors")):
        with one.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def join(tower: Path, decoder: Path) -> tuple[RSUniVLMForConditionalGeneration, RSUniVLMProcessor]:
    """A dense network with the weights of a SigLIP and a Qwen2 folder (config.json, *.safetensors, tokenizer.json).

    As in the reference: features of the last but one layer of the tower, no head, and a vocabulary cut to what the
    tokenizer holds. A head, a text tower and the layers after are passed over.
    """
    tokenizer = PreTrainedTokenizerFast.from_pretrained(decoder)
    absent = [token for token in ("<|im_start|>", END_OF_ANSWER) if token not in tokenizer.get_vocab()]
    if absent:
        raise ValueError(f"the tokenizer of {decoder} has no {', '.join(absent)}: use a Qwen2 with the chat tokens")
    settings = checkpoints.read_json(tower / "config.json")
    vision = SiglipVisionConfig(**settings.get("vision_config", settings))
    text = Qwen2Config.from_pretrained(decoder)
    text.vocab_size = len(tokenizer)
    layers = vision.num_hidden_layers - 1
    config = RSUniVLMConfig(
        text_config=text,
        vision_config=vision,
        num_experts=1,
        image_token_id=tokenizer.get_vocab().get(PLACEHOLDER, checkpoints.NO_IMAGE_TOKEN),
        aspect="square",
        merge="spatial_unpad",
        mask_grid=MASK_GRID if vision.image_size % MASK_GRID == 0 else vision.image_size // vision.patch_size,
        tile_pixels=vision.image_size,
        vision_layers=layers,
        tie_word_embeddings=text.tie_word_embeddings,
    )
    model = RSUniVLMForConditionalGeneration._from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        del wanted["lm_head.weight"]

    def of_tower(stored: str) -> str | None:
        name = stored.removeprefix("vision_model.")
        number = re.match(r"encoder\.layers\.(\d+)\.", name)
        beyond = number is not None and int(number[1]) >= layers
        other = (
            stored.startswith(("text_model.", "logit_")) or name.startswith("head.") or name.endswith("position_ids")
        )
        return None if beyond or other else f"vision_tower.{name}"

    def of_decoder(stored: str) -> str | None:
        if stored == "lm_head.weight":
            return None if config.tie_word_embeddings else stored
        return re.sub(
            r"\.mlp\.(gate|up|down)_proj", r".mlp.0.\1_proj", f"language_model.{stored.removeprefix('model.')}"
        )

    weights: dict[str, Any] = {}
    for folder, rename, prefix in (
        (tower, of_tower, ("vision_tower.",)),
        (decoder, of_decoder, ("language_model.", "lm_head.")),
    ):
        part = {name: shape for name, shape in wanted.items() if name.startswith(prefix)}
        try:
            weights |= checkpoints.read_weights(
                checkpoints.weight_files(folder), part, rename, dtype=torch.float32, cut=checkpoints.VOCABULARY
            )
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error
    model.load_state_dict(weights, strict=False)
    model.generation_config = checkpoints.with_ends(GenerationConfig(), tokenizer)
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(END_OF_ANSWER)
    return model, RSUniVLMProcessor.of(config, tokenizer)
