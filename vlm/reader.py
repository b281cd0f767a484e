"""What a small decoder is given beside its attention, so that it can say what the tower sees.

Attention alone must learn from nothing to look at the one patch that a word is about, to carry what is there, and to
turn it into the word. A network of a billion parameters brings that along from its pre-training; one of ten million
did not learn it in hours. So what is to be written is told to the decoder before its last layer: see `Reader`. The
published network has no such part.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from vlm.text_mask import FIRST_CELL

SLOTS = 5
"""What may be brought from a patch: words, or the left, top, right or bottom of a box."""
RARE = -8.0
"""The least logarithm of a probability that is told of a run."""


@dataclass(frozen=True)
class Memory:
    """What a reader keeps of an image, so that it is worked out once for a whole answer.

    keys, cells: (batch, patches, reader). values: (batch, patches, SLOTS, hidden).
    """

    keys: Tensor
    cells: Tensor
    values: Tensor

    def of(self, rows: Tensor) -> Memory:
        """What is kept for some rows of the batch."""
        return Memory(self.keys[rows], self.cells[rows], self.values[rows])


@dataclass
class Reading:
    """One forward pass, as the reader needs and leaves it.

    aims: (batch, length) what each token is about to write: 0 anything; 1 to 4 the left, top, right, bottom of a box;
    `FIRST_CELL` + n the mask from cell n on. image, before: (batch, patches) the rows of the sequence that hold the
    last image, and the one before it; paired: (batch,) whether there is one before it. memory: set by the first pass,
    given to those that go on. looks: (batch, length, patches) log shares of the patches that a token looked at.
    evidence: (batch, length, grid) log-odds, for a token that writes a mask, that the coming cells are of the class
    asked for.
    """

    aims: Tensor
    image: Tensor | None = None
    before: Tensor | None = None
    paired: Tensor | None = None
    memory: Memory | None = None
    looks: Tensor | None = None
    evidence: Tensor | None = None

    @classmethod
    def begin(cls, aims: Tensor, placeholders: Tensor, patches: int) -> Reading:
        """The first pass over sequences whose image rows are marked by `placeholders` (batch, length) bool."""
        number = torch.arange(placeholders.shape[1], device=placeholders.device)
        last = torch.where(placeholders, number, -1).amax(1)
        start = last - patches + 1
        previous = torch.where(placeholders & (number < start[:, None]), number, -1).amax(1)
        one = torch.arange(patches, device=placeholders.device)
        return cls(
            aims,
            image=(start[:, None] + one).clamp(min=0),
            before=(previous[:, None] - patches + 1 + one).clamp(min=0),
            paired=previous >= 0,
        )


class Reader(nn.Module):
    """Tells each token what it may need of the last image, in the decoder's own width.

    Words and numbers: what one attention head, shared by all, brings from the patches; of one patch it may bring words,
    or one edge of the box that has its middle there. Masks: for the cells to come, how likely each is of the class
    asked for, and what that makes of the next run: how likely it ends after one cell, two, ... Of a pair, a patch knows
    its twin of the date before.
    """

    def __init__(self, config: Qwen2Config, width: int, grid: int) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.grid = grid
        self.scale = width**-0.5
        self.norm = Qwen2RMSNorm(hidden, eps=config.rms_norm_eps)
        self.look, self.keys = nn.Linear(hidden, width), nn.Linear(hidden, width)
        self.judge, self.cells = nn.Linear(hidden, width), nn.Linear(hidden, width)
        self.twins = nn.Sequential(nn.Linear(3 * hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.think = nn.Linear(hidden, 2 * hidden)
        self.say = nn.ModuleList(nn.Linear(2 * hidden, hidden) for _ in range(SLOTS))
        self.tell = nn.Linear(4 * grid, hidden)

    def forward(self, hidden: Tensor, reading: Reading) -> Tensor:
        """(batch, length, hidden), to be added to the same; fills in `reading`."""
        own = self.norm(hidden)
        memory = reading.memory = reading.memory or self.remember(own, reading)
        scores = self.look(own) @ memory.keys.transpose(1, 2) * self.scale
        reading.looks = scores.float().log_softmax(-1)
        brought = torch.einsum("btp,bpsd->btsd", reading.looks.exp().to(memory.values.dtype), memory.values)
        slots = torch.where(reading.aims < FIRST_CELL, reading.aims, 0)
        word: Tensor = brought.gather(2, slots[..., None, None].expand(*slots.shape, 1, brought.shape[-1]))[:, :, 0]
        judged = (self.judge(own) @ memory.cells.transpose(1, 2) * self.scale).float()
        reading.evidence = self.ahead(judged, reading.aims)
        told: Tensor = self.tell(self.runs(reading.evidence, reading.aims).to(word.dtype))
        return word + told * (reading.aims >= FIRST_CELL)[..., None]

    def remember(self, own: Tensor, reading: Reading) -> Memory:
        """What is kept of the images of normalised hidden states (batch, length, hidden)."""
        assert reading.image is not None
        assert reading.before is not None
        assert reading.paired is not None

        def rows(which: Tensor) -> Tensor:
            return own.gather(1, which[..., None].expand(-1, -1, own.shape[-1]))

        image = rows(reading.image)
        if bool(reading.paired.any()):
            before = rows(reading.before)
            both = self.twins(torch.cat([before, image, (image - before).abs()], -1))
            image = image + both * reading.paired[:, None, None]
        thought = functional.gelu(self.think(image))
        return Memory(self.keys(image), self.cells(image), torch.stack([say(thought) for say in self.say], 2))

    def ahead(self, judged: Tensor, aims: Tensor) -> Tensor:
        """Of log-odds for all cells (batch, length, patches), those of the next `grid` cells; 0 past the mask's end."""
        cells = (aims - FIRST_CELL)[..., None] + torch.arange(self.grid, device=aims.device)
        there = (cells >= 0) & (cells < judged.shape[-1])
        odds: Tensor = judged.gather(2, cells.clamp(0, judged.shape[-1] - 1)) * there
        return odds

    def runs(self, evidence: Tensor, aims: Tensor) -> Tensor:
        """(batch, length, 4 x grid): how likely a run of the class, and one of others, ends after 1, 2, ... cells.

        First the probabilities, then their logarithms, kept above `RARE` and scaled to -2..0. A run ends with its row.
        """
        number = torch.arange(self.grid, device=aims.device)
        left = self.grid - (aims - FIRST_CELL).clamp(min=0)[..., None] % self.grid  # cells of the row, from here on
        next_one = functional.pad(evidence[..., 1:], (0, 1))
        found = []
        for odds, after in ((evidence, next_one), (-evidence, -next_one)):
            going = functional.logsigmoid(odds).cumsum(-1)
            ends = going + functional.logsigmoid(-after) * (number + 1 < left)
            found.append(torch.where(number < left, ends, RARE).clamp(min=RARE))
        likely = torch.cat(found, -1)
        return torch.cat([likely.exp(), likely / -RARE * 2], -1)
