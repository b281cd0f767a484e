"""Starts the real MCP server with a scripted model where the network would be; tests run it as a program.

What the model does depends on the words it is asked about: `slow` takes a while per group of tiles, `noisy` prints in
every way there is, `broken` fails with a secret in its text. SCRIPTED_LOG names a file that gets one line per group.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

import server
from rs_tools import model as models
from rs_tools.testing import ScriptedModel
from vlm import text_mask
from vlm.prompts import Answer, Query, Task

SECRET = "the weights are in /srv/secret"


class Scripted(ScriptedModel):
    """Answers every task, and misbehaves on request."""

    def __init__(self) -> None:
        super().__init__(answer, tile_size=16, confidence=0.75)

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        """One answer per query, after the misbehaviour that its text asks for."""
        text = queries[0].text
        if "slow" in text:
            time.sleep(0.4)
        if "noisy" in text:
            print("progress bar ########")
            os.write(1, b"raw noise on descriptor one\n")
            subprocess.run([sys.executable, "-c", "print('noise of a child')"], check=True)
        if "broken" in text:
            raise RuntimeError(SECRET)
        if log := os.environ.get("SCRIPTED_LOG"):
            with open(log, "a", encoding="utf-8") as file:
                file.write(f"{text}\n")
        return super().ask(queries)


def answer(query: Query) -> str:
    """A plausible answer to every task: the left half is what was asked for."""
    if query.task in (Task.SEGMENT, Task.SEGMENT_CHANGE):
        return "\n".join([f"{query.text}*2, others*2"] * 4)
    if query.task is Task.CLASSIFY:
        return query.labels[-1]
    return {
        Task.GROUND: "[10, 20, 50, 60]",
        Task.CAPTION: "A harbor with many boats.",
        Task.QUESTION: "Yes",
        Task.DESCRIBE_CHANGE: "Several houses were built along the road.",
        Task.DESCRIBE_REGION: "a white boat",
    }[query.task]


def load_model(*_: object, **__: object) -> ScriptedModel:
    """Stands where `rs_tools.model.load_model` stands."""
    return Scripted()


if __name__ == "__main__":
    assert text_mask.decode(answer(Query(Task.SEGMENT, (None,), "water")), "water").shape == (4, 4)
    models.load_model = load_model
    if os.environ.get("SCRIPTED_NOISE"):
        print("noise before the server begins")
    server.main()
    if os.environ.get("SCRIPTED_NOISE"):
        print("noise after the server ends")
