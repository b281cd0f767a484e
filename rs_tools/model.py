"""The seam: all that the tools know of the network is `VisionModel.ask`."""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Sequence
from typing import Any, Protocol

from rs_tools.errors import InvalidInput
from vlm.prompts import Answer, Query

DEFAULT = "embedded"
"""What is loaded when neither an argument nor the environment variable RS_TOOLS_MODEL names a model."""


class VisionModel(Protocol):
    """Anything that answers questions about images.

    name: said in every result. tile_size: how many native pixels of a large raster one question should see. A model
    may also have `mask_grid`, the number of rows and of columns of the masks it writes; then every mask is held to it;
    `mask_tiles` and `box_tiles`, the sides of several such squares, by all of which together it judges masks and boxes;
    `described_tiles`, those for the boxes of a class among which one is described, if not the same;
    `trusted(query, confidence, way="")`, the confidence in a box to which its answers to a query come together, or in
    an answer to which the boxes of a class were counted ("counted car"), or its mask "measured"; and `least(query)`,
    the confidence from which on a box is told.
    """

    @property
    def name(self) -> str:
        """What the model is called."""
        ...

    @property
    def tile_size(self) -> int:
        """Side of the square of native pixels that one question should see."""
        ...

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        """One answer per query, in order; tasks may be mixed. Raises vlm.prompts.TooLong for what it cannot read."""
        ...


_lock = threading.Lock()
_loaded: dict[tuple[Any, ...], VisionModel] = {}


def load_model(
    source: str | os.PathLike[str] | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    revision: str | None = None,
    views: int | None = None,
) -> VisionModel:
    """The model from "embedded", "published", a folder or a hub id; loaded once per set of arguments, then shared.

    Without `source` the environment variable RS_TOOLS_MODEL decides, else "embedded". device: "cpu", "cuda" ..., by
    default cuda if there is one; dtype: "float32", "bfloat16" ...; revision: of a hub id; views: from how many
    turned views of an image an answer is read, 1 to 8, by default what the model was made for; 1 is the fastest. torch
    is imported here, at the first call. Raises InvalidInput where there is no such model or device, or the model cannot
    be read.
    """
    chosen = os.fspath(source) if source is not None else os.environ.get("RS_TOOLS_MODEL") or DEFAULT
    key = (chosen, device, dtype, revision, views)
    with _lock:
        if key not in _loaded:
            from vlm.generation import RSUniVLM

            try:
                _loaded[key] = RSUniVLM.load(chosen, device=device, dtype=dtype, revision=revision, views=views)
            except (OSError, ValueError) as error:
                why = str(error).partition("\n")[0]
                raise InvalidInput(
                    f"The model '{chosen}' cannot be loaded ({why}): name embedded, a folder with a checkpoint, "
                    "published or a hub id; these two are downloaded at the first use, which needs the network."
                ) from error
        return _loaded[key]


def add_options(parser: argparse._ActionsContainer) -> None:
    """The options of a command line that say which model is loaded, named as `load_model` names them."""
    parser.add_argument("--model", metavar="NAME", help="embedded, published, a folder or a hub id")
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, mps (default: cuda if there is one)")
    parser.add_argument(
        "--views",
        type=int,
        choices=range(1, 9),
        metavar="1-8",
        help="in how many turned views each image is read; 1 is the fastest (default: the model's own)",
    )
