"""The embedded model: its sizes, its tokenizer, and how each stage builds on the one before."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import ConcatDataset
from transformers import PreTrainedTokenizerFast, SiglipVisionConfig, SiglipVisionModel

from training import consensus, starts, warmup
from training.learners import TextModel, Warmup
from training.loop import save_atomically
from training.samples import Asking, Augmentation, Record, ask, augment
from training.stages import Stage
from training.train import Mixture, TextBatches, WarmupBatches, is_first, made_once, train, wait_for_all
from vlm import checkpoints
from vlm.model import RSUniVLMConfig, RSUniVLMForConditionalGeneration, build_tower
from vlm.processing import RSUniVLMProcessor
from vlm.prompts import PLACEHOLDER, chat_prompt

Records = ConcatDataset[Record]
SIZE = 192  # pixels, square
PATCH = 16
GRID = SIZE // PATCH  # mask cells a side: one per patch
CELLS_AT = 1024  # rotary position of a mask's first cell, beyond any question
DRAFTS = 16  # of a caption
VIEWS = 4  # the quarter turns; all eight views take twice the time
LEANS = {
    "segment": 1.0,
    "segment land": 0.0,
    "segment road": 0.6,
    "segment vegetation": 1.5,
    "segment water": 1.25,
    "segment_change": 0.75,
    "segment_change water": 0.0,
    "segment_change change": 2.0,
}  # log-odds that are added, see RESULTS.md
COMPARED = 400  # pictures by which a new tower is told in terms of the one before
READER = 64  # width of its queries and keys, see vlm.reader
PARTS = 4  # a side of a mask's cell, as many as the warm-up's heads tell apart
ASKING = Asking(GRID, PARTS, each=3)
TILE = 176  # native pixels of a large raster that one query sees
MASK_TILES, MASK_VIEWS = [TILE, 112], 2  # by which masks are judged together, and in how many views of each
BOX_TILES = [112, TILE, 264]  # by which boxes are
DESCRIBED_TILES = [88, TILE, 264]  # by which those are among which one is described
LEASTS = {
    "ground": 0.4,
    "ground car": 0.65,
    "ground tree": 0.33,
    "ground the one": 0.1,
}  # confidences from which on boxes are told, about half of the F1 on val
RUN_LABELS = ("airplane", "change", "ship", "car", "tree")  # with the mask classes: whose runs are single tokens

VISION = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": SIZE,
    "patch_size": PATCH,
    "vision_use_head": False,
}
STEM = [[32, 1], [64, 2], [128, 3], [256, 2]]  # see vlm.model.ConvolutionStem


def tower() -> SiglipVisionModel:
    """A fresh vision tower; its position embedding starts loud enough to be heard beside the patches."""
    model = build_tower(SiglipVisionConfig(**VISION, attn_implementation="sdpa"), STEM)
    model.embeddings.position_embedding.weight.data.copy_(positions(VISION["hidden_size"]))
    return model


def positions(width: int, loudness: float = 1.5) -> torch.Tensor:
    """Sines and cosines of row and column at many wavelengths: (patches, width)."""
    waves = torch.exp(torch.linspace(0, -np.log(50), width // 4)) * np.pi / 2
    place = torch.arange(GRID)[:, None] * waves
    one = torch.cat([place.sin(), place.cos()], -1)
    rows, columns = one.repeat_interleave(GRID, 0), one.repeat(GRID, 1)
    return loudness * torch.cat([rows, columns], -1)


# Words with their space, numbers of up to three digits with the comma that follows, box brackets, line ends.
PIECES = r"\], \[|[\[\]]|\p{N}{1,3}(?:, (?=\p{N}))?| ?\p{L}+|\*\p{N}{1,3}(?:, |\n)?|, |\n| ?[^\s\p{L}\p{N}]+|\s+"


def tokenizer(texts: Iterable[str], run_labels: Iterable[str], vocabulary: int = 3000) -> PreTrainedTokenizerFast:
    r"""Byte-level BPE trained on our own texts; the numbers 0..100 and whole runs of a mask row are single tokens.

    A run with its separator ("water*3, ", "others*12\n") is one token for every label in `run_labels`: the text stays
    the published dialect, and a mask costs one token a run instead of five.
    """
    core = Tokenizer(models.BPE(byte_fallback=False))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=3,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    numbers = [f"{n}, {n}" for n in range(101) for _ in range(400)]
    counts = [f"*{n}, *{n}\n*{n}" for n in range(1, GRID + 1) for _ in range(200)]
    core.train_from_iterator([*numbers, *counts, *texts], trainer)
    runs = [
        AddedToken(f"{label}*{count}{end}", normalized=False)
        for label in sorted({"others", *run_labels})
        for count in range(1, GRID + 1)
        for end in (", ", "\n", "")
    ]
    core.add_tokens(runs)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<image>"],
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def gaze(model: RSUniVLMForConditionalGeneration, words: PreTrainedTokenizerFast, loudness: float = 3.0) -> None:
    """Start two heads of three layers off looking where a mask is being written: at its cell and those to the right.

    A bias on queries and keys makes a rotary head look at one distance, and `cells_at` keeps a cell equally far from
    the patch that shows it: of one image, or of the second of a pair. Everything stays free to move.
    """
    pieces = words(chat_prompt("", 2).split(PLACEHOLDER), add_special_tokens=False)["input_ids"]
    first = len(pieces[0])
    second = first + GRID * GRID + len(pieces[1])
    spots = (((first, 0), (first, 1)), ((second, 0), (first, 2)), ((second, 1), (first, 4)))
    text = model.config.text_config
    width = text.hidden_size // text.num_attention_heads
    waves = model.language_model.rotary_emb.inv_freq[: width * 3 // 16]
    shared = text.num_attention_heads // text.num_key_value_heads
    for layer, heads in zip(model.language_model.layers, spots, strict=False):
        attention = layer.self_attn
        keys = slice(0, len(waves))
        with torch.no_grad():
            attention.k_proj.weight[:width] *= 0.1
            attention.k_proj.bias[:width] = 0
            attention.k_proj.bias[keys] = loudness
            for head, (image, right) in enumerate(heads[:shared]):
                turn = (CELLS_AT - image - right) * waves
                start = head * width
                attention.q_proj.weight[start : start + width] *= 0.1
                attention.q_proj.bias[start : start + width] = 0
                attention.q_proj.bias[start : start + len(waves)] = loudness * turn.cos()
                half = start + width // 2
                attention.q_proj.bias[half : half + len(waves)] = -loudness * turn.sin()


def fresh(words: PreTrainedTokenizerFast) -> RSUniVLMForConditionalGeneration:
    """The dense model of stage 1, untrained."""
    text = {
        "vocab_size": len(words),
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": True,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
        "bos_token_id": None,
    }
    config = RSUniVLMConfig(
        text_config=text,
        vision_config=VISION,
        stem=STEM,
        num_experts=1,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        aspect="square",
        merge="flat",
        mask_grid=GRID,
        tile_pixels=TILE,
        mask_tiles=MASK_TILES,
        mask_views=MASK_VIEWS,
        box_tiles=BOX_TILES,
        described_tiles=DESCRIBED_TILES,
        cells_at=CELLS_AT,
        reader=READER,
        parts=PARTS,
        leans=LEANS,
        leasts=LEASTS,
        views=VIEWS,
        drafts=DRAFTS,
        tie_word_embeddings=True,
    )
    model = RSUniVLMForConditionalGeneration._from_config(config, attn_implementation="sdpa")
    gaze(model, words)
    model.language_model.layers[-1].reader.learn_to_spell(RSUniVLMProcessor.of(config, words).pieces)
    return model


def texts(records: Records, count: int, seed: int) -> Iterator[str]:
    """Prompts and answers of `count` random records, for the tokenizer."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        record = augment(records[int(rng.integers(len(records)))], rng, SIZE, Augmentation())
        for sample in ask(record, rng, Asking(GRID)):
            yield chat_prompt(sample.query.message, len(sample.images)) + sample.answer


def run(stage: Stage, mixture: Mixture, records: Records, given: argparse.Namespace) -> None:
    """Run one stage and leave its result in `given.out`: tower.pt, or a checkpoint folder such as stage1/.

    A text stage starts from `given.weights` (see `training.starts`), else from what the stage before left there.
    """
    if stage.name == "warmup":
        warm_up(stage, mixture, records, given)
    else:
        teach(stage, mixture, records, given)


def warm_up(stage: Stage, mixture: Mixture, records: Records, given: argparse.Namespace) -> None:
    """Train the embedded model's tower with throw-away heads; leaves tower.pt."""
    vocabulary = warmup.Vocabulary.of(records)
    module = Warmup(tower(), warmup.VisionHeads(VISION["hidden_size"], vocabulary))
    if given.weights:
        copy_matching(module, tower_weights(given.weights[0]))
    batches = WarmupBatches(mixture, stage, vocabulary, SIZE, PATCH, given.steps, given.keep)
    average = train(module, batches, stage, given.out, **options(given))
    if is_first():
        tensors = {name: value.half().cpu() for name, value in average.weights.items()}
        save_atomically({"weights": tensors, "vocabulary": vocabulary.state()}, result(given.out, stage))


def tower_weights(source: str) -> dict[str, torch.Tensor]:
    """Of a tower.pt, the tower and its heads; of a whole checkpoint, whose heads were thrown away, the tower."""
    if Path(source).is_file():
        return torch.load(source, weights_only=True)["weights"]  # type: ignore[no-any-return]
    model, _ = starts.load([source])
    return {f"tower.{name}": value for name, value in model.vision_tower.state_dict().items()}


def teach(stage: Stage, mixture: Mixture, records: Records, given: argparse.Namespace) -> None:
    """Train on questions and answers, from any start; leaves a checkpoint folder.

    The warm-up's heads go on watching the tower where there are any and the tower is of their width. A decoder that is
    aligned after a warm-up sees by the tower that it left.
    """
    warm = torch.load(given.out / "tower.pt", weights_only=True) if (given.out / "tower.pt").exists() else None
    sources = given.weights or [folder for folder in before(given.out, stage) if folder.exists()][:1]
    if sources:
        model, processor = starts.load(sources)
        if stage.name == "align" and warm is not None:
            drawn = [augment(*mixture.draw(number), SIZE, Augmentation()) for number in range(COMPARED)]
            print(f"of what the old tower told, the new one tells {see_anew(model, warm, warmup.pixels(drawn)):.1%}")
    elif stage.name in ("align", "1") and warm is not None:
        model, processor = grown(warm, records, given)
    else:
        raise FileNotFoundError(
            f"there is nothing to start stage {stage.name} from: pass --weights, or run the stage before with the same "
            f"--out, {given.out}"
        )
    stage = replace(stage, experts=max(stage.experts, model.config.num_experts))
    if stage.experts > 1 and model.config.num_experts == 1:
        model = checkpoints.widen(model)
    heads = None
    if stage.dense and warm is not None:
        width = warm["weights"]["heads.norm.weight"].numel()
        heads = heads_of(warm) if width == model.config.vision_config.hidden_size else None
    if heads is None:
        stage = replace(stage, dense=0.0)
    layout, grid = model.config.layout, model.config.mask_grid
    if layout.side % (grid * model.config.parts):
        raise ValueError(f"masks of {grid} x {grid} cells do not fit images of {layout.side} pixels: change mask_grid")
    if given.checkpointing:
        # transformers 5.23 renamed it; re-entrant checkpointing would not see which expert to use.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    if given.compile:
        compile_layers(model)
    if stage.peers:
        kept = given.out / f"captions-{stage.peers}-{len(records)}.pickle"
        told = made_once(
            kept, lambda: consensus.captions(mixture.records, model, processor, stage.peers, given.workers)
        )
        if not any(told.values()):
            raise ValueError(f"stage {stage.name} learns captions, and no record has two: check --data")
        mixture.records = {name: consensus.Agreed(rows, told[name]) for name, rows in mixture.records.items()}
    module = TextModel(model, processor, heads, stage.dense)
    vocabulary = heads.vocabulary if heads is not None else warmup.Vocabulary((), (), (), (), ())
    patch = model.config.vision_config.patch_size
    asking = replace(ASKING, grid=grid, parts=model.config.parts, named=bool(model.config.scenes))
    batches = TextBatches(mixture, stage, processor, vocabulary, layout.side, patch, asking, given.steps)
    average = train(module, batches, stage, given.out, **options(given))
    if not is_first():
        return
    finished = type(model)._from_config(model.config)  # a network of its own, as the trained one may be sharded
    finished.generation_config = model.generation_config
    kept = {name: value for name, value in average.weights.items() if name.startswith("model.")}
    finished.load_state_dict({name.removeprefix("model."): value for name, value in kept.items()})
    checkpoints.save(finished.to(torch.bfloat16), processor, result(given.out, stage))


def options(given: argparse.Namespace) -> dict[str, Any]:
    """What of the command line the loop is told."""
    names = ("minutes", "workers", "accumulate", "save_every", "log_every", "pause")
    return {name: getattr(given, name) for name in names}


def before(out: Path, stage: Stage) -> list[Path]:
    """What a stage goes on from, of what the stages before it left: the first that is there."""
    order = ("align", "stage1", "stage2", "speak", "draw", "find")
    own = result(out, stage).name
    return [out / folder for folder in reversed(order[: order.index(own)])] if own in order else []


def result(out: Path, stage: Stage) -> Path:
    """Where a stage leaves its result."""
    if stage.name == "warmup":
        return out / "tower.pt"
    return out / (f"stage{stage.name}" if stage.name.isdigit() else stage.name)


def is_done(out: Path, stage: Stage) -> bool:
    """Whether a stage has left its result, whole."""
    found = result(out, stage)
    if stage.name == "warmup":
        return found.is_file()
    return all((found / name).is_file() for name in ("config.json", "model.safetensors", "tokenizer.json"))


def heads_of(warm: dict[str, Any]) -> warmup.VisionHeads:
    """The heads that a warm-up left in tower.pt."""
    vocabulary = warmup.Vocabulary(**{name: tuple(words) for name, words in warm["vocabulary"].items()})
    heads = warmup.VisionHeads(VISION["hidden_size"], vocabulary)
    heads.load_state_dict(
        {n.removeprefix("heads."): w.float() for n, w in warm["weights"].items() if n.startswith("heads.")}
    )
    return heads


def grown(
    warm: dict[str, Any], records: Records, given: argparse.Namespace
) -> tuple[RSUniVLMForConditionalGeneration, RSUniVLMProcessor]:
    """The embedded model with the tower of its warm-up, and a tokenizer of its own, which is made once."""
    if is_first() and not (given.out / "words").exists():
        masks = tuple(warm["vocabulary"]["masks"])
        words = tokenizer(texts(records, min(6000, 20 * len(records)), given.seed), masks + RUN_LABELS)
        words.save_pretrained(given.out / "words")
    wait_for_all()
    words = PreTrainedTokenizerFast.from_pretrained(given.out / "words")
    model = with_tower(fresh(words), warm)
    model.config.scenes = scenes_of(records, given.seed)
    return model, RSUniVLMProcessor.of(model.config, words)


def scenes_of(records: Records, seed: int) -> list[tuple[str, ...]]:
    """The lists of scenes among which pictures that are described are told apart, of up to 6,000 random records."""
    rng = np.random.default_rng(seed)
    drawn = (records[number] for number in rng.permutation(len(records))[:6000].tolist())
    return sorted({record.scenes for record in drawn if record.captions and record.scenes})


def with_tower(model: RSUniVLMForConditionalGeneration, warm: dict[str, Any]) -> RSUniVLMForConditionalGeneration:
    """The model, in place, with the tower of a warm-up."""
    tower = {n.removeprefix("tower."): w.float() for n, w in warm["weights"].items() if n.startswith("tower.")}
    try:
        model.vision_tower.load_state_dict(tower)
    except RuntimeError as error:
        raise ValueError(
            "the tower.pt in --out is of other layers than the model's: pass another --out, or no --weights"
        ) from error
    return model


@torch.no_grad()
def see_anew(model: RSUniVLMForConditionalGeneration, warm: dict[str, Any], pictures: torch.Tensor) -> float:
    """Give the model, in place, the tower of a newer warm-up; its decoder and experts go on from where they are.

    The first layer of the projector gives way to one that makes of what the new tower tells of the pictures (pictures,
    3, side, side) what comes nearest to what it was told by the old one (least squares). Returns the share of the old
    features' variance that is found again.
    """
    first = next(layer for layer in model.projector.modules() if isinstance(layer, torch.nn.Linear))

    def told() -> torch.Tensor:
        tower, lots = model.vision_tower, pictures.split(16)
        encoded = (tower.encoder(inputs_embeds=tower.embeddings(lot)).last_hidden_state for lot in lots)
        return torch.cat([lot.flatten(0, 1) for lot in encoded]).double()

    old = told()
    with_tower(model, warm)
    new = torch.nn.functional.pad(told(), (0, 1), value=1.0)
    ridge = 1e-3 * len(new) * torch.eye(new.shape[1], dtype=new.dtype)
    back = torch.linalg.solve(new.T @ new + ridge, new.T @ old)
    first.bias += first.weight @ back[-1].to(first.weight)
    first.weight.copy_(first.weight @ back[:-1].T.to(first.weight))
    return 1 - float((new @ back - old).var(0).sum() / old.var(0).sum())


def compile_layers(model: RSUniVLMForConditionalGeneration) -> None:
    """Compile what is computed most, in place, for batches of any size; names of weights stay as they are."""
    for layer in model.vision_tower.encoder.layers:
        layer.compile(dynamic=True)
    for layer in model.language_model.layers:
        for expert in layer.mlp:
            expert.compile(dynamic=True)


def copy_matching(module: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Take over from an earlier warm-up, whose vocabulary may have been smaller, every tensor of the same shape.

    ValueError where the tower is built otherwise: its layers would be taken for others of the same shape.
    """
    own = module.state_dict()
    towers = [{name: w.shape for name, w in of.items() if name.startswith("tower.")} for of in (own, weights)]
    if towers[0] != towers[1]:
        raise ValueError("--weights holds a tower of other layers than this one: start from one built like it, or anew")
    taken = {name: value.float() for name, value in weights.items() if name in own and own[name].shape == value.shape}
    module.load_state_dict(own | taken)
    print(f"took over {len(taken)} of {len(own)} tensors")
