"""A model for tests that need no network: it says what it was told to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vlm.prompts import Answer, Query, Task

Script = Mapping[Task, str] | Callable[[Query], str | Answer]


class ScriptedModel:
    """Answers from a text per task, or from a function of the query; `queries` keeps what it was asked.

    model = ScriptedModel({Task.CAPTION: "A harbor with many boats."}); describe_scene("harbor.tif", model=model)
    """

    def __init__(
        self, script: Script, *, name: str = "scripted", tile_size: int = 384, confidence: float | None = None
    ) -> None:
        self.script = script
        self.name = name
        self.tile_size = tile_size
        self.confidence = confidence
        self.queries: list[Query] = []

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        """One scripted answer per query."""
        self.queries += queries
        said = [self.script(query) if callable(self.script) else self.script[query.task] for query in queries]
        return [answer if isinstance(answer, Answer) else Answer(answer, self.confidence) for answer in said]
