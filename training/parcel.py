"""A run in a few small files, for a machine that hands back only such: `python -m training.parcel close RUN FOLDER`.

    python -m training.parcel close runs/gpu FOLDER     write FOLDER/run.tar.000, run.tar.001, ...
    python -m training.parcel open FOLDER runs/gpu      put the run together again

What there is goes in until it is full: finished models (bfloat16), newest first, logs and curves, then the state of the
stage that is under way, its numbers shortened to bfloat16, so that the run goes on from nearly where it stood; without
room for the state it goes on from the last finished stage. What was left out is said.
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from training.stages import STAGES

PIECE = 15_000_000
"""Bytes of a file."""
MOST = 4
"""Files in a parcel."""
NAME = "run.tar"
MARGIN = 20_480
"""Bytes that a tar file adds at its end, at most."""


def close(run: Path, folder: Path, most: int = MOST, piece: int = PIECE) -> list[str]:
    """Pack a run into at most `most` files of `piece` bytes; returns the names of what was left out."""
    files = [file for file in run.rglob("*") if file.is_file() and file.suffix not in (".pickle", ".part")]
    states = [file for file in files if file.parent == run and file.suffix == ".pt" and file.stem in STAGES]
    results = [file for file in files if file.suffix in (".safetensors", ".pt") and file not in states]
    small = [file for file in files if file not in states and file not in results]
    # A stage that has left its result needs no state.
    states = [file for file in states if not any(path.exists() for path in _results(run, file.stem))]
    results.sort(key=lambda file: file.stat().st_mtime, reverse=True)
    small.sort(key=lambda file: file.stat().st_size)
    out, left = io.BytesIO(), []
    with tarfile.open(fileobj=out, mode="w") as archive:
        for file in [*small, *results, *states]:
            content = _shortened(file) if file in states else file.read_bytes()
            if out.tell() + len(content) + 1024 + MARGIN > most * piece:
                left.append(str(file.relative_to(run)))
                continue
            info = tarfile.TarInfo(str(file.relative_to(run)))
            info.size, info.mtime = len(content), int(file.stat().st_mtime)
            archive.addfile(info, io.BytesIO(content))
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{NAME}.*"):
        old.unlink()
    whole = out.getvalue()
    for number, start in enumerate(range(0, len(whole), piece)):
        (folder / f"{NAME}.{number:03}").write_bytes(whole[start : start + piece])
    return left


def unpack(folder: Path, run: Path) -> list[str]:
    """Put a parcel's run together in `run`; returns the names of its files. ValueError when a piece is missing."""
    pieces = sorted(folder.glob(f"{NAME}.*"))
    if [piece.suffix for piece in pieces] != [f".{number:03}" for number in range(len(pieces))] or not pieces:
        raise ValueError(f"{folder} holds no whole parcel: {', '.join(piece.name for piece in pieces) or 'nothing'}")
    whole = io.BytesIO(b"".join(piece.read_bytes() for piece in pieces))
    try:
        with tarfile.open(fileobj=whole) as archive:
            archive.extractall(run, filter="data")
            return archive.getnames()
    except tarfile.ReadError as error:
        raise ValueError(f"{folder} holds no whole parcel ({error}): fetch all of its files") from error


def _results(run: Path, stage: str) -> tuple[Path, ...]:
    return (run / "tower.pt",) if stage == "warmup" else (run / f"stage{stage}", run / stage)


def _shortened(file: Path) -> bytes:
    out = io.BytesIO()
    torch.save(_short(torch.load(file, map_location="cpu", weights_only=True)), out)
    return out.getvalue()


def _short(value: Any) -> Any:
    """Tensors of float32 anywhere in a state, in bfloat16; single numbers, such as counts of steps, stay exact."""
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_short(item) for item in value]
    if isinstance(value, torch.Tensor) and value.dtype == torch.float32 and value.ndim:
        return value.bfloat16()
    return value


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of parcels."""
    parser = argparse.ArgumentParser(
        prog="python -m training.parcel", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("close", "open"))
    parser.add_argument("source", type=Path, help="the run (close) or the parcel (open)")
    parser.add_argument("target", type=Path, help="the parcel (close) or the run (open)")
    parser.add_argument("--files", type=int, default=MOST, help=f"most files in a parcel, of {PIECE // 10**6} MB each")
    given = parser.parse_args(arguments)
    if given.what == "open":
        print(f"{given.target}: {', '.join(unpack(given.source, given.target))}")
        return
    left = close(given.source, given.target, given.files)
    print(f"{given.target}: {len(list(given.target.glob(f'{NAME}.*')))} files")
    if left:
        print(f"left out, as the parcel is full: {', '.join(left)}")


if __name__ == "__main__":
    sys.exit(main())
