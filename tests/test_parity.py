"""The network computes what the reference implementation computes, for checkpoints in the published format."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

from vlm.checkpoints import load
from vlm.model import RSUniVLMForConditionalGeneration
from vlm.processing import RSUniVLMProcessor, cut_tiles, to_pixel_values, to_rgb

GOLDEN = Path(__file__).parent / "golden"
VARIANTS = ("a_anyres_max_9_unpad", "b_pad_flat", "c_square_flat", "d_square_unpad_published")


@dataclass
class Reference:
    """One variant: our network on its checkpoint, and what the reference made of it."""

    model: RSUniVLMForConditionalGeneration
    processor: RSUniVLMProcessor
    facts: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    def images(self, key: str) -> list[Image.Image]:
        return [to_rgb(Image.open(GOLDEN / name)) for name in self.facts["images"][key]["files"]]

    def batch(self, cases: list[dict[str, Any]]) -> Any:
        return self.processor.encode(
            [case["prompt"] for case in cases],
            [self.images(case["image_key"]) for case in cases],
            granularity=[case["granularity"] for case in cases],
        )

    def generate(self, cases: list[dict[str, Any]]) -> list[list[int]]:
        return self.model.generate(**self.batch(cases), max_new_tokens=24).tolist()


@pytest.fixture(scope="module", params=VARIANTS)
def reference(request: pytest.FixtureRequest) -> Reference:
    folder = GOLDEN / request.param
    model, processor = load(folder / "checkpoint")
    facts = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    return Reference(model, processor, facts, load_file(folder / "golden.safetensors"))


def test_every_variant_has_fourteen_cases(reference: Reference) -> None:
    assert len(reference.facts["cases"]) == 14


def test_pixels_are_the_reference_s_bit_for_bit(reference: Reference) -> None:
    for key, facts in reference.facts["images"].items():
        for index, (image, expected) in enumerate(zip(reference.images(key), facts["pixel"], strict=True)):
            assert list(image.size) == facts["sizes"][index]
            pixels = to_pixel_values(cut_tiles(image, reference.processor.layout))
            assert pixels.shape == torch.Size([len(pixels), *expected["shape"][-3:]])
            assert hashlib.sha256(pixels.numpy().tobytes()).hexdigest() == expected["sha256_float32"]
            seen = pixels[:, :, 100:108, 200:208]
            assert torch.equal(seen, reference.tensors[f"pixel/{key}/{index}/slice"])


def test_prompts_become_the_reference_s_ids_and_lengths(reference: Reference) -> None:
    image_token = reference.processor.image_token_id
    for case in reference.facts["cases"]:
        ids = reference.batch([case])["input_ids"][0].tolist()
        assert len(ids) == case["merged_length"], case["case"]
        folded = [
            -200 if token == image_token else token
            for position, token in enumerate(ids)
            if token != image_token or ids[position - 1] != image_token
        ]
        assert folded == case["input_ids"], case["case"]


def test_the_rule_on_the_prompt_gives_the_reference_s_granularity(reference: Reference) -> None:
    for case in reference.facts["cases"]:
        batch = reference.processor.encode([case["prompt"]], [reference.images(case["image_key"])])
        assert batch["granularity"].tolist() == [case["rule_granularity"]]


def test_vocabulary_is_cut_to_the_tokenizer(reference: Reference) -> None:
    width = reference.facts["logits_width"]
    assert len(reference.processor.tokenizer) == width
    assert reference.model.lm_head.weight.shape[0] == reference.model.config.text_config.vocab_size == width


@torch.no_grad()
def test_image_features_are_the_reference_s(reference: Reference) -> None:
    for key in reference.facts["images"]:
        for index, image in enumerate(reference.images(key)):
            tiles = cut_tiles(image, reference.processor.layout)
            step = 29 if len(tiles) <= 3 else 121
            features = reference.model.image_features(to_pixel_values(tiles))[:, ::step]
            expected = reference.tensors[f"features/{key}/{index}/every_29th_token"]
            torch.testing.assert_close(features, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_merged_embeddings_are_the_reference_s(reference: Reference) -> None:
    for case in reference.facts["cases"]:
        batch = reference.batch([case])
        embeds = reference.model.embed(batch["input_ids"], batch["pixel_values"], batch["image_sizes"])
        expected = reference.tensors[f"embeds/{case['case']}/every_nth_row"]
        torch.testing.assert_close(embeds[0, :: case["embeds_row_step"]], expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_last_logits_are_the_reference_s(reference: Reference) -> None:
    for case in reference.facts["cases"]:
        logits = reference.model(**reference.batch([case]), logits_to_keep=1).logits
        assert logits.shape[:2] == (1, 1)
        expected = reference.tensors[f"logits/{case['case']}/last_prompt"]
        torch.testing.assert_close(logits[0, 0], expected, atol=1e-3, rtol=0)


def test_every_greedy_token_alone_is_the_reference_s(reference: Reference) -> None:
    for case in reference.facts["cases"]:
        assert reference.generate([case]) == [case["tokens"]], case["case"]


def test_decoded_text_is_the_reference_s(reference: Reference) -> None:
    cases = reference.facts["cases"]
    assert reference.processor.read([case["tokens"] for case in cases]) == [case["text"] for case in cases]


@torch.no_grad()
def check_mixed_batch(reference: Reference, names: list[str]) -> None:
    cases = {case["case"]: case for case in reference.facts["cases"]}
    mixed = [cases[name] for name in names]
    assert len({case["granularity"] for case in mixed}) > 1
    batch = reference.batch(mixed)
    assert (batch["attention_mask"][:, 0] == 0).any()
    logits = reference.model(**batch, logits_to_keep=1).logits[:, 0]
    expected = torch.stack([reference.tensors[f"logits/{name}/last_prompt"] for name in names])
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=0)
    for row, case in zip(reference.generate(mixed), mixed, strict=True):
        assert row[: len(case["tokens"])] == case["tokens"], case["case"]


def test_batches_mixing_images_pairs_and_granularities_equal_the_reference(reference: Reference) -> None:
    if reference.processor.layout.splits:
        check_mixed_batch(reference, ["portrait_g0", "pair_g1", "square_g2", "square_override_g0"])
    else:
        check_mixed_batch(reference, [case["case"] for case in reference.facts["cases"]])


@pytest.mark.slow
def test_batches_of_many_tiles_equal_the_reference(reference: Reference) -> None:
    names = [case["case"] for case in reference.facts["cases"]]
    for start in range(5):
        check_mixed_batch(reference, names[start::5])


@torch.no_grad()
def test_a_loop_written_by_hand_over_the_cache_gives_the_same_tokens(reference: Reference) -> None:
    cases = [case for case in reference.facts["cases"] if case["case"] in ("square_g0", "square_g1", "square_g2")]
    batch = reference.batch(cases)
    penalty = reference.model.generation_config.repetition_penalty or 1.0
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(float(penalty))])
    written = torch.empty((len(cases), 0), dtype=torch.long)
    out = reference.model(**batch, use_cache=True, logits_to_keep=1)
    mask = batch["attention_mask"]
    for _ in range(24):
        chosen = processors(written, out.logits[:, -1]).argmax(dim=-1, keepdim=True)
        written = torch.cat([written, chosen], dim=1)
        mask = torch.cat([mask, torch.ones_like(chosen)], dim=1)
        out = reference.model(
            input_ids=chosen,
            attention_mask=mask,
            granularity=batch["granularity"],
            past_key_values=out.past_key_values,
            use_cache=True,
        )
    for row, case in zip(written.tolist(), cases, strict=True):
        assert row[: len(case["tokens"])] == case["tokens"], case["case"]


def test_every_step_of_generation_runs_only_the_expert_that_was_asked_for(reference: Reference) -> None:
    case = next(case for case in reference.facts["cases"] if case["case"] == "square_override_g1")
    calls: list[tuple[int, int]] = []
    handles = [
        expert.register_forward_hook(lambda *_, where=(depth, number): calls.append(where))
        for depth, layer in enumerate(reference.model.language_model.layers)
        for number, expert in enumerate(layer.mlp)
    ]
    tokens = reference.generate([case])[0]
    for handle in handles:
        handle.remove()
    assert calls == [(0, 1), (1, 1)] * len(tokens)
