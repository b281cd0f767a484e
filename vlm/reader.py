"""What a small network has beside its attention, so that it can say what the tower sees.

Attention alone must learn from nothing to look at the one patch that a word is about, to carry what is there, and to
turn it into the word. A network of a billion parameters brings that along from its pre-training; one of ten million
did not learn it in hours. So the reader looks, and what it sees is copied into the logits, as a pointer network does
(https://arxiv.org/abs/1704.04368). The published network has no such part.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from vlm.pen import KINDS, Aim
from vlm.text_box import NOTHING, Percent
from vlm.text_mask import OTHERS
from vlm.views import patches, sides

NUMBERS = 101
"""What an edge of a box may be: 0 to 100."""
ACROSS = 8
"""Percents by which an edge may lie on the far side of the middle of the patch that holds the middle of its box."""
RARE = -8.0
"""The least logarithm of a probability that is told."""
_NUMBER = re.compile("(?:0|[1-9][0-9]*)\\Z")
SHARP = 3.0
"""By which the log-odds of a patch are multiplied before a box or a run is written, so that each is decided by itself:
many that are hardly likely do not add up to one that is, and many likely ones not to one that is not."""
FINE = 32
"""Width of the queries and keys of the parts of a patch."""
FAINT = 0.02
"""How likely the middle of a box is at least, before its edges are weighed, that it is told of at all."""
NEARBY = 0.25
"""By what share of a box's size its edges may be off."""
SAME = 0.5
"""IoU from which on two boxes that were seen from different patches are one object."""


@dataclass(frozen=True)
class Memory:
    """What a reader keeps of an image, so that it is worked out once for a whole answer.

    keys, cells, middles: (batch, patches, reader). values: (batch, patches, hidden). edges: (batch, patches, 4,
    NUMBERS) how likely each number is as an edge of a box with its middle there. odds: (batch, patches), see `Reading`,
    as they were when the answer began, and so for all of it; None while answers are learned, when each token has its
    own. parts: (batch, patches, parts of a patch, FINE) keys; fine: (batch, patches x parts) log-odds that each part is
    of the class of a mask, row by row over the image, known when `odds` are; both None in a reader that sees no parts.
    """

    keys: Tensor
    cells: Tensor
    middles: Tensor
    values: Tensor
    edges: Tensor
    odds: Tensor | None = None
    parts: Tensor | None = None
    fine: Tensor | None = None

    def of(self, rows: Tensor) -> Memory:
        """What is kept for some rows of the batch."""
        kept = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Memory(**{name: value[rows] for name, value in kept.items() if value is not None})

    @classmethod
    def joined(cls, memories: Sequence[Memory]) -> Memory:
        """One batch of what is kept in several."""
        names = [name for name in cls.__dataclass_fields__ if getattr(memories[0], name) is not None]
        return cls(**{name: torch.cat([getattr(memory, name) for memory in memories]) for name in names})

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        kept = (getattr(self, name) for name in self.__dataclass_fields__)
        return sum(value.nbytes for value in kept if value is not None)


class Reading:
    """One forward pass, as the reader needs and leaves it.

    aims: (batch, length) what each token is about to write, by `Aim.at`. given: (batch, length, hidden) what the
    decoder was given, image rows as they left the projector. image, before: (batch, patches) the rows of the sequence
    that hold the last image, and the one before it; paired: (batch,) whether there is one before it. memory: set by the
    first pass, given to those that go on. looks: (batch, length, patches) log shares of the patches that a token looked
    at. odds: (batch, length, patches) log-odds that a patch is of the class asked for, for a token that writes a mask,
    or that it holds the middle of a box asked for. asked: (batch, length, FINE) queries for the parts of patches.
    copied: (batch, length, `Reader.columns`).
    turns: where an answer is written, (batch, 2), for each row the first of those that show the same images, and the
    view of `vlm.views` that it shows; leans: (batch,) what is added to the log-odds before they are read, see
    `RSUniVLMConfig.leans`; None for neither.

    No dataclass: where weights are sharded, a layer is given a copy of each dataclass, and what it left would be lost.
    """

    def __init__(
        self,
        aims: Tensor,
        given: Tensor | None = None,
        image: Tensor | None = None,
        before: Tensor | None = None,
        paired: Tensor | None = None,
        memory: Memory | None = None,
        turns: Tensor | None = None,
        leans: Tensor | None = None,
    ) -> None:
        self.aims, self.given, self.image, self.before, self.paired = aims, given, image, before, paired
        self.memory, self.turns, self.leans = memory, turns, leans
        self.looks: Tensor | None = None
        self.odds: Tensor | None = None
        self.asked: Tensor | None = None
        self.copied: Tensor | None = None

    @classmethod
    def begin(
        cls,
        aims: Tensor,
        given: Tensor,
        placeholders: Tensor,
        patches: int,
        turns: Tensor | None = None,
        leans: Tensor | None = None,
    ) -> Reading:
        """The first pass over sequences whose image rows are marked by `placeholders` (batch, length) bool."""
        number = torch.arange(placeholders.shape[1], device=placeholders.device)
        last = torch.where(placeholders, number, -1).amax(1)
        start = last - patches + 1
        previous = torch.where(placeholders & (number < start[:, None]), number, -1).amax(1)
        one = torch.arange(patches, device=placeholders.device)
        return cls(
            aims,
            given,
            image=(start[:, None] + one).clamp(min=0),
            before=(previous[:, None] - patches + 1 + one).clamp(min=0),
            paired=previous >= 0,
            turns=turns,
            leans=leans,
        )


def finer(odds: Tensor, asked: Tensor, parts: Tensor) -> Tensor:
    """Log-odds that each part of each patch is of the class of a mask, (rows, patches x parts), row by row over the
    image, of those of the patches, (rows, patches), and queries and keys of the parts, see `Reading` and `Memory`.
    """
    fine = odds[..., None] + torch.einsum("rw,rpsw->rps", asked, parts).float() * FINE**-0.5
    side, split = (math.isqrt(size) for size in parts.shape[1:3])
    found: Tensor = fine.view(len(odds), side, side, split, split).transpose(2, 3).flatten(1)
    return found


def boxes(odds: Tensor, edges: Tensor) -> tuple[tuple[Percent, float], ...]:
    """The objects that the patches of an image tell of, the surest first, and how sure each is.

    odds: (patches,) log-odds that each holds the middle of one. edges: (patches, 4, NUMBERS), see `Memory`: an edge
    lies where three numbers in a row are likeliest, to a fraction of a percent. Sure is what is likely to be there, and
    to have all its edges within a `NEARBY` of its size, of which the square root counts. Of an object that several
    patches see, the surest tells.
    """
    chances, order = odds.float().sigmoid().sort(descending=True, stable=True)
    chances = chances[chances >= FAINT]
    likely = edges[order[: len(chances)]].float()
    number = torch.arange(NUMBERS, device=odds.device)
    padded = functional.pad(likely, (1, 1))
    place = (padded[..., :-2] + likely + padded[..., 2:]).argmax(-1, keepdim=True)
    around = likely * ((number - place).abs() <= 2)
    ends = (around * number).sum(-1) / around.sum(-1).clamp(min=1e-9)
    starts = torch.minimum(ends[:, :2], ends[:, 2:] - 0.5).clamp(min=0)
    corners = torch.cat([starts, torch.maximum(ends[:, 2:], starts + 0.5)], 1)
    size = corners[:, 2:] - corners[:, :2]
    reach = (NEARBY * size).clamp(min=1).repeat(1, 2)[..., None]
    sure = chances * (likely * ((number - corners[..., None]).abs() <= reach)).sum(-1).prod(-1).sqrt()

    sure, order = sure.sort(descending=True, stable=True)
    corners, area = corners[order], size[order].prod(-1)
    shared = torch.minimum(corners[:, None, 2:], corners[:, 2:]) - torch.maximum(corners[:, None, :2], corners[:, :2])
    both = shared.clamp(min=0).prod(-1)
    same = both >= SAME * (area[:, None] + area - both)
    free = torch.ones(len(order), dtype=torch.bool, device=odds.device)
    for row in range(len(order)):
        if free[row]:
            free[row + 1 :] &= ~same[row, row + 1 :]
    told = zip(corners[free].tolist(), sure[free].tolist(), strict=True)
    return tuple(((left, top, right, bottom), chance) for (left, top, right, bottom), chance in told)


class Reader(nn.Module):
    """Looks at the last image for each token, and says what may be written of it.

    Words: what an attention head brings from the patches is added to the hidden state. Boxes: which patch holds the
    next middle, row by row from the last box on, whether any does, and how likely each number is as an edge of the box
    there. Masks: how likely the next run ends after one cell, two, ... All of it as logarithms beside those of chance,
    which `spell` adds to the logits of the tokens that write it. Of a pair, a patch knows its twin of the date before.
    A mask has one cell a patch; with `parts` > 1 the reader also tells `parts` x `parts` parts of each apart.
    """

    writes: Tensor
    trust: Tensor

    def __init__(self, config: Qwen2Config, width: int, grid: int, parts: int = 1) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.grid = grid
        self.scale = width**-0.5
        self.columns = 2 * grid + NUMBERS + 2
        self.norm, self.fresh = (Qwen2RMSNorm(hidden, eps=config.rms_norm_eps) for _ in range(2))
        self.see = nn.Linear(hidden, hidden)
        self.look, self.keys = nn.Linear(hidden, width), nn.Linear(hidden, width)
        self.judge, self.cells, self.middles = (nn.Linear(hidden, width) for _ in range(3))
        self.twins = nn.Sequential(nn.Linear(3 * hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.think = nn.Linear(hidden, 2 * hidden)
        self.say = nn.Linear(2 * hidden, hidden)
        self.edges = nn.Linear(2 * hidden, 4 * NUMBERS)
        self.ask_parts = nn.Linear(hidden, FINE) if parts > 1 else None
        self.parts = nn.Linear(hidden, parts**2 * FINE) if parts > 1 else None
        self.rarity = nn.Parameter(torch.empty(2))
        self.trust = nn.Parameter(torch.empty(3))
        self.register_buffer("writes", torch.full((config.vocab_size,), self.columns))
        self.start()

    def start(self) -> None:
        """What is believed before anything is learned: few patches hold a middle, and the reader is right."""
        nn.init.constant_(self.trust, 1.0)
        nn.init.zeros_(self.see.weight)
        with torch.no_grad():
            self.rarity.copy_(torch.tensor([0.0, -4.0]))

    def learn_to_spell(self, pieces: Sequence[str]) -> None:
        """Note which column of `Reading.copied` each token writes; pieces: what each writes, byte-level."""
        runs, numbers = 2 * self.grid, 2 * self.grid + NUMBERS
        for token, piece in enumerate(pieces[: len(self.writes)]):
            text = piece.replace("Ġ", " ").replace("Ċ", "\n").rstrip(", \n")
            label, _, count = text.rpartition("*")
            number = int(count) if _NUMBER.match(count) else -1
            column = self.columns
            if label and 0 < number <= self.grid:
                column = number - 1 + (self.grid if label == OTHERS else 0)
            elif text == count and 0 <= number < NUMBERS:
                column = runs + number
            elif text.endswith("["):
                column = numbers
            elif piece in ("]", NOTHING):
                column = numbers + 1
            self.writes[token] = column

    def forward(self, hidden: Tensor, reading: Reading) -> Tensor:
        """(batch, length, hidden), to be added to the same; fills in `reading`."""
        own = self.norm(hidden)
        memory = reading.memory = reading.memory or self.remember(own, reading)
        kind, start = reading.aims % KINDS, torch.div(reading.aims, KINDS, rounding_mode="floor")
        if self.ask_parts is not None:
            reading.asked = self.ask_parts(own)
        judge = self.judge(own) * self.scale
        cells, middles = (
            (judge @ known.transpose(1, 2)).float() + rarity
            for known, rarity in zip((memory.cells, memory.middles), self.rarity, strict=True)
        )
        boxes = ((kind >= Aim.LEFT) & (kind <= Aim.MORE))[..., None]
        odds = torch.where(boxes, middles, cells)
        if reading.turns is not None and memory.odds is None:
            begins = (torch.arange(len(kind), device=kind.device), (kind != Aim.WORD).int().argmax(1))
            leaning = odds[begins] if reading.leans is None else odds[begins] + reading.leans[:, None]
            fine = None
            if reading.asked is not None and memory.parts is not None:
                fine = finer(leaning, reading.asked[begins], memory.parts)
            memory = reading.memory = self.agreed(replace(memory, odds=leaning, fine=fine), reading.turns)
        sharp = 1.0
        if memory.odds is not None:
            odds, sharp = memory.odds[:, None].expand_as(odds), SHARP
        reading.odds = odds
        here, none = self.next_one(SHARP * odds, start)
        scores = (self.look(own) @ memory.keys.transpose(1, 2) * self.scale).float()
        reading.looks = (scores + here * boxes).log_softmax(-1)
        shares = reading.looks.exp()
        brought: Tensor = shares.to(memory.values.dtype) @ memory.values
        runs = self.runs(self.ahead(sharp * odds, start), start) + math.log(2 * self.grid)
        more = torch.stack([torch.log(-torch.expm1(none.clamp(max=-1e-6))), none], -1).clamp(min=RARE) + math.log(2)
        which = (kind - 1).clamp(0, 3)[..., None, None].expand(-1, -1, 1, NUMBERS)
        edge = torch.einsum("btp,bpen->bten", shares, memory.edges).gather(2, which)[:, :, 0]
        numbers = edge.clamp(min=math.exp(RARE)).log() + math.log(NUMBERS)
        meant = (kind == Aim.RUN, (kind >= Aim.LEFT) & (kind <= Aim.BOTTOM), kind == Aim.MORE)
        told = zip((runs, numbers, more), self.trust, meant, strict=True)
        reading.copied = torch.cat([logs * trust * there[..., None] for logs, trust, there in told], -1)
        return brought

    def spell(self, copied: Tensor) -> Tensor:
        """What is added to the logits, (..., vocabulary), of some rows of `Reading.copied`."""
        padded = functional.pad(copied, (0, 1))
        return padded[..., self.writes]

    def remember(self, own: Tensor, reading: Reading) -> Memory:
        """What is kept of the images of normalised hidden states (batch, length, hidden)."""
        assert reading.given is not None
        assert reading.image is not None
        assert reading.before is not None
        assert reading.paired is not None

        # The layers below mix what lies apart; what the projector said of a patch is still exact.
        seen = own + self.see(self.fresh(reading.given))

        def rows(which: Tensor) -> Tensor:
            found: Tensor = seen.gather(1, which[..., None].expand(-1, -1, seen.shape[-1]))
            return found

        image = rows(reading.image)
        if bool(reading.paired.any()):
            before = rows(reading.before)
            both = self.twins(torch.cat([before, image, (image - before).abs()], -1))
            image = image + both * reading.paired[:, None, None]
        thought = functional.gelu(self.think(image))
        reach = self.edges(thought).unflatten(-1, (4, NUMBERS)).float().softmax(-1)
        edges = torch.zeros_like(reach).scatter_add(-1, self.reached(reach.device).expand_as(reach), reach)
        parts = None if self.parts is None else self.parts(image).unflatten(-1, (-1, FINE))
        return Memory(self.keys(image), self.cells(image), self.middles(image), self.say(thought), edges, parts=parts)

    def agreed(self, memory: Memory, turns: Tensor) -> Memory:
        """What is kept of images that were seen in several views, see `Reading.turns`: the mean of what was seen of
        each patch, in all rows as it lies in view 0.
        """
        assert memory.odds is not None
        first, view = turns.unbind(1)
        where = torch.from_numpy(patches(self.grid)).to(view.device)[view]
        which, back = (torch.from_numpy(table).to(view.device)[view] for table in sides())
        odds = memory.odds.gather(1, where)
        edges = memory.edges.gather(1, where[..., None, None].expand_as(memory.edges))
        edges = edges.gather(2, which[:, None, :, None].expand_as(edges))
        edges = torch.where(back[:, None, :, None], edges.flip(-1), edges)
        count = torch.zeros_like(odds[:, 0]).index_add(0, first, torch.ones_like(odds[:, 0])).clamp(min=1)

        def mean(of: Tensor) -> Tensor:
            total = torch.zeros_like(of).index_add(0, first, of)
            found: Tensor = (total / count.view(-1, *[1] * (of.ndim - 1)))[first]
            return found

        fine = memory.fine
        if fine is not None:
            places = torch.from_numpy(patches(math.isqrt(fine.shape[-1]))).to(view.device)[view]
            fine = mean(fine.gather(1, places))
        return replace(memory, odds=mean(odds), edges=mean(edges), fine=fine)

    def reached(self, device: torch.device) -> Tensor:
        """(patches, 4, NUMBERS): which number each edge is that lies so far from the middle of a patch; what lies
        outside the image ends at its border.
        """
        far = torch.arange(NUMBERS, device=device) - ACROSS
        middle = ((torch.arange(self.grid, device=device) + 0.5) * (NUMBERS - 1) / self.grid).round().long()
        row, column = middle.repeat_interleave(self.grid), middle.repeat(self.grid)
        sides = torch.stack([column, row, column, row], 1)[..., None] + torch.stack([-far, -far, far, far])
        return sides.clamp(0, NUMBERS - 1)

    def next_one(self, odds: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Reading patch by patch from number `start` (batch, length) on: how likely each is the first that holds what
        is looked for, (batch, length, patches), and how likely none does, (batch, length); both logarithms.
        """
        coming = torch.arange(odds.shape[-1], device=odds.device) >= start[..., None]
        passed = functional.logsigmoid(-odds) * coming
        until = passed.cumsum(-1)
        here = torch.where(coming, functional.logsigmoid(odds) + until - passed, RARE).clamp(min=RARE)
        return here, until[..., -1]

    def ahead(self, odds: Tensor, start: Tensor) -> Tensor:
        """Of log-odds for all cells (batch, length, patches), those of the `grid` cells from `start` (batch, length)
        on; 0 past the mask's end.
        """
        cells = start[..., None] + torch.arange(self.grid, device=odds.device)
        found: Tensor = odds.gather(2, cells.clamp(max=odds.shape[-1] - 1)) * (cells < odds.shape[-1])
        return found

    def runs(self, evidence: Tensor, start: Tensor) -> Tensor:
        """(batch, length, 2 x grid): logarithms of how likely a run of the class, then one of others, is the next and
        ends after 1, 2, ... cells, of log-odds (batch, length, grid) that the next cells are of the class. A run ends
        with its row.
        """
        number = torch.arange(self.grid, device=evidence.device)
        left = self.grid - start[..., None] % self.grid  # cells of the row, from here on
        next_one = functional.pad(evidence[..., 1:], (0, 1))
        found = []
        for odds, after in ((evidence, next_one), (-evidence, -next_one)):
            going = functional.logsigmoid(odds).cumsum(-1)
            ends = going + functional.logsigmoid(-after) * (number + 1 < left)
            found.append(torch.where(number < left, ends, RARE).clamp(min=RARE))
        return torch.cat(found, -1)
