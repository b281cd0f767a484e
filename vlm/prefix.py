"""What a network has read of images, kept for the next question about them.

A prompt shows its images before it asks, and no token looks ahead: the keys and values that the decoder makes of the
images are the same whatever is asked of the same expert, so that only the words of another question are new to it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.cache_utils import DynamicCache

from vlm.model import RSUniVLMForConditionalGeneration
from vlm.reader import Memory

KEPT = 2**28
"""Most bytes of image features, and as many again of prefixes, that are kept."""


@dataclass(frozen=True)
class Prefix:
    """A prompt up to the end of its last image, as its expert reads it.

    states: (layers, 2, heads, length, width) keys and values. memory: what the reader keeps of the image, in a batch of
    one; None in a network without one.
    """

    states: Tensor
    memory: Memory | None

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return self.states.nbytes + (self.memory.nbytes if self.memory else 0)


class PrefixCache:
    """The image features and the prefixes of a network that were wanted last."""

    def __init__(self, model: RSUniVLMForConditionalGeneration) -> None:
        self.model = model
        self._features: OrderedDict[bytes, Tensor] = OrderedDict()
        self._prefixes: OrderedDict[bytes, Prefix] = OrderedDict()

    def clear(self) -> None:
        """Let go of everything."""
        self._features.clear()
        self._prefixes.clear()

    @torch.inference_mode()
    def begin(self, batch: Mapping[str, Tensor], images: Sequence[int]) -> dict[str, Any]:
        """A left-padded batch of the processor with only what comes after the images: past_key_values, and the reader's
        memory, stand for all before. images: how many each row shows, at least one.
        """
        ids, experts = batch["input_ids"], batch["granularity"]
        column = torch.arange(ids.shape[1])
        ends = torch.where(ids == self.model.config.image_token_id, column, -1).amax(1) + 1
        lengths = ends - (batch["attention_mask"] == 0).sum(1)
        rows = [
            (row[end - length : end], expert, tiles, sizes)
            for row, end, length, expert, (tiles, sizes) in zip(
                ids, ends.tolist(), lengths.tolist(), experts, self._shown(batch, images), strict=True
            )
        ]
        keys = [_digest(*row) for row in rows]
        known = {key: self._prefixes.pop(key) for key in dict.fromkeys(keys) if key in self._prefixes}
        unread: dict[int, dict[bytes, tuple[Tensor, Tensor, Tensor, Tensor]]] = {}
        for key, row in zip(keys, rows, strict=True):
            if key not in known:
                unread.setdefault(len(row[0]), {})[key] = row
        for alike in unread.values():
            known |= zip(alike, self._read(list(alike.values())), strict=True)
        _keep(self._prefixes, known)
        return self._continued(batch, ends, [known[key] for key in keys])

    def _shown(self, batch: Mapping[str, Tensor], images: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """The tiles (tiles, 3, side, side) and the sizes (images, 2) of the images of each row."""
        sizes = torch.split(batch["image_sizes"], list(images))
        layout = self.model.config.layout
        counts = [sum(layout.tiles((int(width), int(height))) for width, height in each.tolist()) for each in sizes]
        return list(zip(torch.split(batch["pixel_values"], counts), sizes, strict=True))

    def _read(self, rows: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]]) -> list[Prefix]:
        """The prefixes of rows of one length: their token ids, experts, tiles and sizes of images."""
        device = self.model.device
        ids, experts, tiles, sizes = zip(*rows, strict=True)
        together = torch.stack(ids).to(device)
        output = self.model(
            input_ids=together,
            image_sizes=torch.cat(sizes),
            features=self._seen(torch.cat(tiles)),
            granularity=torch.stack(experts).to(device),
            aims=torch.zeros_like(together) if self.model.config.reader else None,
            use_cache=True,
            logits_to_keep=1,
        )
        states = torch.stack([torch.stack([layer.keys, layer.values]) for layer in output.past_key_values.layers])
        memory = None if output.reading is None else output.reading.memory
        return [
            Prefix(states[:, :, row].clone(), None if memory is None else memory.of(torch.tensor([row], device=device)))
            for row in range(len(rows))
        ]

    def _seen(self, tiles: Tensor) -> Tensor:
        """`image_features` of tiles (tiles, 3, side, side), whichever expert wants them, on the model's device."""
        keys = [hashlib.blake2b(tile.numpy(), digest_size=16).digest() for tile in tiles]
        known = {key: self._features.pop(key) for key in dict.fromkeys(keys) if key in self._features}
        new = {key: place for place, key in enumerate(keys) if key not in known}
        if new:
            found = self.model.image_features(tiles[list(new.values())].to(self.model.device, self.model.dtype))
            known |= {key: one.clone() for key, one in zip(new, found, strict=True)}
        _keep(self._features, known)
        return torch.stack([known[key] for key in keys])

    def _continued(self, batch: Mapping[str, Tensor], ends: Tensor, prefixes: Sequence[Prefix]) -> dict[str, Any]:
        """The batch after column `ends` (rows,) of each of its rows, which its prefix stands for."""
        device = self.model.device
        lengths = torch.tensor([prefix.states.shape[3] for prefix in prefixes])
        longest, rest = int(lengths.max()), batch["input_ids"].shape[1] - int(ends.min())
        past = DynamicCache()
        padded = [functional.pad(prefix.states, (0, 0, longest - prefix.states.shape[3], 0)) for prefix in prefixes]
        for layer, (keys, values) in enumerate(torch.stack(padded, 2)):
            past.update(keys, values, layer)
        own = (torch.arange(batch["input_ids"].shape[1]) >= ends[:, None])[:, -rest:]
        before = torch.arange(longest) >= longest - lengths[:, None]
        found: dict[str, Any] = {
            name: batch[name][:, -rest:] for name in ("input_ids", "position_ids", "aims") if name in batch
        }
        found["input_ids"] = found["input_ids"].masked_fill(~own, 0)  # Before a shorter question its image still shows.
        found["attention_mask"] = torch.cat([before, own], 1).long()
        found["granularity"] = batch["granularity"]
        found = {name: tensor.to(device) for name, tensor in found.items()}
        memories = [prefix.memory for prefix in prefixes if prefix.memory is not None]
        return found | {"past_key_values": past, "memory": Memory.joined(memories) if memories else None}


def _digest(ids: Tensor, expert: Tensor, tiles: Tensor, sizes: Tensor) -> bytes:
    """By which a prefix is found again."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (ids, expert, tiles, sizes):
        digest.update(part.numpy().tobytes())
    return digest.digest()


def _keep(kept: OrderedDict[bytes, Any], wanted: Mapping[bytes, Any]) -> None:
    """Keep what is wanted as the latest, and let go of the oldest while all of it is too much."""
    kept.update(wanted)
    size = sum(one.nbytes for one in kept.values())
    while size > KEPT:
        size -= kept.popitem(last=False)[1].nbytes
