from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_network import picture, stir, tiny_network

from vlm import prefix
from vlm.prefix import PrefixCache
from vlm.prompts import Granularity, Query, Task

ANYRES = {"aspect": "anyres", "merge": "spatial_unpad", "grid_pinpoints": [[32, 64], [64, 32], [64, 64]]}
SHAPES: dict[str, dict[str, Any]] = {
    "square": {},
    "newline": {"merge": "spatial_unpad"},
    "anyres": ANYRES,
    "reader": {"cells_at": 700, "reader": 8, "mask_grid": 4, "parts": 2},
}


def queries() -> list[Query]:
    """Of all experts, with one image and with two, of several sizes and lengths."""
    one, wide, pair = (picture(1),), (picture(2, 70, 20),), (picture(1), picture(3))
    return [
        Query(Task.SEGMENT, one, "water", ("water",)),
        Query(Task.QUESTION, one, "Are there more ships than cars in the image?"),
        Query(Task.SEGMENT_CHANGE, pair, "building", ("building",)),
        Query(Task.CAPTION, wide),
        Query(Task.GROUND, wide, "ship"),
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_network_goes_on_from_what_it_has_read_as_if_it_read_the_whole(shape: str) -> None:
    model, processor = tiny_network(**SHAPES[shape])
    stir(model)
    cache, asked = PrefixCache(model), queries()
    images = [len(query.images) for query in asked]
    turns = {}
    if shape == "reader":  # each row a view 0 of its own
        turns["turns"] = torch.stack([torch.arange(len(asked)), torch.zeros(len(asked), dtype=torch.long)], 1)
    batch = dict(processor(asked))
    for _ in ("read now", "read before"):
        begun = cache.begin(batch, images)
        assert begun["input_ids"].shape[1] < min(batch["input_ids"].shape[1], 120 + len(asked[1].text))
        assert begun["attention_mask"].sum(1).tolist() == batch["attention_mask"].sum(1).tolist()
        with torch.no_grad():
            whole = model(**batch, **turns, use_cache=True, logits_to_keep=1)
            rest = model(**begun, **turns, use_cache=True, logits_to_keep=1)
        torch.testing.assert_close(rest.logits, whole.logits, atol=2e-4, rtol=2e-4)
        if shape == "reader":
            places = [row for row, query in enumerate(asked) if query.expert != Granularity.IMAGE]
            for name in ("odds", "fine", "edges"):
                found, expected = (getattr(output.reading.memory, name)[places] for output in (rest, whole))
                torch.testing.assert_close(found, expected, atol=2e-4, rtol=2e-4)


def test_images_are_seen_once_and_read_once_by_each_expert_until_they_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, processor = tiny_network()
    cache = PrefixCache(model)
    seen: list[int] = []
    read: list[tuple[int, ...]] = []
    model.vision_tower.encoder.register_forward_hook(lambda *call: seen.append(len(call[-1].last_hidden_state)))
    model.language_model.layers[0].register_forward_hook(lambda *call: read.append(tuple(call[-1].shape[:2])))

    def ask(*asked: Query) -> tuple[int, int]:
        """How many images were seen, and how many prompts read, for this."""
        before = sum(seen), sum(rows for rows, _ in read)
        cache.begin(processor(asked), [len(query.images) for query in asked])
        return sum(seen) - before[0], sum(rows for rows, _ in read) - before[1]

    water, road = (Query(Task.SEGMENT, (picture(1),), name, (name,)) for name in ("water", "road"))
    other = Query(Task.SEGMENT, (picture(2),), "water", ("water",))
    assert ask(water, other, road) == (2, 2)
    assert ask(road, other) == (0, 0)
    assert ask(Query(Task.GROUND, (picture(1),), "ship")) == (0, 1)
    assert ask(Query(Task.SEGMENT_CHANGE, (picture(1), picture(2)), "road", ("road",))) == (0, 1)
    assert ask(Query(Task.SEGMENT_CHANGE, (picture(2), picture(1)), "road", ("road",))) == (0, 1)
    monkeypatch.setattr(prefix, "KEPT", 0)
    assert ask(Query(Task.GROUND, (picture(3),), "ship")) == (1, 1)
    assert ask(water) == (1, 1)
    monkeypatch.undo()
    assert ask(water) == (1, 1)
    assert ask(water) == (0, 0)
    cache.clear()
    assert ask(water) == (1, 1)


def test_what_was_wanted_longest_ago_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = tiny_network()
    cache = PrefixCache(model)
    read: list[int] = []
    model.language_model.layers[0].register_forward_hook(lambda *call: read.append(len(call[-1])))

    def ask(seed: int) -> int:
        """How many prompts were read for a picture."""
        before = sum(read)
        cache.begin(processor([Query(Task.GROUND, (picture(seed),), "ship")]), [1])
        return sum(read) - before

    assert ask(1) == 1
    size = next(iter(cache._prefixes.values())).nbytes
    monkeypatch.setattr(prefix, "KEPT", 2 * size)
    assert [ask(seed) for seed in (2, 1, 3, 1, 2)] == [1, 0, 1, 0, 1]
