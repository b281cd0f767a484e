"""Queries to tensors: images to tiles, prompts to ids with image placeholders, answers to labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from vlm.model import IGNORED, RSUniVLMConfig, TileLayout
from vlm.pen import BoxPen, MaskPen
from vlm.prompts import PLACEHOLDER, TASKS, Granularity, Query, Task, TooLong, chat_prompt, granularity_of

END_OF_ANSWER = "<|im_end|>"
PAD_COLOUR = (127, 127, 127)


def to_rgb(image: Any) -> Image.Image:
    """An RGB image from a PIL image of any mode, or from a uint8 array of shape (height, width, 3)."""
    if isinstance(image, Image.Image):
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        rgb: Image.Image = image if image.mode == "RGB" else image.convert("RGB")
        return rgb
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return Image.fromarray(np.ascontiguousarray(image))
    what = f"array {image.shape} of {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
    raise TypeError(f"an image must be a PIL image or a uint8 array of shape (height, width, 3), not {what}")


def cut_tiles(image: Image.Image, layout: TileLayout) -> list[Image.Image]:
    """The square RGB tiles of `layout.side` pixels that the tower sees; with anyres the overview comes first."""
    square = (layout.side, layout.side)
    if layout.aspect == "pad":
        width, height = image.size
        longest = max(width, height)
        canvas = Image.new("RGB", (longest, longest), PAD_COLOUR)
        canvas.paste(image, ((longest - width) // 2, (longest - height) // 2))
        image = canvas
    overview = image.resize(square, Image.Resampling.BICUBIC)
    if not layout.splits:
        return [overview]
    width, height = image.size
    across, down = layout.canvas(image.size)
    if across / width < down / height:
        fitted = (across, min(math.ceil(height * (across / width)), down))
    else:
        fitted = (min(math.ceil(width * (down / height)), across), down)
    canvas = Image.new("RGB", (across, down), (0, 0, 0))
    canvas.paste(image.resize(fitted, Image.Resampling.BICUBIC), ((across - fitted[0]) // 2, (down - fitted[1]) // 2))
    corners = [(left, top) for top in range(0, down, layout.side) for left in range(0, across, layout.side)]
    return [overview, *(canvas.crop((left, top, left + layout.side, top + layout.side)) for left, top in corners)]


def to_pixel_values(tiles: Sequence[Image.Image]) -> Tensor:
    """Tiles of equal size as float32 (tiles, 3, side, side) in -1..1."""
    stacked = torch.from_numpy(np.stack([np.asarray(tile) for tile in tiles])).permute(0, 3, 1, 2)
    return stacked.to(torch.float32, memory_format=torch.contiguous_format).div_(255).sub_(0.5).div_(0.5)


class RSUniVLMProcessor(ProcessorMixin):  # type: ignore[misc]
    """Turns queries into a batch for `model(**batch)` and `model.generate(**batch)`.

    side, patches, aspect, merge, grid_pinpoints: see `TileLayout`. image_token_id, max_rows, cells_at: see
    `RSUniVLMConfig`.
    """

    def __init__(
        self,
        tokenizer: Any = None,
        side: int = 384,
        patches: int = 27,
        aspect: str = "square",
        merge: str = "flat",
        grid_pinpoints: list[list[int]] | None = None,
        image_token_id: int = -200,
        max_rows: int = 32768,
        cells_at: int = 0,
    ) -> None:
        super().__init__(tokenizer)
        self.side = side
        self.patches = patches
        self.aspect = aspect
        self.merge = merge
        self.grid_pinpoints = grid_pinpoints
        self.image_token_id = image_token_id
        self.max_rows = max_rows
        self.cells_at = cells_at
        self._pieces: list[str] = []
        self.layout  # noqa: B018  raises on a layout that is not supported

    @classmethod
    def of(cls, config: RSUniVLMConfig, tokenizer: Any) -> RSUniVLMProcessor:
        """The processor that fits a model of this configuration."""
        layout = config.layout
        return cls(
            tokenizer,
            side=layout.side,
            patches=layout.patches,
            aspect=layout.aspect,
            merge=layout.merge,
            grid_pinpoints=[list(pinpoint) for pinpoint in layout.pinpoints] or None,
            image_token_id=config.image_token_id,
            max_rows=int(config.max_rows or 0),
            cells_at=config.cells_at,
        )

    @property
    def layout(self) -> TileLayout:
        """How images become tiles and rows."""
        pinpoints = tuple((int(width), int(height)) for width, height in self.grid_pinpoints or ())
        return TileLayout(self.side, self.patches, self.aspect, self.merge, pinpoints)

    @property
    def pieces(self) -> list[str]:
        """What each token of the vocabulary writes, in the spelling of a byte-level vocabulary."""
        if not self._pieces:
            tokens = self.tokenizer.convert_ids_to_tokens(range(len(self.tokenizer)))
            self._pieces = [token or "" for token in tokens]
        return self._pieces

    def pen(self, prompt: str, granularity: int) -> MaskPen | BoxPen | None:
        """What follows the answer to a prompt over the cells, where the network places its tokens (`cells_at`)."""
        if self.cells_at and granularity == Granularity.PIXEL:
            return MaskPen()
        if self.cells_at and granularity == Granularity.REGION and TASKS[Task.GROUND].token in prompt:
            return BoxPen(self.patches)
        return None

    def places(self, prompt: int, answer: Sequence[int], pen: MaskPen | BoxPen | None) -> tuple[list[int], list[int]]:
        """Of a prompt of so many rows and the tokens of its answer: rotary positions, by the rule of `cells_at`, and
        what each is about to write (`vlm.pen.Aim.at`).
        """
        if pen is None:
            return list(range(prompt + len(answer))), [0] * (prompt + len(answer))
        positions, aims = [*range(prompt - 1), self.cells_at], [0] * (prompt - 1) + [pen.aim]
        for token in answer:
            positions.append(self.cells_at + pen.write(self.pieces[token]))
            aims.append(pen.aim)
        return positions, aims

    def __call__(  # type: ignore[override, unused-ignore]
        self,
        queries: Sequence[Query],
        answers: Sequence[str] | None = None,
        padding_side: Literal["left", "right"] = "left",
    ) -> BatchFeature:
        """A batch of queries: input_ids, attention_mask, granularity, pixel_values, image_sizes, labels (with answers),
        position_ids and aims (with `cells_at`).

        answers: what the network should write; `<|im_end|>` is appended, and only these tokens carry a loss.
        padding_side: left for generation; right is as good for training.
        Raises ValueError when a text holds the image placeholder, TooLong when a query is longer than `max_rows`.
        """
        for text in [*(query.message for query in queries), *(answers or ())]:
            if PLACEHOLDER in text:
                raise ValueError(f"a query's text may not contain {PLACEHOLDER}: images are added by the processor")
        return self.encode(
            [chat_prompt(query.message, len(query.images)) for query in queries],
            [query.images for query in queries],
            granularity=[query.expert for query in queries],
            answers=answers,
            padding_side=padding_side,
        )

    def encode(
        self,
        prompts: Sequence[str],
        images: Sequence[Sequence[Any]],
        granularity: Sequence[int] | None = None,
        answers: Sequence[str] | None = None,
        padding_side: Literal["left", "right"] = "left",
    ) -> BatchFeature:
        """The same for whole prompts, which hold one `<image>` for each of their images.

        granularity: the expert of each prompt; by default the reference's rule on the prompt's text.
        """
        if not prompts:
            raise ValueError("nothing to encode: pass at least one query")
        if len(images) != len(prompts) or (answers is not None and len(answers) != len(prompts)):
            raise ValueError(f"{len(prompts)} prompts need as many lists of images, and answers if any are given")
        if granularity is None:
            granularity = [granularity_of(prompt) for prompt in prompts]
        layout = self.layout
        tiles: list[Image.Image] = []
        sizes: list[tuple[int, int]] = []
        pieces: list[list[str]] = []
        for prompt, shown in zip(prompts, images, strict=True):
            pieces.append(prompt.split(PLACEHOLDER))
            if len(pieces[-1]) - 1 != len(shown):
                raise ValueError(f"the prompt holds {len(pieces[-1]) - 1} {PLACEHOLDER} for {len(shown)} image(s)")
            for image in map(to_rgb, shown):
                tiles += cut_tiles(image, layout)
                sizes.append(image.size)
        endings = [] if answers is None else [answer + END_OF_ANSWER for answer in answers]
        texts = [piece for row in pieces for piece in row] + endings
        tokens = self.tokenizer(texts, add_special_tokens=False, padding=False, truncation=False)["input_ids"]
        prompt_tokens, answer_tokens = tokens[: len(tokens) - len(endings)], tokens[len(tokens) - len(endings) :]
        rows: list[list[int]] = []
        next_piece, next_size = iter(prompt_tokens), iter(sizes)
        for row in pieces:
            ids = list(next(next_piece))
            for _ in row[1:]:
                ids += [self.image_token_id] * layout.rows(next(next_size))
                ids += next(next_piece)
            rows.append(ids)
        labels = [[IGNORED] * len(ids) for ids in rows]
        places = [
            self.places(len(ids), answer, self.pen(prompt, int(expert)))
            for prompt, ids, answer, expert in zip(
                prompts, rows, answer_tokens or [[]] * len(rows), granularity, strict=True
            )
        ]
        for ids, row_labels, answer in zip(rows, labels, answer_tokens, strict=False):
            ids += answer
            row_labels += answer
        longest = max(map(len, rows))
        if longest > self.max_rows:
            raise TooLong(
                f"a query takes {longest} rows, but the network reads at most {self.max_rows}: "
                "shorten the text or use smaller or fewer images"
            )

        def padded(sequences: list[list[int]], fill: int) -> Tensor:
            gaps = [[fill] * (longest - len(sequence)) for sequence in sequences]
            pairs = zip(gaps, sequences, strict=True)
            if padding_side == "left":
                return torch.tensor([gap + sequence for gap, sequence in pairs])
            return torch.tensor([sequence + gap for gap, sequence in pairs])

        data = {
            "input_ids": padded(rows, self.tokenizer.pad_token_id),
            "attention_mask": padded([[1] * len(ids) for ids in rows], 0),
            "granularity": torch.tensor([int(expert) for expert in granularity]),
        }
        if self.cells_at:
            data["position_ids"] = padded([positions for positions, _ in places], 0)
            data["aims"] = padded([aims for _, aims in places], 0)
        if tiles:
            data["pixel_values"] = to_pixel_values(tiles)
            data["image_sizes"] = torch.tensor(sizes)
        if answers is not None:
            data["labels"] = padded(labels, IGNORED)
        return BatchFeature(data)

    def read(self, tokens: Any) -> list[str]:
        """Texts of generated token ids (batch, length), special tokens left out."""
        texts: list[str] = self.tokenizer.batch_decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return texts


AutoProcessor.register(RSUniVLMConfig, RSUniVLMProcessor, exist_ok=True)
