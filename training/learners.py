"""What is trained: a network, and the losses that teach it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from training import warmup
from training.packing import TASK_NUMBERS
from vlm.model import IGNORED, RSUniVLMForConditionalGeneration
from vlm.processing import RSUniVLMProcessor
from vlm.prompts import Task


class Warmup(nn.Module):
    """Tower and throw-away heads.

    keep: the share of patches that the tower sees while it learns; what it does not see it is not asked about. Half
    the patches are half the cost, and a good regulariser (https://arxiv.org/abs/2212.00794).
    """

    def __init__(self, tower: nn.Module, heads: warmup.VisionHeads, keep: float = 1.0) -> None:
        super().__init__()
        self.tower, self.heads, self.keep = tower, heads, keep

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Losses by name."""
        embedded = self.tower.embeddings(batch["pixel_values"])
        images, patches, width = embedded.shape
        if self.keep >= 1:
            features = self.tower.encoder(inputs_embeds=embedded).last_hidden_state
            losses: dict[str, torch.Tensor] = self.heads(features, batch["starts"], batch["counts"], batch["target"])
            return losses
        records = len(batch["counts"])
        chance = torch.Generator().manual_seed(batch["number"])  # of the batch, so that a continued run hides the same
        kept = torch.rand(records, patches, generator=chance).argsort(1)[:, : round(self.keep * patches)]
        kept = kept.to(embedded.device)
        seen = torch.zeros(records, patches, dtype=torch.bool, device=embedded.device).scatter_(1, kept, True)
        rows = kept.repeat_interleave(batch["counts"], 0)[..., None].expand(-1, -1, width)
        encoded = self.tower.encoder(inputs_embeds=embedded.gather(1, rows)).last_hidden_state
        features = encoded.new_zeros(images, patches, width).scatter_(1, rows, encoded)
        return self.heads(features, batch["starts"], batch["counts"], warmup.only_seen(batch["target"], seen), seen)


class Percents(nn.Module):
    """A loss for the numbers of boxes to which 41 is nearly right where 42 is asked for, and 90 is not."""

    def __init__(self, tokenizer: Any, spread: float = 1.0) -> None:
        super().__init__()
        known = tokenizer.get_vocab()
        tokens = [[known.get(f"{n}{end}", -1) for n in range(101)] for end in ("", ",Ġ")]
        distance = torch.arange(101)[:, None] - torch.arange(101)
        value = torch.full((2, len(tokenizer)), -1)
        for row, ids in zip(value, tokens, strict=True):
            if min(ids) >= 0:  # A vocabulary that spells numbers digit by digit is left to the usual loss.
                row[ids] = torch.arange(101)
        self.register_buffer("tokens", torch.tensor(tokens), persistent=False)
        self.register_buffer("value", value, persistent=False)
        self.register_buffer("share", (-(distance**2) / (2 * spread**2)).softmax(-1), persistent=False)

    def forward(
        self, losses: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor, boxes: torch.Tensor
    ) -> torch.Tensor:
        """The losses (tokens,), replaced for numbers in the answers marked by `boxes` (tokens,) bool.

        logits: (tokens, vocabulary). targets: (tokens,) ids.
        """
        for ids, value in zip(self.tokens, self.value, strict=True):
            rows = (boxes & (value[targets] >= 0)).nonzero()[:, 0]
            likely = logits[rows].log_softmax(-1)[:, ids]
            losses = losses.index_copy(0, rows, -(likely * self.share[value[targets[rows]]]).sum(-1))
        return losses


class TextModel(nn.Module):
    """The model with its training loss; the warm-up's heads go on watching the tower when `dense` is not zero."""

    def __init__(
        self,
        model: RSUniVLMForConditionalGeneration,
        processor: RSUniVLMProcessor,
        heads: warmup.VisionHeads | None,
        dense: float,
    ) -> None:
        super().__init__()
        self.model, self.heads, self.dense = model, heads, dense
        self.percents = Percents(processor.tokenizer)
        self.seen: dict[str, torch.Tensor] = {}
        if heads is not None:
            side = model.config.layout.patches
            self.place = nn.Linear(model.config.text_config.hidden_size, 2 * side)
            model.vision_tower.encoder.register_forward_hook(self._keep_features)
            model.projector.register_forward_hook(self._keep_projected)

    def _keep_features(self, _module: nn.Module, _args: Any, output: Any) -> None:
        self.seen["features"] = output.last_hidden_state

    def _keep_projected(self, _module: nn.Module, _args: Any, output: torch.Tensor) -> None:
        self.seen["projected"] = output

    def placing(self) -> torch.Tensor:
        """How badly row and column of a patch can be read, linearly, off what the decoder is given of it.

        A tower that starts from nothing learns what a patch is and forgets where it lies; without this the decoder can
        name things and never say where they are.
        """
        projected = self.seen["projected"]
        side = self.place.out_features // 2
        logits = self.place(nn.functional.layer_norm(projected.float(), projected.shape[-1:]))
        index = torch.arange(side * side, device=projected.device).expand(len(projected), -1)
        rows, columns = logits.split(side, -1)
        entropy = nn.functional.cross_entropy
        return entropy(rows.flatten(0, 1), (index // side).flatten()) + entropy(
            columns.flatten(0, 1), (index % side).flatten()
        )

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Losses: one share per task, and the heads'."""
        text = dict(batch["text"])
        task, weight = text.pop("task"), text.pop("weight")
        output = self.model(**text)
        targets = text["labels"][text["labels"] != IGNORED]
        boxes = task == TASK_NUMBERS[Task.GROUND]
        each = self.percents(output.token_losses, output.token_logits, targets, boxes) * weight
        losses = {name.value: each[task == number].sum() for name, number in TASK_NUMBERS.items()}
        if self.heads is not None:
            dense = batch["dense"]
            losses["place"] = 0.2 * self.placing()
            watched = self.heads(self.seen["features"], dense["starts"], dense["counts"], dense["target"])
            losses["dense"] = self.dense * torch.stack(list(watched.values())).sum()
        return losses
