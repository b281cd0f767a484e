"""Everything that a text stage can start from, in the layouts in which it is published, at tiny size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_network import byte_tokenizer, mixed_queries, stir, tiny_config, tiny_network
from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipConfig, SiglipModel, SiglipVisionConfig

from training import starts
from vlm import checkpoints
from vlm.model import RSUniVLMForConditionalGeneration

GOLDEN = Path(__file__).parent / "golden"
ANYRES = GOLDEN / "a_anyres_max_9_unpad" / "checkpoint"
TOWER = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 2}


def raw_siglip(folder: Path) -> SiglipModel:
    """A whole SigLIP, text tower and pooling head included, as the hub keeps it."""
    text = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = TOWER | {"image_size": 32, "patch_size": 8}
    config = SiglipConfig(text_config=text | {"vocab_size": 11, "max_position_embeddings": 5}, vision_config=vision)
    model = SiglipModel(config)
    stir(model, 2)
    model.save_pretrained(folder)
    return model


def raw_qwen(folder: Path, tie: bool = True, **changes: Any) -> Qwen2ForCausalLM:
    """A Qwen2 with more rows of vocabulary than its tokenizer has tokens, as published."""
    tokenizer = byte_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen2Config(
        vocab_size=len(tokenizer) + 20,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=tie,
        **(sizes | changes),
    )
    model = Qwen2ForCausalLM(config)
    stir(model, 3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


@pytest.mark.parametrize("tie", [True, False])
def test_raw_siglip_and_qwen2_compute_what_they_compute_alone(tmp_path: Path, tie) -> None:
    siglip, qwen = raw_siglip(tmp_path / "siglip"), raw_qwen(tmp_path / "qwen", tie)
    model, processor = starts.load([tmp_path / "qwen", tmp_path / "siglip"])
    assert model.config.num_experts == 1
    batch = processor(mixed_queries())
    with torch.no_grad():
        pixels = batch["pixel_values"]
        penultimate = siglip.vision_model(pixels, output_hidden_states=True).hidden_states[-2]
        tower = model.vision_tower
        features = tower.encoder(inputs_embeds=tower.embeddings(pixels)).last_hidden_state
        torch.testing.assert_close(features, penultimate, atol=1e-5, rtol=1e-5)
        words = processor.tokenizer("a road by the sea", return_tensors="pt")["input_ids"]
        expected = qwen(words).logits[..., : len(processor.tokenizer)]
        got = model(input_ids=words, granularity=torch.tensor([0])).logits
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
        assert torch.isfinite(model(**batch).logits).all()
    assert model.generation_config.eos_token_id == processor.tokenizer.eos_token_id
    checkpoints.save(model, processor, tmp_path / "joined")
    again, _ = checkpoints.load(tmp_path / "joined")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())


def test_a_raw_tower_alone_or_of_another_shape_is_refused_with_its_folder(tmp_path: Path) -> None:
    raw_siglip(tmp_path / "siglip")
    raw_qwen(tmp_path / "qwen")
    with pytest.raises(ValueError, match="a siglip and a qwen2 model, not qwen2 and qwen2"):
        starts.load([tmp_path / "qwen", tmp_path / "qwen"])
    weights = load_file(tmp_path / "qwen" / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "qwen" / "model.safetensors")
    with pytest.raises(ValueError, match=r"qwen: .*1 missing: language_model\.norm\.weight"):
        starts.load([tmp_path / "siglip", tmp_path / "qwen"])
    with pytest.raises(ValueError, match="describes a 'siglip' model"):
        starts.load([tmp_path / "siglip"])


def llava_onevision(folder: Path) -> Path:
    """The reference's own start: the golden checkpoint of the anyres layout, made dense, as LLaVA-OneVision is."""
    shutil.copytree(ANYRES, folder)
    tensors = load_file(folder / "model.safetensors")
    dense = {}
    for name, value in tensors.items():
        parts = name.split(".")
        if parts[1] == "layers" and "mlp" in parts:
            if parts[4] != "0":
                continue
            del parts[4]
        dense[".".join(parts)] = value
    save_file(dense, folder / "model.safetensors")
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    settings |= {"model_type": "llava", "architectures": ["LlavaQwenForCausalLM"], "text_config": {}}
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def test_llava_onevision_starts_dense_and_sees_whole_squares(tmp_path: Path) -> None:
    model, processor = starts.load([llava_onevision(tmp_path / "ov")])
    assert model.config.num_experts == 1
    layout = model.config.layout
    assert (layout.aspect, layout.merge, layout.splits) == ("square", "spatial_unpad", False)
    assert processor.layout == layout
    reference, _ = checkpoints.load(ANYRES)
    name = "language_model.layers.0.mlp.0.up_proj.weight"
    assert torch.equal(model.state_dict()[name], reference.state_dict()[name])
    with torch.no_grad():
        assert torch.isfinite(model(**processor(mixed_queries())).logits).all()


def test_our_own_and_the_published_format_start_as_they_are(tmp_path: Path) -> None:
    model, processor = tiny_network()
    checkpoints.save(model, processor, tmp_path)
    again, _ = starts.load([tmp_path])
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    published, _ = starts.load([GOLDEN / "d_square_unpad_published" / "checkpoint"])
    assert published.config.num_experts == 3
    assert {value.dtype for value in published.state_dict().values()} == {torch.float32}


def test_the_embedded_model_is_a_start_by_name() -> None:
    model, _ = starts.load(["embedded"])
    assert model.config.mask_grid == 12


def test_the_paper_starts_from_the_full_shapes() -> None:
    vision = SiglipVisionConfig(**checkpoints.SO400M)
    text = Qwen2Config(
        vocab_size=151647,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    config = tiny_config(
        byte_tokenizer(),
        text_config=text,
        vision_config=vision,
        num_experts=1,
        vision_layers=26,
        merge="spatial_unpad",
        mask_grid=24,
    )
    with torch.device("meta"):
        dense = RSUniVLMForConditionalGeneration(config)
        parts = {"vision_tower.": 397_747_744, "projector.": 1_836_800}
        for prefix, expected in parts.items():
            assert sum(p.numel() for n, p in dense.named_parameters() if n.startswith(prefix)) == expected, prefix
        checkpoints.widen(dense)
        body = sum(
            p.numel()
            for n, p in dense.named_parameters()
            if n.startswith("language_model.") and "embed_tokens" not in n
        )
        assert body == 985_470_848
