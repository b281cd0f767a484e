"""Grammars that an answer cannot leave: boxes, masks, one name out of several. Imports no torch.

A grammar is an automaton over bytes; a token is allowed where all its bytes keep the answer alive, and the end token
only where the answer is complete. So the same grammars serve any byte-level vocabulary, whether it spells `others*12`
with seven tokens or with one. Every state that can be reached can be completed: what is written under a grammar to its
end is read by `text_box.decode`, by `text_mask.decode`, or is one of the names.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vlm import text_box, text_mask

State = TypeVar("State", bound=Hashable)


class Grammar(Protocol[State]):
    """An automaton over bytes.

    start: the state before the first byte. alphabet: every byte that can occur. closing: the byte that ends a part (a
    row, a box) after which the same begins anew. longest: no answer has more bytes.
    """

    @property
    def start(self) -> State: ...  # noqa: D102

    @property
    def alphabet(self) -> bytes: ...  # noqa: D102

    @property
    def closing(self) -> bytes: ...  # noqa: D102

    @property
    def longest(self) -> int: ...  # noqa: D102

    def step(self, state: State, byte: int) -> State | None:
        """The state after one more byte, None if no answer goes on like this."""

    def complete(self, state: State) -> bool:
        """Whether the answer may end here."""

    def key(self, state: State, parts: int) -> Hashable:
        """Equal for states between which no continuation with at most `parts` closing bytes can tell."""


@cache
def _spells(digits: bytes, low: int, high: int) -> bool:
    """Whether a whole number from low to high begins with these digits."""
    return any(str(number).encode().startswith(digits) for number in range(low, high + 1))


NEAR = 4
"""Percents by which the edges of two boxes may differ that say the same."""

BoxState = tuple[int, tuple[int, ...], bytes]


class BoxGrammar:
    """`none`, or up to `most` boxes `[x1, y1, x2, y2]` of whole percents joined by ", ", with x1 < x2 and y1 < y2.

    A state is: boxes that may still begin (the open one included), finished numbers of the open box, what has been
    written since.
    """

    alphabet = b"[], 0123456789" + bytes(sorted(set(text_box.NOTHING.encode())))
    closing = b"]"

    def __init__(self, most: int = text_box.MAX_BOXES) -> None:
        if most < 1:
            raise ValueError(f"at least one box must be allowed, not {most}")
        self.start: BoxState = (most, (), b"")
        self.longest = max(most * len("[99, 99, 100, 100], "), len(text_box.NOTHING))

    def step(self, state: BoxState, byte: int) -> BoxState | None:
        """The state after one more byte, None if no answer goes on like this."""
        left, numbers, text = state
        char = bytes((byte,))
        more = text + char
        if text_box.NOTHING.encode().startswith(more):
            return left, numbers, more
        if more in (b"[", b"], ["):
            return left, (), b"["
        if more == b"],":
            return (left - 1, (), more) if left > 1 else None
        if more == b"], ":
            return left, numbers, more
        if more == b", ":
            return left, numbers, b" "
        if text in (b"[", b" "):
            text = b""
        elif not text.isdigit():
            return None
        low = 0 if len(numbers) < 2 else numbers[len(numbers) - 2] + 1
        high = 99 if len(numbers) < 2 else 100
        if char.isdigit():
            return (left, numbers, text + char) if _spells(text + char, low, high) else None
        if text.isdigit() and low <= int(text) <= high:
            if char == b"," and len(numbers) < 3:
                return left, (*numbers, int(text)), b","
            if char == b"]" and len(numbers) == 3:
                return left, (), b"]"
        return None

    def complete(self, state: BoxState) -> bool:
        """Whether the answer may end here."""
        return state[2] in (b"]", text_box.NOTHING.encode())

    def key(self, state: BoxState, parts: int) -> Hashable:
        """Equal for states between which no continuation with at most `parts` closing bytes can tell."""
        return min(state[0], parts + 2), state[1], state[2]


MaskState = tuple[int, int, int, bytes]


class MaskGrammar:
    """A mask as `text_mask.encode_classes` writes it: the labels given and "others", `rows` rows of `columns` cells.

    Neighbouring runs of a row differ in label. A state is: rows left (the open one included), cells left in the row,
    index of the label of the last run (-1 at the start of a row), what has been written of the open run.
    """

    closing = b"\n"

    def __init__(self, labels: Iterable[str], rows: int, columns: int) -> None:
        names = tuple(dict.fromkeys([text_mask.OTHERS, *(text_mask.check_label(label) for label in labels)]))
        if len(names) < 2:
            raise ValueError('a mask needs a label besides "others": name the class to segment')
        if rows < 1 or columns < 1:
            raise ValueError(f"a mask has at least one row and one column, not {rows} x {columns}")
        self.columns = columns
        self.start: MaskState = (rows, columns, -1, b"")
        self.alphabet = bytes({*b"*, \n0123456789", *"".join(names).encode()})
        self.longest = rows * columns * (max(len(name.encode()) for name in names) + len(f"*{columns}, "))
        self._index = {name.encode(): index for index, name in enumerate(names)}
        self._fits: dict[bytes, set[int]] = {}
        for name, index in self._index.items():
            for end in range(len(name) + 1):
                self._fits.setdefault(name[:end], set()).add(index)

    def step(self, state: MaskState, byte: int) -> MaskState | None:
        """The state after one more byte, None if no answer goes on like this."""
        rows, left, last, text = state
        char = bytes((byte,))
        name, star, digits = text.partition(b"*")
        if not star:
            if char == b"*":
                index = self._index.get(name, last)
                return None if index == last else (rows, left, last, text + char)
            fits = self._fits.get(text + char, set())
            return (rows, left, last, text + char) if fits - {last} else None
        if char.isdigit():
            fitting = not digits.endswith(b",") and _spells(digits + char, 1, left)
            return (rows, left, last, text + char) if fitting else None
        if digits.endswith(b","):
            return (rows, left - int(digits[:-1]), self._index[name], b"") if char == b" " else None
        if not digits:
            return None
        if char == b"," and int(digits) < left:
            return rows, left, last, text + char
        if char == b"\n" and int(digits) == left and rows > 1:
            return rows - 1, self.columns, -1, b""
        return None

    def complete(self, state: MaskState) -> bool:
        """Whether the answer may end here."""
        rows, left, _, text = state
        digits = text.partition(b"*")[2]
        return rows == 1 and digits.isdigit() and int(digits) == left

    def key(self, state: MaskState, parts: int) -> Hashable:
        """Equal for states between which no continuation with at most `parts` closing bytes can tell."""
        return min(state[0], parts + 1), *state[1:]


class ChoiceGrammar:
    """Exactly one of the names. A state is what has been written so far."""

    start = b""
    closing = b"\n"

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.encode() for name in names)
        if not self._names or b"" in self._names:
            raise ValueError("a choice needs names, none of them empty")
        self.alphabet = bytes({byte for name in self._names for byte in name})
        self.longest = max(map(len, self._names))
        self._beginnings = frozenset(name[:end] for name in self._names for end in range(len(name) + 1))

    def step(self, state: bytes, byte: int) -> bytes | None:
        """The state after one more byte, None if no answer goes on like this."""
        more = state + bytes((byte,))
        return more if more in self._beginnings else None

    def complete(self, state: bytes) -> bool:
        """Whether the answer may end here."""
        return state in self._names

    def key(self, state: bytes, parts: int) -> Hashable:
        """Equal for states between which no continuation with at most `parts` closing bytes can tell."""
        return state


@cache
def _byte_of() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for (the GPT-2 table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(256 + n): byte for n, byte in enumerate(b for b in range(256) if b not in printable)})
    return table


@dataclass(frozen=True)
class Vocabulary:
    """What every token id writes.

    texts: bytes of each id; None for special tokens and unused ids. ends: the ids that end an answer.
    """

    texts: tuple[bytes | None, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Any, ends: Sequence[int], width: int | None = None) -> Vocabulary:
        """Read a fast tokenizer with a byte-level decoder (such as Qwen2's); ValueError for any other kind.

        ends: ids that end an answer. width: ids from here on are left out, for the network has no logits for them.
        """
        decoder = type(tokenizer.backend_tokenizer.decoder).__name__
        if decoder != "ByteLevel":
            raise ValueError(f"the grammars need a byte-level tokenizer, not one that decodes by {decoder}")
        added = tokenizer.added_tokens_decoder
        byte_of = _byte_of()
        words = tokenizer.get_vocab()
        texts: list[bytes | None] = [None] * (max(words.values()) + 1)
        for word, token in words.items():
            if token in added and added[token].special:
                continue
            known = token not in added and all(char in byte_of for char in word)
            texts[token] = bytes(byte_of[char] for char in word) if known else word.encode()
        return cls(tuple(None if token in ends else text for token, text in enumerate(texts[:width])), tuple(ends))


@dataclass
class _Node:
    tokens: list[int] = field(default_factory=list)
    children: dict[int, _Node] = field(default_factory=dict)


@dataclass(frozen=True)
class Numbers:
    """Tokens that each write a whole number of a box: the number, -1 for any other token."""

    values: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Numbers | None:
        """Of what the tokens write; None if they write digit by digit, or no number at all."""
        digits = [text.rstrip(b", ") for text in texts]
        values = np.array([int(text) if text.isdigit() else -1 for text in digits])
        return cls(values) if values.max(initial=-1) >= 10 else None

    def middle(self, chances: NDArray[np.floating], best: int) -> int:
        """Which token to take where the likeliest one, `best`, is a number: the middle of those about it, by how likely
        they are.
        """
        if self.values[best] < 0:
            return best
        about = np.flatnonzero((self.values >= 0) & (abs(self.values - self.values[best]) <= 2 * NEAR))
        order = about[np.argsort(self.values[about], kind="stable")]
        reached = np.cumsum(chances[order])
        value = self.values[order[np.searchsorted(reached, reached[-1] / 2)]]
        fitting = about[self.values[about] == value]
        return int(fitting[chances[fitting].argmax()])

    def near(self, chances: NDArray[np.floating], best: int) -> float:
        """How likely a number is that differs from that of the token `best` by at most `NEAR`."""
        if self.values[best] < 0:
            return float(chances[best])
        return float(chances[(self.values >= 0) & (abs(self.values - self.values[best]) <= NEAR)].sum())


@dataclass(frozen=True)
class Runs:
    """Tokens that each write a whole run: the number of its label, -1 for any other token, and its cells."""

    labels: NDArray[np.int64]
    cells: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Runs | None:
        """Of what the tokens write; None if none of them is a run."""
        parts = [text.rstrip(b", \n").rpartition(b"*") for text in texts]
        whole = [bool(star) and count.isdigit() for _, star, count in parts]
        if not any(whole):
            return None
        names = {name: number for number, name in enumerate(dict.fromkeys(name for name, _, _ in parts))}
        labels = [names[name] if run else -1 for (name, _, _), run in zip(parts, whole, strict=True)]
        cells = [int(count) if run else 0 for (_, _, count), run in zip(parts, whole, strict=True)]
        return cls(np.array(labels), np.array(cells))

    def middle(self, chances: NDArray[np.floating], best: int) -> int:
        """Which token to take where the likeliest one, `best`, is a run: the likelier label, as far as it is likely.

        The likeliest token would be the commonest length of a run, most often a whole row, even where something else is
        more likely than not to lie in it. A cell belongs to the run if the run is more likely than not to reach it.
        """
        if self.labels[best] < 0:
            return best
        totals = np.bincount(self.labels[self.labels >= 0], chances[self.labels >= 0])
        own = np.flatnonzero(self.labels == totals.argmax())
        order = own[np.argsort(self.cells[own], kind="stable")]
        reached = np.cumsum(chances[order])
        cells = self.cells[order[np.searchsorted(reached, reached[-1] / 2)]]
        fitting = own[self.cells[own] == cells]
        return int(fitting[chances[fitting].argmax()])


class Guide(Generic[State]):
    """A grammar over a vocabulary: which tokens may come next. States that cannot differ share one cached answer."""

    def __init__(self, grammar: Grammar[State], vocabulary: Vocabulary) -> None:
        self.grammar = grammar
        self.start = grammar.start
        self._vocabulary = vocabulary
        self._ends = np.array(vocabulary.ends, dtype=np.int64)
        self._root = _Node()
        self._parts = 1
        self._allowed: dict[Hashable, NDArray[np.int64]] = {}
        self._runs: dict[Hashable, Runs | None] = {}
        self._numbers: dict[Hashable, Numbers | None] = {}
        for token, text in enumerate(vocabulary.texts):
            if not text or text.translate(None, grammar.alphabet):
                continue
            node = self._root
            for byte in text:
                node = node.children.setdefault(byte, _Node())
            node.tokens.append(token)
            if grammar.closing * 2 not in text:
                self._parts = max(self._parts, text.count(grammar.closing))

    def allowed(self, state: State) -> NDArray[np.int64]:
        """Ids that may come next, the end tokens included where the answer is complete; never empty.

        Raises ValueError when the vocabulary cannot spell any continuation.
        """
        key = self.grammar.key(state, self._parts)
        tokens = self._allowed.get(key)
        if tokens is None:
            tokens = self._allowed[key] = self._find(state)
        return tokens

    def _find(self, state: State) -> NDArray[np.int64]:
        found: list[int] = []
        waiting: list[tuple[_Node, State]] = [(self._root, state)]
        while waiting:
            node, reached = waiting.pop()
            found += node.tokens
            for byte, child in node.children.items():
                after = self.grammar.step(reached, byte)
                if after is not None:
                    waiting.append((child, after))
        ends = self._ends if self.grammar.complete(state) else self._ends[:0]
        tokens = np.concatenate([np.array(sorted(found), dtype=np.int64), ends])
        if not len(tokens):
            raise ValueError(f"the vocabulary cannot spell the answer any further at {state!r}: use a byte-level one")
        return tokens

    def runs(self, state: State) -> Runs | None:
        """Which of the tokens that may come next are whole runs of a mask, where a run begins; None if none is."""
        key = self.grammar.key(state, self._parts)
        if key not in self._runs:
            found = None
            if isinstance(self.grammar, MaskGrammar):
                texts = [self._vocabulary.texts[token] or b"" for token in self.allowed(state)]
                found = Runs.of(texts) if state[-1] == b"" else None
            self._runs[key] = found
        return self._runs[key]

    def numbers(self, state: State) -> Numbers | None:
        """Which of the tokens that may come next are whole numbers of a box; None if none is."""
        key = self.grammar.key(state, self._parts)
        if key not in self._numbers:
            found = None
            if isinstance(self.grammar, BoxGrammar):
                found = Numbers.of([self._vocabulary.texts[token] or b"" for token in self.allowed(state)])
            self._numbers[key] = found
        return self._numbers[key]

    def over(self, state: State) -> bool:
        """Whether the answer is complete and nothing but its end can follow."""
        return self.grammar.complete(state) and len(self.allowed(state)) == len(self._ends)

    def advance(self, state: State, token: int) -> State:
        """The state after a token that `allowed` named. ValueError for any other, and for end tokens."""
        after: State | None = state
        for byte in self._vocabulary.texts[token] or b"":
            after = self.grammar.step(after, byte) if after is not None else None
        if after is None or after == state:
            raise ValueError(f"token {token} is not allowed at {state!r}")
        return after

    def text(self, tokens: Iterable[int]) -> str:
        """What the tokens write; bytes of a character that was cut become U+FFFD."""
        return b"".join(self._vocabulary.texts[token] or b"" for token in tokens).decode(errors="replace")
