"""The network: SigLIP tower, projector, Qwen2 decoder with one feed-forward expert per granularity.

SigLIP and Qwen2 come from transformers. Ours are the granularity layer, the projector, the merging of image features
and filling them in where the prompt holds placeholders. Behaviour follows the reference implementation of the paper
(https://arxiv.org/abs/2412.05679).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForImageTextToText, Qwen2Config, Qwen2Model, SiglipVisionConfig
from transformers import initialization as init
from transformers.configuration_utils import PreTrainedConfig
from transformers.generation import GenerationMixin, LogitsProcessorList, RepetitionPenaltyLogitsProcessor
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, Qwen2MLP
from transformers.models.siglip.modeling_siglip import SiglipVisionModel
from transformers.utils import can_return_tuple

from vlm.reader import Memory, Reader, Reading
from vlm.views import MOST

IGNORED = -100
"""The label of a position that carries no loss."""

ASPECTS = "square, pad, anyres or anyres_max_N"
MOST_DRAFTS = 64
MERGES = ("flat", "spatial", "spatial_unpad")


@dataclass(frozen=True)
class TileLayout:
    """How one image becomes square tiles for the tower, and how many rows of features the decoder then sees.

    side: pixels of a tile. patches: rows (and columns) of features of one tile. All sizes are (width, height).
    pinpoints: the canvases that the anyres modes choose from, each a multiple of `side`.
    """

    side: int
    patches: int
    aspect: str
    merge: str
    pinpoints: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        known = self.aspect in ("square", "pad", "anyres") or (
            self.aspect.startswith("anyres_max_") and self.aspect.removeprefix("anyres_max_").isdigit()
        )
        if not known:
            raise ValueError(f"aspect {self.aspect!r} is not supported: use {ASPECTS}")
        if self.merge not in MERGES:
            raise ValueError(f"merge {self.merge!r} is not supported: use one of {', '.join(MERGES)}")
        if self.splits and not self.pinpoints:
            raise ValueError(f"aspect {self.aspect!r} needs grid_pinpoints, a list of [width, height]")
        for width, height in self.pinpoints:
            if width < self.side or height < self.side or width % self.side or height % self.side:
                raise ValueError(f"grid pinpoint [{width}, {height}] is no multiple of the tile side {self.side}")

    @property
    def splits(self) -> bool:
        """Whether one image becomes several tiles."""
        return self.aspect.startswith("anyres")

    @property
    def newline(self) -> bool:
        """Whether the learned newline row is used."""
        return "unpad" in self.merge

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """The pinpoint that keeps most of the image's pixels; among equals the least wasteful one, then the first."""
        width, height = size

        def merit(pinpoint: tuple[int, int]) -> tuple[int, int]:
            scale = min(pinpoint[0] / width, pinpoint[1] / height)
            kept = min(int(width * scale) * int(height * scale), width * height)
            return kept, kept - pinpoint[0] * pinpoint[1]

        return max(self.pinpoints, key=merit)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Columns and rows of tiles on the canvas of an image of this size."""
        width, height = self.canvas(size)
        return width // self.side, height // self.side

    def tiles(self, size: tuple[int, int]) -> int:
        """How many tiles the tower sees for an image of this size, the overview tile included."""
        if not self.splits:
            return 1
        columns, rows = self.grid(size)
        return 1 + columns * rows

    def unpadded(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Where the image lies on the feature grid of its canvas: left, top, right, bottom (right and bottom outside).

        The cut is symmetric, so that one row or column more than the exact share may stay.
        """
        width, height = size
        columns, rows = (tiles * self.patches for tiles in self.grid(size))
        if self.merge != "spatial_unpad":
            return 0, 0, columns, rows
        if width / height > columns / rows:
            margin = (rows - int(height * (columns / width))) // 2
            return 0, margin, columns, rows - margin
        margin = (columns - int(width * (rows / height))) // 2
        return margin, 0, columns - margin, rows

    def shrunk(self, columns: int, rows: int) -> tuple[int, int]:
        """The feature grid after `anyres_max_N` has limited it to about N tiles' worth of features."""
        if self.merge != "spatial_unpad" or not self.aspect.startswith("anyres_max_"):
            return columns, rows
        most = int(self.aspect.removeprefix("anyres_max_"))
        times = math.sqrt(rows * columns / (most * self.patches**2))
        return (int(columns // times), int(rows // times)) if times > 1.1 else (columns, rows)

    def rows(self, size: tuple[int, int]) -> int:
        """How many rows an image of this size takes in the decoder's input: its number of placeholders."""
        one_tile = self.patches**2
        if not self.splits:
            return one_tile + self.newline
        if self.merge == "flat":
            return one_tile * self.tiles(size)
        left, top, right, bottom = self.unpadded(size)
        columns, rows = self.shrunk(right - left, bottom - top)
        return one_tile + rows * (columns + self.newline)


class RSUniVLMConfig(PreTrainedConfig):  # type: ignore[misc]
    """Shapes and choices of one network.

    text_config: a Qwen2Config. vision_config: a SiglipVisionConfig, of which the head is never built. Or their dicts.
    stem: None cuts the image into patches by one convolution, as SigLIP does. Else a `ConvolutionStem` does: the width
        of each of its levels and how many blocks it has; the last is as wide as the tower.
    calibration: by kind of answer (see `vlm.generation.kinds_of_answer`), slope and offset on the log-odds that make
        the network's confidence the share of such answers that are right; kinds that are not named stay as they are.
    num_experts: feed-forward experts per decoder layer; 1 is the dense network of the first training stage.
    image_token_id: the id that stands for one row of image features in `input_ids`; may lie outside the vocabulary.
    aspect, merge, grid_pinpoints: see `TileLayout`.
    mask_grid: rows and columns of the masks that the network writes.
    tile_pixels: side of the window of a large raster that one query should see, in the raster's own pixels.
    mask_tiles, box_tiles: sides of windows by all of which together masks and boxes are judged, in place of
        `tile_pixels`. described_tiles: the same for the boxes of a class among which one is described.
    projector: "linear" or "mlpNx_gelu" (N linear layers with exact GELU between).
    vision_layers: how many layers of the tower are kept and feed the projector; None keeps all.
    max_rows: the longest input, merged image rows included; None is the decoder's max_position_embeddings.
    cells_at: 0 numbers the positions of a text one by one, as the published network does. Any other number is the
        rotary position from which masks and boxes are written: a token of a mask stands at `cells_at` + the cells
        written so far, so that a cell is always equally far from the image row that shows it, whatever the question
        and the runs before it; a token of a box at `cells_at` + the cells up to the middle of the box before + the
        numbers that its own box has, so that the search for the next one begins where the last one ended.
    reader: width of the queries and keys of a `vlm.reader.Reader` in the last layer of the decoder, which needs
        `cells_at`, one square tile an image and one mask cell a patch; 0 builds none, as in the published network.
    parts: into how many parts a side the reader cuts a patch when it judges a mask: how likely each is of the class
        is told beside the text, which has one cell a patch.
    leans: by kind of answer (see `vlm.generation.kinds_of_answer`), what is added, when an answer is written, to the
        log-odds of each cell that the reader judges for a mask, or of each patch that may hold the middle of a box. The
        mask that errs in the fewest cells leaves out what is less likely than not of its class; the one that overlaps
        best takes in all that is likelier than half its F1 (https://arxiv.org/abs/1402.1892), which differs by class.
    leasts: by kind of answer, the least confidence of a box that is told. Most F1 is had from half of that F1 on
        (the same paper), which differs by class, too.
    views, mask_views: in how many views of `vlm.views` an image is shown for one answer, and for a mask, if not in as
        many; 1 shows it as it is. Answers that name places need a reader to be turned back.
    drafts: how often a caption is written; the most typical of its drafts (`vlm.generation.typical`) is the answer.
    scenes: lists of the names of scenes, where a caption is asked for with the one that the network is surest of when
        asked to choose from each.
    """

    model_type = "rsunivlm"
    sub_configs = {"text_config": Qwen2Config, "vision_config": SiglipVisionConfig}

    text_config: Any = None
    vision_config: Any = None
    stem: list[Any] | None = None
    num_experts: int = 3
    image_token_id: int = -200
    aspect: str = "square"
    merge: str = "flat"
    grid_pinpoints: list[Any] | None = None
    mask_grid: int = 24
    tile_pixels: int = 384
    mask_tiles: list[Any] | None = None
    box_tiles: list[Any] | None = None
    described_tiles: list[Any] | None = None
    projector: str = "mlp2x_gelu"
    vision_layers: int | None = None
    max_rows: int | None = None
    cells_at: int = 0
    reader: int = 0
    parts: int = 1
    leans: dict[str, Any] | None = None
    leasts: dict[str, Any] | None = None
    views: int = 1
    mask_views: int | None = None
    drafts: int = 1
    scenes: list[Any] | None = None
    calibration: dict[str, Any] | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        for name, kind in self.sub_configs.items():
            given = getattr(self, name)
            if given is None or isinstance(given, dict):
                setattr(self, name, kind(**given or {}))
        super().__post_init__(**kwargs)
        self.vision_config.vision_use_head = False
        if self.stem is not None:
            levels, last = len(self.stem), self.stem[-1][0] if self.stem else 0
            if 2**levels != self.vision_config.patch_size or last != self.vision_config.hidden_size:
                raise ValueError(
                    f"a stem of {levels} levels makes patches of {2**levels} pixels, {last} wide: the tower wants "
                    f"{self.vision_config.patch_size} pixels and {self.vision_config.hidden_size}"
                )
        if self.vision_layers is None:
            self.vision_layers = self.vision_config.num_hidden_layers
        if not 0 < self.vision_layers <= self.vision_config.num_hidden_layers:
            raise ValueError(f"vision_layers must be in 1..{self.vision_config.num_hidden_layers}")
        if self.max_rows is None:
            self.max_rows = self.text_config.max_position_embeddings
        if self.num_experts < 1:
            raise ValueError(f"num_experts must be at least 1, not {self.num_experts}")
        if not 1 <= self.views <= MOST:
            raise ValueError(f"views must be in 1..{MOST}, not {self.views}")
        if not 1 <= self.drafts <= MOST_DRAFTS:
            raise ValueError(f"drafts must be in 1..{MOST_DRAFTS}, not {self.drafts}")
        self.tie_word_embeddings = self.tie_word_embeddings or self.text_config.tie_word_embeddings
        self.text_config.tie_word_embeddings = self.tie_word_embeddings
        layout = self.layout  # raises on a layout that is not supported
        simple = self.cells_at and not layout.splits and layout.merge == "flat" and layout.patches == self.mask_grid
        if self.reader and not simple:
            raise ValueError(
                "a reader needs cells_at, an aspect that is square or pad, the merge flat, and a mask_grid of as many "
                f"cells as there are patches a side, {layout.patches}"
            )

    @property
    def layout(self) -> TileLayout:
        """How images become tiles and rows under this configuration."""
        return TileLayout(
            side=self.vision_config.image_size,
            patches=self.vision_config.image_size // self.vision_config.patch_size,
            aspect=self.aspect,
            merge=self.merge,
            pinpoints=tuple((int(width), int(height)) for width, height in self.grid_pinpoints or ()),
        )


@dataclass(frozen=True)
class Routes:
    """Which rows of a batch go to which expert; worked out once per forward pass, used by every layer.

    experts: the experts that occur, ascending. rows: for each of them its batch rows, empty when only one occurs.
    restore: the permutation that puts the experts' outputs, joined, back into batch order.
    """

    experts: tuple[int, ...]
    rows: tuple[Tensor, ...] = ()
    restore: Tensor | None = None

    @classmethod
    def of(cls, granularity: Tensor | None, batch: int, num_experts: int) -> Routes:
        """Routes for a (batch,) integer tensor; with one expert any granularity is accepted and ignored."""
        if num_experts == 1:
            return cls((0,))
        if granularity is None:
            raise ValueError(f"granularity is missing: pass a tensor of {batch} integers in 0..{num_experts - 1}")
        if tuple(granularity.shape) != (batch,) or granularity.is_floating_point():
            raise ValueError(
                f"granularity must hold one integer for each of the {batch} rows of the batch, "
                f"not shape {tuple(granularity.shape)} of {granularity.dtype}"
            )
        present = tuple(torch.unique(granularity).tolist())
        if present[0] < 0 or present[-1] >= num_experts:
            raise ValueError(
                f"granularity {granularity.tolist()} is out of range: use integers in 0..{num_experts - 1}"
            )
        if len(present) == 1:
            return cls(present)
        rows = tuple((granularity == expert).nonzero().squeeze(1) for expert in present)
        return cls(present, rows, torch.cat(rows).argsort())


class GranularityExperts(nn.ModuleList):
    """The feed-forward networks of one decoder layer, of which each sample of a batch uses one."""

    def forward(self, hidden: Tensor, routes: Routes) -> Tensor:
        """Apply to (batch, length, hidden) the expert that `routes` names for each sample."""
        if not routes.rows:
            out: Tensor = self[routes.experts[0]](hidden)
            return out
        parts = [self[expert](hidden[rows]) for expert, rows in zip(routes.experts, routes.rows, strict=True)]
        return torch.cat(parts)[routes.restore]


class GranularityLayer(Qwen2DecoderLayer):  # type: ignore[misc]
    """A Qwen2 decoder layer whose feed-forward network is chosen per sample; attention and norms are shared."""

    def __init__(self, config: Qwen2Config, layer_idx: int, num_experts: int, reader: Reader | None = None) -> None:
        super().__init__(config, layer_idx)
        self.mlp: Any = GranularityExperts(Qwen2MLP(config) for _ in range(num_experts))
        self.reader = reader

    def forward(
        self, hidden_states: Tensor, *, routes: Routes, reading: Reading | None = None, **kwargs: Any
    ) -> Tensor:
        """One layer on (batch, length, hidden)."""
        if self.reader is not None:
            assert reading is not None
            hidden_states = hidden_states + self.reader(hidden_states, reading)
        attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
        hidden_states = hidden_states + attended
        out: Tensor = hidden_states + self.mlp(self.post_attention_layernorm(hidden_states), routes)
        return out


class GranularityQwen2(Qwen2Model):  # type: ignore[misc]
    """Qwen2 with granularity layers, the last of which may have a reader; its `routes` and `reading` keywords reach
    every layer.
    """

    def __init__(self, config: Qwen2Config, num_experts: int, reader: Reader | None = None) -> None:
        super().__init__(config)
        last = config.num_hidden_layers - 1
        self.layers = nn.ModuleList(
            GranularityLayer(config, index, num_experts, reader if index == last else None) for index in range(last + 1)
        )
        self.post_init()


class _Convolution(nn.Module):
    """A 3 x 3 convolution without bias; its weight is a matrix, as which Muon moves it."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(outputs, inputs * 9))

    def forward(self, x: Tensor) -> Tensor:
        """(images, inputs, height, width) -> (images, outputs, height / stride, width / stride)"""
        return functional.conv2d(x, self.weight.view(len(self.weight), -1, 3, 3), stride=self.stride, padding=1)


class _Block(nn.Module):
    """Two convolutions beside the way straight on, normalised before each (https://arxiv.org/abs/1603.05027)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(max(1, width // 16), width) for _ in range(2))
        self.convolutions = nn.ModuleList(_Convolution(width, width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """(images, width, height, width), unchanged in shape."""
        out = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            out = convolution(functional.relu(norm(out)))
        return x + out


class ConvolutionStem(nn.Module):
    """What may stand in for SigLIP's cut into patches: a small residual network that halves the image level by level.

    Pixels that lie together belong together: a tower that starts from nothing need not learn that from few images
    (https://arxiv.org/abs/2106.14881).
    """

    def __init__(self, channels: int, levels: Sequence[Sequence[int]]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, blocks in levels:
            layers += [_Convolution(channels, width, stride=2), *(_Block(width) for _ in range(blocks))]
            channels = width
        self.layers = nn.Sequential(*layers, nn.GroupNorm(max(1, channels // 16), channels))
        self.start()

    def start(self) -> None:
        """Random weights; each block at first lets everything through unchanged."""
        for module in self.modules():
            if isinstance(module, _Convolution):
                init.kaiming_normal_(module.weight)
        for module in self.modules():
            if isinstance(module, _Block):
                init.zeros_(module.convolutions[1].weight)

    @property
    def weight(self) -> Tensor:
        """A weight, whose dtype SigLIP gives to the pixels."""
        first = self.layers[0]
        assert isinstance(first, _Convolution)
        return first.weight

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(images, channels, side, side) -> (images, width, side / 2^levels, side / 2^levels)"""
        features: Tensor = self.layers(pixel_values.contiguous(memory_format=torch.channels_last))
        return features


def build_tower(config: SiglipVisionConfig, stem: Sequence[Sequence[int]] | None = None) -> SiglipVisionModel:
    """SigLIP's tower, with a `ConvolutionStem` in place of its cut into patches if a stem is given."""
    tower = SiglipVisionModel(config)
    if stem is not None:
        tower.embeddings.patch_embedding = ConvolutionStem(config.num_channels, stem)
    return tower


def build_projector(kind: str, inputs: int, outputs: int) -> nn.Module:
    """The projector from tower to decoder width: "linear" or "mlpNx_gelu"."""
    if kind == "linear":
        return nn.Linear(inputs, outputs)
    depth = kind.removeprefix("mlp").removesuffix("x_gelu")
    if kind != f"mlp{depth}x_gelu" or not depth.isdigit() or int(depth) < 1:
        raise ValueError(f"projector {kind!r} is not supported: use linear or mlpNx_gelu")
    layers: list[nn.Module] = [nn.Linear(inputs, outputs)]
    for _ in range(int(depth) - 1):
        layers += [nn.GELU(), nn.Linear(outputs, outputs)]
    return nn.Sequential(*layers)


@dataclass
class RSUniVLMOutput(CausalLMOutputWithPast):  # type: ignore[misc]
    """What a forward pass returns.

    logits: (batch, kept positions, vocabulary); None when labels were given, as then only labelled rows are projected.
    loss: mean over all labelled tokens of the batch.
    token_losses: (labelled tokens,) each one's loss, in reading order, for losses that weigh tasks.
    token_logits: (labelled tokens, vocabulary), what those losses came from.
    reading: of a network with a reader, what it looked at, and the memory that later decode steps are given.
    """

    token_losses: Tensor | None = None
    token_logits: Tensor | None = None
    reading: Any = None


class RSUniVLMForConditionalGeneration(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """Images and a prompt in, text out; each sample of a batch is answered by the expert of its granularity."""

    config_class = RSUniVLMConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["GranularityLayer", "SiglipEncoderLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _tied_weights_keys = {"lm_head.weight": "language_model.embed_tokens.weight"}

    def __init__(self, config: RSUniVLMConfig) -> None:
        super().__init__(config)
        text = config.text_config
        self.vision_tower = build_tower(config.vision_config, config.stem)
        self.vision_tower.encoder.layers = self.vision_tower.encoder.layers[: config.vision_layers]
        self.projector = build_projector(config.projector, config.vision_config.hidden_size, text.hidden_size)
        reader = None
        if config.reader:
            reader = Reader(text, config.reader, config.mask_grid, config.parts)
        self.language_model = GranularityQwen2(text, config.num_experts, reader)
        if config.layout.newline:
            self.image_newline = nn.Parameter(torch.empty(text.hidden_size))
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ConvolutionStem | Reader):
            module.start()
        if module is self and self.config.layout.newline:
            init.normal_(self.image_newline, std=self.config.text_config.initializer_range)

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding, shared with `lm_head` when the configuration ties them."""
        embedding: nn.Module = self.language_model.embed_tokens
        return embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding."""
        self.language_model.embed_tokens = value

    def get_output_embeddings(self) -> nn.Module:
        """The vocabulary projection."""
        return self.lm_head

    def image_features(self, pixel_values: Tensor) -> Tensor:
        """Projected features (tiles, patches, hidden) of (tiles, 3, side, side) pixels, taken before post_layernorm."""
        embeddings = self.vision_tower.embeddings(pixel_values)
        encoded: Tensor = self.vision_tower.encoder(inputs_embeds=embeddings).last_hidden_state
        projected: Tensor = self.projector(encoded)
        return projected

    def image_rows(self, features: Tensor, image_sizes: Tensor | Sequence[Sequence[int]] | None = None) -> Tensor:
        """Rows (rows of all images in order, hidden) that replace the placeholders, of `image_features`.

        image_sizes: (images, 2) width and height of the original images; needed only for the anyres modes.
        """
        layout = self.config.layout
        if layout.merge == "flat":
            return features.flatten(0, 1)
        newline = self.image_newline.to(features.dtype) if layout.newline else None
        if not layout.splits:
            if newline is not None:
                features = torch.cat([features, newline.expand(len(features), 1, -1)], dim=1)
            return features.flatten(0, 1)
        if image_sizes is None:
            raise ValueError("image_sizes is missing: the anyres modes need (width, height) of every image")
        sizes = image_sizes.tolist() if isinstance(image_sizes, Tensor) else image_sizes
        rows, start = [], 0
        for width, height in sizes:
            size = (int(width), int(height))
            tiles = features[start : start + layout.tiles(size)]
            start += len(tiles)
            rows += [tiles[0], self._merge_tiles(tiles[1:], layout, size, newline)]
        return torch.cat(rows)

    @staticmethod
    def _merge_tiles(tiles: Tensor, layout: TileLayout, size: tuple[int, int], newline: Tensor | None) -> Tensor:
        """Tiles (tiles, patches, hidden) of one image to one grid, without the padding, row by row."""
        columns, rows = layout.grid(size)
        side, hidden = layout.patches, tiles.shape[-1]
        left, top, right, bottom = layout.unpadded(size)
        grid = tiles.view(rows, columns, side, side, hidden).permute(4, 0, 2, 1, 3).reshape(hidden, rows * side, -1)
        grid = grid[:, top:bottom, left:right]
        small_columns, small_rows = layout.shrunk(right - left, bottom - top)
        if (small_columns, small_rows) != (right - left, bottom - top):
            grid = functional.interpolate(grid[None], size=(small_rows, small_columns), mode="bilinear")[0]
        grid = grid.permute(1, 2, 0)
        if newline is not None:
            grid = torch.cat([grid, newline.expand(len(grid), 1, -1)], dim=1)
        return grid.flatten(0, 1)

    def embed(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | Sequence[Sequence[int]] | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """The decoder's input (batch, length, hidden): token embeddings, with image rows at the placeholders.

        features: `image_features` of the pixels, where they are known.
        """
        if pixel_values is not None and features is None:
            features = self.image_features(pixel_values)
        if features is None:
            embedded: Tensor = self.language_model.embed_tokens(input_ids)
            return embedded
        placeholders = input_ids == self.config.image_token_id
        embeds = self.language_model.embed_tokens(input_ids.masked_fill(placeholders, 0))
        rows = self.image_rows(features, image_sizes).to(embeds.dtype)
        positions = placeholders.flatten().nonzero().squeeze(1)
        if len(positions) != len(rows):
            raise ValueError(
                f"the prompt holds {len(positions)} image placeholders, but the images give {len(rows)} rows: "
                "use the processor that was saved with this model"
            )
        filled: Tensor = embeds.flatten(0, 1).index_copy(0, positions, rows).view_as(embeds)
        return filled

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        granularity: Tensor | None = None,
        labels: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        aims: Tensor | None = None,
        memory: Memory | None = None,
        turns: Tensor | None = None,
        leans: Tensor | None = None,
        features: Tensor | None = None,
        **kwargs: Any,
    ) -> RSUniVLMOutput:
        """Loss or logits for a batch that may mix image counts and granularities.

        input_ids: (batch, length), one `image_token_id` per image row. attention_mask: (batch, past + length).
        pixel_values: (tiles of all images in order, 3, side, side); only with the prompt, not in later decode steps.
        features: `image_features` of them, in their place.
        granularity: (batch,) integers, in every step. labels: (batch, length), -100 where no loss is wanted.
        num_items_in_batch: divides the summed loss instead of this batch's count (gradient accumulation).
        aims: (batch, length) of the processor, in every step, for a network with a reader; memory: of the step that saw
        the images; turns, leans: see `vlm.reader.Reading`, only in the first step of an answer.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass either input_ids or inputs_embeds")
        if inputs_embeds is None:
            assert input_ids is not None
            inputs_embeds = self.embed(input_ids, pixel_values, image_sizes, features)
        if self.config.reader:
            kwargs["reading"] = self._reading(input_ids, inputs_embeds, aims, memory, turns, leans)
        batch, length = inputs_embeds.shape[:2]
        if position_ids is None and attention_mask is not None and attention_mask.ndim == 2:
            position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]
            if labels is not None and bool((attention_mask.diff(dim=1) <= 0).all() and attention_mask[:, 0].all()):
                attention_mask = position_ids = None  # padding at the right only: the causal mask hides it
        outputs = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=False if labels is not None else use_cache,
            routes=Routes.of(granularity, batch, self.config.num_experts),
            **kwargs,
        )
        hidden: Tensor = outputs.last_hidden_state
        reading = kwargs.get("reading")
        kept: dict[str, Any] = {
            "past_key_values": outputs.past_key_values,
            "hidden_states": outputs.hidden_states,
            "attentions": outputs.attentions,
            "reading": reading,
        }
        if labels is None:
            wanted = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.lm_head(hidden[:, wanted])
            return RSUniVLMOutput(logits=self._copied(logits, reading, (slice(None), wanted)), **kept)
        targets = labels[:, 1:]
        labelled = targets != IGNORED
        labelled_rows = functional.pad(labelled, (0, 1))
        logits = self._copied(self.lm_head(hidden[labelled_rows]).float(), reading, labelled_rows)
        losses = functional.cross_entropy(logits, targets[labelled], reduction="none")
        divisor = labelled.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        return RSUniVLMOutput(loss=losses.sum() / divisor, token_losses=losses, token_logits=logits, **kept)

    def _copied(self, logits: Tensor, reading: Reading | None, rows: Any) -> Tensor:
        """Logits of some rows of the sequences, with what the reader, if there is one, says may be written there."""
        if reading is None:
            return logits
        last = self.language_model.layers[-1]
        assert isinstance(last, GranularityLayer)
        assert last.reader is not None
        assert reading.copied is not None
        return logits + last.reader.spell(reading.copied[rows]).to(logits.dtype)

    def _reading(
        self,
        input_ids: Tensor | None,
        embeds: Tensor,
        aims: Tensor | None,
        memory: Memory | None,
        turns: Tensor | None,
        leans: Tensor | None,
    ) -> Reading:
        """What the reader is given in a pass; ValueError where it lacks something."""
        if input_ids is None or aims is None:
            raise ValueError("a network with a reader needs input_ids and aims: use the processor saved with it")
        if memory is not None:
            return Reading(aims, memory=memory, turns=turns, leans=leans)
        images = input_ids == self.config.image_token_id
        return Reading.begin(aims, embeds, images, self.config.layout.patches**2, turns, leans)

    @torch.no_grad()
    def generate(
        self,
        inputs: Tensor | None = None,
        *,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Transformers' `generate` on a batch of the processor; returns the new tokens only, padded at the right.

        Images are encoded once and generation starts from embeddings, so that a repetition penalty sees only the
        tokens generated so far, as in the reference. The penalty is applied by a processor of our own: the one that
        transformers builds would skip as many generated tokens as the prompt has padding. ValueError for a network that
        places the cells of a mask (`cells_at`): only `vlm.generation` follows where they stand.
        """
        if self.config.cells_at:
            raise ValueError("this network places the cells of its masks: ask it with vlm.generation.RSUniVLM")
        ids = inputs if input_ids is None else input_ids
        if ids is not None:
            kwargs["inputs_embeds"] = self.embed(ids, pixel_values, image_sizes)
        settings = kwargs.get("generation_config") or self.generation_config
        penalty = kwargs.pop("repetition_penalty", None) or settings.repetition_penalty
        if penalty is not None and penalty != 1.0:
            processors = [RepetitionPenaltyLogitsProcessor(float(penalty)), *(kwargs.get("logits_processor") or ())]
            kwargs["logits_processor"] = LogitsProcessorList(processors)
        kwargs["repetition_penalty"] = 1.0
        return super().generate(**kwargs)


AutoConfig.register(RSUniVLMConfig.model_type, RSUniVLMConfig, exist_ok=True)
AutoModelForImageTextToText.register(RSUniVLMConfig, RSUniVLMForConditionalGeneration, exist_ok=True)
