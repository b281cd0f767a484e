"""What is trained: a network, and the losses that teach it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.models.qwen2.modeling_qwen2 import rotate_half

from training import warmup
from training.packing import LOOK_AHEAD, TASK_NUMBERS, in_lots
from vlm.model import IGNORED, RSUniVLMForConditionalGeneration
from vlm.processing import RSUniVLMProcessor
from vlm.prompts import Task


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
        self.attended: dict[Any, tuple[torch.Tensor, torch.Tensor]] = {}
        self.asked: dict[nn.Module, torch.Tensor] = {}
        width = model.config.text_config.hidden_size
        model.language_model.norm.register_forward_hook(self._keep_hidden)
        if heads is not None:
            self.ahead = nn.Linear(width, LOOK_AHEAD)
            for layer in model.language_model.layers[-2:]:
                layer.self_attn.register_forward_pre_hook(self._keep_attention, with_kwargs=True)
                for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
                    projection.register_forward_hook(self._keep_asked)
            side = model.config.layout.patches
            self.place = nn.Linear(width, 2 * side)
            self.edges = nn.Linear(width, 4 * width)
            self.repeats = nn.ModuleList(
                nn.Linear(layer.self_attn.head_dim, 4 * width) for layer in model.language_model.layers[-2:]
            )
            model.vision_tower.encoder.register_forward_hook(self._keep_features)
            model.projector.register_forward_hook(self._keep_projected)

    def _keep_features(self, _module: nn.Module, _args: Any, output: Any) -> None:
        self.seen["features"] = output.last_hidden_state

    def _keep_projected(self, _module: nn.Module, _args: Any, output: torch.Tensor) -> None:
        self.seen["projected"] = output

    def _keep_attention(self, module: Any, _args: Any, known: dict[str, Any]) -> None:
        self.attended[module] = known["position_embeddings"]

    def _keep_asked(self, module: nn.Module, _args: Any, output: torch.Tensor) -> None:
        # Kept, not computed anew later: then FSDP has already let the weights go.
        self.asked[module] = output

    def looks(self, ids: torch.Tensor, labelled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Where one head of each of the last two layers looks in the image: log shares (tokens, layers, patches); and
        what it brings back from there (tokens, layers, head).

        ids, labelled: (batch, length); labelled marks the positions that write.
        """
        first = int((ids[0] == self.model.config.image_token_id).nonzero()[0])
        image = slice(first, first + self.model.config.layout.patches**2)
        row, column = labelled.nonzero(as_tuple=True)
        found, brought = [], []
        for module, (cosine, sine) in self.attended.items():
            asks = self.asked[module.q_proj][row, column, -module.head_dim :]
            holds = self.asked[module.k_proj][:, image, -module.head_dim :]
            values = self.asked[module.v_proj][:, image, -module.head_dim :]
            cosine, sine = cosine.expand(len(ids), -1, -1), sine.expand(len(ids), -1, -1)
            asks = asks * cosine[row, column] + rotate_half(asks) * sine[row, column]
            holds = holds * cosine[:, image] + rotate_half(holds) * sine[:, image]
            scores = torch.einsum("td,tpd->tp", asks, holds[row]) * module.scaling
            found.append(scores.float().log_softmax(-1))
            brought.append(torch.einsum("tp,tpd->td", found[-1].exp().to(values.dtype), values[row]))
        return torch.stack(found, 1), torch.stack(brought, 1)

    def telling(
        self, image: torch.Tensor, patch: torch.Tensor, edge: torch.Tensor, token: torch.Tensor
    ) -> torch.Tensor:
        """How badly the edges of a box can be told from the patch in its middle, by what the decoder is given of it.

        image, patch, edge, token: (numbers,) which image, patch and edge a number is of, and the token that writes it.
        A patch that already holds the words of its box leaves the decoder only to find it, and to repeat them.
        """
        features = nn.functional.layer_norm(self.seen["projected"].float(), self.seen["projected"].shape[-1:])
        return self._spoken(self.edges(features[image, patch]), edge, token)

    def repeating(self, edge: torch.Tensor, token: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """How badly the edges of a box can be told from what the looking heads bring back when a number is due.

        numbers: which of the labelled tokens are numbers; edge, token: of each. A head that looks at the right patch is
        of no use until it also carries all that will be written of it.
        """
        brought = self.seen["brought"][numbers].unbind(1)
        told = [self._spoken(repeat(one), edge, token) for repeat, one in zip(self.repeats, brought, strict=True)]
        return torch.stack(told).sum()

    def _spoken(self, said: torch.Tensor, edge: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
        """The summed loss of numbers (numbers, 4 x width), of each of which one edge is asked for."""
        chosen = said.unflatten(-1, (4, -1))[torch.arange(len(edge), device=edge.device), edge]
        logits = self.model.lm_head(chosen).float()
        nothing = logits.new_zeros(len(edge))
        return self.percents(nothing, logits, token, torch.ones_like(token, dtype=torch.bool)).sum()

    def _keep_hidden(self, _module: nn.Module, _args: Any, output: torch.Tensor) -> None:
        self.seen["hidden"] = output

    def looking_ahead(self, hidden: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """How badly the coming cells of a mask can be read, linearly, off what the decoder is about to write.

        A run says nothing until its end is seen; asked for each cell, the decoder learns to look along the row.
        """
        known = ~cells.isnan()
        loss = nn.functional.binary_cross_entropy_with_logits(
            self.ahead(hidden).float(), cells.nan_to_num(), reduction="none"
        )
        return warmup.known_mean(loss, known)

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
        task, weight, ahead, meant = text["task"], text["weight"], text["ahead"], text["meant"]
        outputs, seen, before = [], [], 0
        for lot in in_lots(text, batch.get("lots")):
            outputs.append(self.model(**lot))
            labelled = nn.functional.pad(lot["labels"][:, 1:] != IGNORED, (0, 1))
            seen.append({**self.seen, "hidden": self.seen["hidden"][labelled]})
            if self.heads is not None:
                seen[-1]["looks"], seen[-1]["brought"] = self.looks(lot["input_ids"], labelled)
            seen[-1]["row"] = labelled.nonzero()[:, 0] + before
            before += len(labelled)
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
        if self.heads is not None:
            losses["ahead"] = self.looking_ahead(self.seen["hidden"], ahead)
            known = (meant.sum(-1) > 0).sum()
            losses["point"] = -0.3 * (self.seen["looks"] * meant[:, None]).sum() / known.clamp(min=1)
            numbers = (text["edge"] >= 0).nonzero()[:, 0]
            told = self.telling(
                self.seen["row"][numbers], meant[numbers].argmax(-1), text["edge"][numbers], targets[numbers]
            )
            losses["tell"] = told / max(len(numbers), 1)
            repeated = self.repeating(text["edge"][numbers], targets[numbers], numbers)
            losses["repeat"] = 0.5 * repeated / max(len(numbers), 1)
            dense = batch["dense"]
            losses["place"] = 0.2 * self.placing()
            watched = self.heads(self.seen["features"], dense["starts"], dense["counts"], dense["target"])
            losses |= {f"dense_{name}": self.dense * value for name, value in watched.items()}
        return losses
