"""What is trained: a network, and the losses that teach it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from training import warmup
from training.packing import TASK_NUMBERS, in_lots
from vlm.model import IGNORED, RSUniVLMForConditionalGeneration
from vlm.processing import RSUniVLMProcessor
from vlm.prompts import Task
from vlm.reader import RARE, finer

CELLS, MIDDLES = 4.0, 40.0
"""Weights of the losses of cells (and of their parts) and of middles of boxes, which few of many patches hold."""


class Warmup(nn.Module):
    """Tower and throw-away heads. The tower sees the patches that a batch says are `kept`, of each record its own."""

    def __init__(self, tower: nn.Module, heads: warmup.VisionHeads) -> None:
        super().__init__()
        self.tower, self.heads = tower, heads

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Losses by name."""
        embedded = self.tower.embeddings(batch["pixel_values"])
        images, patches, width = embedded.shape
        kept = batch.get("kept")
        if kept is None:
            features = self.tower.encoder(inputs_embeds=embedded).last_hidden_state
            losses: dict[str, torch.Tensor] = self.heads(features, batch["starts"], batch["counts"], batch["target"])
            return losses
        rows = kept.repeat_interleave(batch["counts"], 0)[..., None].expand(-1, -1, width)
        encoded = self.tower.encoder(inputs_embeds=embedded.gather(1, rows)).last_hidden_state
        features = encoded.new_zeros(images, patches, width).scatter_(1, rows, encoded)
        return self.heads(features, batch["starts"], batch["counts"], batch["target"], warmup.seen_of(kept, patches))


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
            self.place = nn.Linear(model.config.text_config.hidden_size, 2 * model.config.layout.patches)
            model.vision_tower.encoder.register_forward_hook(self._keep_features)
            model.projector.register_forward_hook(self._keep_projected)

    def _keep_features(self, _module: nn.Module, _args: Any, output: Any) -> None:
        self.seen["features"] = output.last_hidden_state

    def _keep_projected(self, _module: nn.Module, _args: Any, output: torch.Tensor) -> None:
        self.seen["projected"] = output

    def reading(self, text: dict[str, Any], reads: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """How badly the reader sees what it should, for each labelled token: which cells are of the class of a mask,
        which patches hold the middle of a box asked for, where to look, and the edges of a box whose middle lies in the
        patch where it should look: what is to be said of a patch need not wait until the reader looks there. Where
        parts of cells are told apart, also how badly it sees those, when a mask begins.
        """
        odds, looks, edges = (torch.cat([read[name] for read in reads]) for name in ("odds", "looks", "edges"))
        sought, meant, edge = text["sought"], text["meant"], text["edge"]
        known = ~sought.isnan()
        each = nn.functional.binary_cross_entropy_with_logits(odds, sought.nan_to_num(), reduction="none")
        boxes = (text["task"] == TASK_NUMBERS[Task.GROUND])[:, None]
        numbers = (edge[:, 0] >= 0).nonzero()[:, 0]
        said = edges[numbers, edge[numbers, 0]]
        wrong = -(said.clamp(min=math.exp(RARE)).log() * self.percents.share[edge[numbers, 1]]).sum(-1)
        weight = text["weight"][numbers]
        found = {
            "cells": CELLS * warmup.known_mean(each, known & ~boxes),
            "middles": MIDDLES * warmup.known_mean(each, known & boxes),
            "point": 0.5 * -(looks * meant).sum() / (meant.sum(-1) > 0).sum().clamp(min=1),
            "tell": 0.5 * (wrong * weight).sum() / weight.sum().clamp(min=1e-9),
        }
        if len(text["begins"]):
            fine, shares = torch.cat([read["fine"] for read in reads]), text["shares"]
            each = nn.functional.binary_cross_entropy_with_logits(fine, shares.nan_to_num(), reduction="none")
            found["parts"] = CELLS * warmup.known_mean(each, ~shares.isnan())
        return found

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
        """Losses: the mean of each task, and the heads'. `lots` says which sequences are computed together."""
        text = batch["text"]
        task, weight = text["task"], text["weight"]
        outputs, seen, reads = [], [], []
        before = 0
        for lot in in_lots(text, batch.get("lots")):
            outputs.append(self.model(**lot))
            seen.append(self.seen.copy())
            if self.model.config.reader:
                reading = outputs[-1].reading
                labelled = nn.functional.pad(lot["labels"][:, 1:] != IGNORED, (0, 1))
                rows = labelled.nonzero()[:, 0]
                where = text["meant"][before : before + len(rows)].argmax(-1)
                read = {"odds": reading.odds[labelled], "looks": reading.looks[labelled]}
                read["edges"] = reading.memory.edges[rows, where]
                if len(text["begins"]):
                    begins = text["begins"] - before
                    begins = begins[(begins >= 0) & (begins < len(rows))]
                    asked = reading.asked[labelled][begins]
                    read["fine"] = finer(read["odds"][begins], asked, reading.memory.parts[rows[begins]])
                reads.append(read)
                before += len(rows)
        self.seen = {name: torch.cat([one[name] for one in seen]) for name in seen[0]}
        token_losses = torch.cat([output.token_losses for output in outputs])
        token_logits = torch.cat([output.token_logits for output in outputs])
        targets = text["labels"][text["labels"] != IGNORED]
        boxes = task == TASK_NUMBERS[Task.GROUND]
        each = self.percents(token_losses, token_logits, targets, boxes) * weight
        losses = {
            name.value: each[task == number].sum() / weight[task == number].sum().clamp(min=1e-9)
            for name, number in TASK_NUMBERS.items()
        }
        if reads:
            losses |= self.reading(text, reads)
        if self.heads is not None:
            dense = batch["dense"]
            losses["place"] = 0.2 * self.placing()
            watched = self.heads(self.seen["features"], dense["starts"], dense["counts"], dense["target"])
            losses |= {f"dense_{name}": self.dense * value for name, value in watched.items()}
        return losses
