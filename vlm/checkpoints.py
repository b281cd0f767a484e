"""Weights in and out: our own format, the published format, dense to experts and back. Safetensors only, never pickle.

The published format is that of liux-cyber/RSUniVLM on the hub, as the reference implementation loads it.
"""

from __future__ import annotations

import ast
import copy
import json
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, SiglipVisionConfig

from vlm.model import GranularityExperts, RSUniVLMConfig, RSUniVLMForConditionalGeneration
from vlm.processing import END_OF_ANSWER, RSUniVLMProcessor
from vlm.prompts import PLACEHOLDER, Granularity

PUBLISHED = "liux-cyber/RSUniVLM"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
IMAGE_PATCH = "<im_patch>"
IMAGE_MARKS = ("<im_start>", "<im_end>")
NO_IMAGE_TOKEN = -200

SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
"""Dimensions of google/siglip-so400m-patch14-384, the published tower."""

_NAMES = (
    ("model.vision_tower.vision_tower.vision_model.", "vision_tower."),
    ("model.mm_projector.", "projector."),
    ("model.image_newline", "image_newline"),
    ("model.", "language_model."),
)
_DENSE = re.compile(r"(language_model\.layers\.\d+\.mlp\.)(gate|up|down)_proj")
_EXPERT = re.compile(r"language_model\.layers\.\d+\.mlp\.(\d+)\.")
VOCABULARY = ("language_model.embed_tokens.weight", "lm_head.weight")


def load(
    source: str | Path,
    *,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
) -> tuple[RSUniVLMForConditionalGeneration, RSUniVLMProcessor]:
    """The model, ready for inference, and its processor, from a local folder or a hub id ("owner/name").

    Our own format and the published one are told apart by config.json. Weights are mapped from the file, not copied,
    where they are stored in the wanted dtype and stay on the CPU.
    revision: branch, tag or commit of a hub repository. dtype: what to compute in, a torch dtype, its name, or "auto"
    for the stored one; by default float32 on the CPU and the stored one elsewhere.
    Raises FileNotFoundError when there is nothing to load, ValueError when the checkpoint is not what it should be:
    pickled weights, an unknown configuration, or missing, unexpected or misshapen tensors, all of them listed.
    """
    folder = fetch(source, revision)
    files = weight_files(folder)
    settings = read_json(folder / "config.json")
    kind = str(settings.get("model_type", ""))
    if kind == RSUniVLMConfig.model_type:
        try:
            config = RSUniVLMConfig.from_pretrained(folder)
        except StrictDataclassError as error:
            raise ValueError(f"{folder / 'config.json'} does not describe a network: {error}") from error
        processor = RSUniVLMProcessor.of(config, PreTrainedTokenizerFast.from_pretrained(folder))
        published = False
    elif kind.startswith("llava_qwen") or (kind == "llava" and "mm_vision_tower" in settings):
        tokenizer = _published_tokenizer(folder, settings)
        config = published_config(folder, settings, tokenizer, _stored_experts(files))
        processor = RSUniVLMProcessor.of(config, tokenizer)
        published = True
    else:
        raise ValueError(f"{folder / 'config.json'} describes a {kind!r} model: use an RSUniVLM checkpoint")
    with torch.device("meta"):
        model = RSUniVLMForConditionalGeneration(config)
    _fill(model, files, published, torch.device(device), _wanted_dtype(dtype, torch.device(device)))
    model.generation_config = _generation_config(folder, processor.tokenizer)
    return model.eval(), processor


def fetch(source: str | Path, revision: str | None = None) -> Path:
    """The local folder of a checkpoint: the source itself if it is one, else a snapshot of a hub repository.

    The hub is the one that HF_ENDPOINT names, if set. Only JSON, text and safetensors files are downloaded.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ValueError(f"{folder} is a local folder, which has no revision {revision!r}: leave `revision` out")
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) or str(source).startswith((".", "/")):
        raise FileNotFoundError(f"{source} is neither a folder nor a hub id of the form owner/name")
    return Path(
        snapshot_download(
            str(source),
            revision=revision,
            endpoint=os.environ.get("HF_ENDPOINT") or None,
            allow_patterns=["*.json", "*.txt", "*.safetensors"],
        )
    )


def save(
    model: RSUniVLMForConditionalGeneration,
    processor: RSUniVLMProcessor,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write model and processor in our format; every file appears complete or not at all. Returns the folder.

    dtype: what to store floating-point weights in; by default what they are in memory.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tied = model.config.tie_word_embeddings
    weights = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in model.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.dtype = config.text_config.dtype = config.vision_config.dtype = dtype or model.dtype
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as name:
        staging = Path(name)
        config.save_pretrained(staging)
        with_ends(copy.deepcopy(model.generation_config), processor.tokenizer).save_pretrained(staging)
        processor.save_pretrained(staging)
        save_file(weights, staging / WEIGHTS, metadata={"format": "pt"})
        for file in staging.iterdir():
            file.chmod(0o644)
            file.replace(folder / file.name)
    return folder


def widen(
    model: RSUniVLMForConditionalGeneration, num_experts: int = len(Granularity)
) -> RSUniVLMForConditionalGeneration:
    """Turn a dense model, in place, into one with experts that all start as copies; its answers stay the same."""
    if model.config.num_experts != 1:
        raise ValueError(f"the model has {model.config.num_experts} experts already: only a dense model can be widened")
    layer: Any
    for layer in model.language_model.layers:
        dense = layer.mlp[0]
        layer.mlp = GranularityExperts([dense, *(copy.deepcopy(dense) for _ in range(num_experts - 1))])
    model.config.num_experts = num_experts
    return model


def narrow(
    model: RSUniVLMForConditionalGeneration, keep: Granularity | int = Granularity.IMAGE
) -> RSUniVLMForConditionalGeneration:
    """Turn a model with experts, in place, into a dense one that answers everything with the expert `keep`."""
    if not 0 <= keep < model.config.num_experts:
        raise ValueError(f"there is no expert {int(keep)}: choose one in 0..{model.config.num_experts - 1}")
    layer: Any
    for layer in model.language_model.layers:
        layer.mlp = GranularityExperts([layer.mlp[int(keep)]])
    model.config.num_experts = 1
    return model


def published_config(
    folder: Path, settings: dict[str, Any], tokenizer: PreTrainedTokenizerFast, num_experts: int
) -> RSUniVLMConfig:
    """Our configuration from a published config.json.

    As in the reference, `attention_bias`, `rope_scaling`, nested `vision_config` and `text_config` and
    `mm_vision_select_layer` have no effect, and the vocabulary is what the tokenizer holds.
    """
    tower = str(settings.get("mm_vision_tower", ""))
    if "siglip" not in tower.lower():
        raise ValueError(f"mm_vision_tower is {tower!r}: only SigLIP towers are supported")
    vision = SiglipVisionConfig(**_tower_dimensions(folder, tower))
    aspect = settings.get("image_aspect_ratio")
    if aspect is None:
        raise ValueError("config.json has no image_aspect_ratio: set it to square, pad, anyres or anyres_max_N")
    if aspect in ("highres", "crop_split"):
        raise ValueError(f"image_aspect_ratio {aspect!r} is not supported: use square, pad, anyres or anyres_max_N")
    same = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "hidden_act",
        "max_position_embeddings",
        "initializer_range",
        "rms_norm_eps",
        "use_sliding_window",
        "sliding_window",
        "max_window_layers",
        "attention_dropout",
        "bos_token_id",
        "eos_token_id",
    )
    text = Qwen2Config(
        **{key: settings[key] for key in same if key in settings},
        vocab_size=len(tokenizer),
        rope_parameters={"rope_type": "default", "rope_theta": float(settings.get("rope_theta", 10000.0))},
        tie_word_embeddings=bool(settings.get("tie_word_embeddings", False)),
    )
    image_token = tokenizer.get_vocab().get(PLACEHOLDER, NO_IMAGE_TOKEN)
    return RSUniVLMConfig(
        text_config=text,
        vision_config=vision,
        num_experts=num_experts,
        image_token_id=image_token,
        aspect=aspect if aspect == "pad" or str(aspect).startswith("anyres") else "square",
        merge=settings.get("mm_patch_merge_type") or "flat",
        grid_pinpoints=read_pinpoints(settings.get("image_grid_pinpoints"), vision.image_size),
        projector=settings.get("mm_projector_type") or "linear",
        vision_layers=vision.num_hidden_layers - 1,
        max_rows=settings.get("tokenizer_model_max_length") or text.max_position_embeddings,
        tie_word_embeddings=text.tie_word_embeddings,
    )


def read_pinpoints(value: Any, side: int) -> list[list[int]] | None:
    """Canvases [[width, height], ...] from a list, its literal text, or a range "(1x1),...,(6x6)" in tiles."""
    if isinstance(value, str):
        steps = [(int(across), int(down)) for across, down in re.findall(r"\((\d+)x(\d+)\)", value)]
        if steps:
            (first_across, first_down), (last_across, last_down) = steps[0], steps[-1]
            return [
                [across * side, down * side]
                for across in range(first_across, last_across + 1)
                for down in range(first_down, last_down + 1)
            ]
        value = ast.literal_eval(value)
    return None if value is None else [[int(width), int(height)] for width, height in value]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a checkpoint's JSON file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: a checkpoint folder holds config.json beside its weights")
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object: download the checkpoint again")
    return content


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A safetensors file; ValueError for one that is damaged, or a stand-in that git left where git-lfs is absent."""
    try:
        with safe_open(file, "pt") as stored:
            yield stored
    except SafetensorError as error:
        raise ValueError(f"{file} is no whole safetensors file ({error}): download it again") from error


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold the weights; refuses folders with pickled weights only."""
    if (folder / WEIGHTS_INDEX).is_file():
        names = sorted({Path(name).name for name in read_json(folder / WEIGHTS_INDEX)["weight_map"].values()})
        files = [folder / name for name in names]
    else:
        files = [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else sorted(folder.glob("*.safetensors"))
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise FileNotFoundError(f"{folder} lacks {', '.join(absent)}, which {WEIGHTS_INDEX} names")
    if not files:
        pickled = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
        if pickled:
            raise ValueError(
                f"{folder} holds only pickled weights ({', '.join(pickled)}), which are refused because reading them "
                "can run code: convert them to model.safetensors"
            )
        raise FileNotFoundError(f"{folder} holds no safetensors weights, and pickled weights are never read")
    return files


def _published_tokenizer(folder: Path, settings: dict[str, Any]) -> PreTrainedTokenizerFast:
    """The tokenizer of its file, with the image tokens that the reference adds before it cuts the vocabulary."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    if settings.get("mm_use_im_patch_token", True):
        tokenizer.add_tokens([IMAGE_PATCH], special_tokens=True)
    if settings.get("mm_use_im_start_end", False):
        tokenizer.add_tokens(list(IMAGE_MARKS), special_tokens=True)
    return tokenizer


def _tower_dimensions(folder: Path, tower: str) -> dict[str, Any]:
    """Dimensions of the tower: from its config.json inside the checkpoint where there is one, else those of so400m."""
    inside = not Path(tower).is_absolute() and ".." not in Path(tower).parts
    path = folder / tower / "config.json"
    if not inside or not path.is_file():
        return dict(SO400M)
    settings = read_json(path)
    settings = settings.get("vision_config", settings)
    keys = (*SO400M, "num_channels", "hidden_act", "layer_norm_eps", "attention_dropout")
    return {key: settings[key] for key in keys if key in settings}


def _our_name(name: str) -> str:
    """Our name of a tensor of the published format; dense feed-forward networks become expert 0."""
    for theirs, ours in _NAMES:
        if name.startswith(theirs):
            name = ours + name[len(theirs) :]
            break
    return _DENSE.sub(r"\g<1>0.\g<2>_proj", name)


def _stored_experts(files: list[Path]) -> int:
    """How many experts a published checkpoint holds: 1 when its feed-forward networks are dense."""
    found = {0}
    for file in files:
        with _opened(file) as stored:
            found |= {int(match[1]) for name in stored.keys() if (match := _EXPERT.match(_our_name(name)))}  # noqa: SIM118
    return max(found) + 1


def _tensors(files: list[Path]) -> Iterator[tuple[str, Any, Any]]:
    """Each stored tensor: its name, its slice (shape without reading), and its file."""
    for file in files:
        with _opened(file) as stored:
            for name in stored.keys():  # noqa: SIM118
                yield name, stored.get_slice(name), stored


def _fill(
    model: RSUniVLMForConditionalGeneration,
    files: list[Path],
    published: bool,
    device: torch.device,
    dtype: torch.dtype | None,
) -> None:
    """Give a model on the meta device its stored weights, strictly: every fault is listed in one ValueError."""
    tied = model.config.tie_word_embeddings
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if tied:
        del wanted["lm_head.weight"]

    def ours(stored: str) -> str | None:
        name = _our_name(stored) if published else stored
        return None if tied and name == "lm_head.weight" else name  # the tie wins over a stored projection

    weights = read_weights(files, wanted, ours, device=device, dtype=dtype, cut=VOCABULARY if published else ())
    model.load_state_dict(weights, strict=False, assign=True)
    rotary = model.language_model.rotary_emb
    model.language_model.rotary_emb = type(rotary)(rotary.config).to(device)
    embeddings = model.vision_tower.embeddings
    embeddings.position_ids = torch.arange(embeddings.num_positions, device=device).expand(1, -1)
    model.tie_weights()
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def read_weights(
    files: list[Path],
    wanted: Mapping[str, tuple[int, ...]],
    rename: Callable[[str], str | None],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    cut: Collection[str] = (),
) -> dict[str, Tensor]:
    """The wanted tensors (name and shape) out of stored ones; `rename` gives our name of a stored tensor, None for one
    to pass over. Tensors named in `cut` may have more rows than wanted, which are dropped.

    Raises one ValueError that lists all that is missing, unexpected or misshapen.
    """
    weights: dict[str, Tensor] = {}
    unexpected: list[str] = []
    misshapen: list[str] = []
    for stored_name, piece, file in _tensors(files):
        name = rename(stored_name)
        if name is None:
            continue
        if name not in wanted:
            unexpected.append(stored_name)
            continue
        shape = tuple(piece.get_shape())
        tensor = file.get_tensor(stored_name)
        if name in cut and shape[0] > wanted[name][0]:
            tensor = tensor[: wanted[name][0]]
        if tuple(tensor.shape) != wanted[name]:
            misshapen.append(f"{stored_name} {list(shape)} instead of {list(wanted[name])}")
        weights[name] = tensor.to(device, dtype if tensor.is_floating_point() else None)
    missing = sorted(set(wanted) - set(weights))
    faults = [
        f"{len(names)} {what}: {', '.join(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
        if names
    ]
    if faults:
        raise ValueError(f"the weights do not fit the checkpoint's config.json; {'; '.join(faults)}")
    return weights


def _wanted_dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype | None:
    """The dtype to convert weights to; None keeps the stored one."""
    if dtype is None:
        return torch.float32 if device.type == "cpu" else None
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return None
    named = getattr(torch, dtype, None)
    if not isinstance(named, torch.dtype) or not named.is_floating_point:
        raise ValueError(f"dtype {dtype!r} is unknown: use float32, bfloat16, float16 or auto")
    return named


def _generation_config(folder: Path, tokenizer: Any) -> GenerationConfig:
    """The checkpoint's generation settings, made greedy: its repetition penalty and end tokens stay, sampling goes."""
    settings = read_json(folder / "generation_config.json") if (folder / "generation_config.json").is_file() else {}
    for sampling in ("do_sample", "temperature", "top_k", "top_p", "transformers_version"):
        settings.pop(sampling, None)
    return with_ends(GenerationConfig(**settings), tokenizer)


def with_ends(config: GenerationConfig, tokenizer: Any) -> GenerationConfig:
    """The same settings, with end and padding tokens filled in from the tokenizer where they are not set."""
    if config.eos_token_id is None:
        config.eos_token_id = tokenizer.convert_tokens_to_ids(END_OF_ANSWER)
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    return config
