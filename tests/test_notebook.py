"""The notebook: many tools over one model, in large batches, and the same answers as one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from rs_tools import tools
from rs_tools.errors import UnreadableAnswer
from rs_tools.model import VisionModel
from rs_tools.testing import ScriptedModel
from training.notebook import Notebook, Unanswered
from vlm import text_mask
from vlm.prompts import Answer, Query, Task


class Counting(ScriptedModel):
    """Keeps how many questions came at once."""

    mask_grid = 8

    def __init__(self) -> None:
        super().__init__(says, tile_size=64)
        self.batches: list[int] = []

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        self.batches.append(len(queries))
        return super().ask(queries)


def says(query: Query) -> Answer:
    """Something that depends on every pixel, so that mixed-up answers would show."""
    total = sum(int(np.asarray(image, dtype=int).sum()) for image in query.images)
    if query.task is Task.DESCRIBE_CHANGE:
        return Answer(f"{total} things were built", 0.5)
    mask = np.random.default_rng(total).random((8, 8)) < 0.5
    return Answer(text_mask.encode(mask, query.text), (total % 89) / 89)


def images(count: int, side: int = 128) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 255, (count, side, side, 3), dtype=np.uint8))


def test_tools_through_the_notebook_find_what_they_find_alone() -> None:
    shown = images(6)

    def work(model: VisionModel) -> list[dict[str, object]]:
        found, waiting = [], False
        for before, after in zip(shown[::2], shown[1::2], strict=True):
            try:
                found.append(tools.detect_changes(before, after, "house", "steps", model=model).model_dump(mode="json"))
            except Unanswered:
                waiting = True
        if waiting:
            raise Unanswered
        return found

    alone, model = Counting(), Counting()
    assert Notebook(model, most=32).through(work) == work(alone)
    assert sorted(map(repr, model.queries)) == sorted(map(repr, alone.queries))
    # Three pairs of nine tiles, in four steps, all pairs together.
    assert model.batches == [3, 27, 27, 27]
    assert len(alone.batches) == 12
    small = Counting()
    Notebook(small, most=8).through(work)
    assert max(small.batches) == 8


def test_the_notebook_judges_by_all_that_the_model_judges_by() -> None:
    """A model may have windows of several sizes, and a trust of its own in what they come to."""
    [image] = images(1, 150)

    def model() -> ScriptedModel:
        said = {Task.GROUND: "[10, 10, 40, 40]", Task.SEGMENT: "house*2\nothers*2"}
        made = ScriptedModel(said, tile_size=96, confidence=0.8)
        made.mask_tiles, made.box_tiles = (150, 96), (96, 150)
        made.least = lambda query: 0.1
        made.trusted = lambda query, confidence: confidence / 2
        return made

    for use in (tools.ground_object, tools.segment_class):
        alone, noted = model(), model()
        found = use(image, "house", model=alone).model_dump()
        assert Notebook(noted).through(lambda model, use=use: use(image, "house", model=model).model_dump()) == found
        assert len(noted.queries) == len(alone.queries) == 5
    assert max(box.confidence for box in tools.ground_object(image, "house", model=model()).boxes) <= 0.4


def test_a_question_is_asked_once_however_often_it_comes() -> None:
    [image], model = images(1, 16), Counting()
    notebook = Notebook(model)
    queries = [Query(Task.SEGMENT, (image,), "road"), Query(Task.SEGMENT, (image.copy(),), "road")]
    first, second = notebook.through(lambda asked: asked.ask(queries))
    assert first == second
    assert notebook.through(lambda asked: asked.ask(queries[:1])) == [first]
    # A picture of the same pixels is the same question; another word, task or pixel is not.
    notebook.through(lambda asked: asked.ask([Query(Task.SEGMENT, (Image.fromarray(image),), "road")]))
    assert len(model.queries) == 1
    other = image.copy()
    other[3, 3, 1] ^= 1
    for query in (
        Query(Task.SEGMENT, (image,), "roof"),
        Query(Task.SEGMENT, (image,), "road", ("road",)),
        Query(Task.SEGMENT, (image,), "road", wording=1),
        Query(Task.SEGMENT, (other,), "road"),
        Query(Task.SEGMENT, (image.reshape(8, 32, 3),), "road"),
        Query(Task.SEGMENT_CHANGE, (image, other), "road"),
        Query(Task.SEGMENT_CHANGE, (other, image), "road"),
    ):
        count = len(model.queries)
        notebook.through(lambda asked, query=query: asked.ask([query]))
        assert len(model.queries) == count + 1, query


def test_what_goes_wrong_in_the_work_comes_out() -> None:
    [image] = images(1, 16)
    notebook = Notebook(ScriptedModel({Task.SEGMENT: "nonsense"}))
    with pytest.raises(UnreadableAnswer):
        notebook.through(lambda asked: tools.segment_class(image, "road", model=asked))
