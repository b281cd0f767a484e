"""Records written as JSON lines come back as they were, one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import lines
from training.datasets.rows import BadRow
from training.lines import Lines
from training.pictures import Part, load_image, load_mask
from training.samples import Record
from training.stages import STAGES
from training.train import Mixture, found_in, main, preload
from vlm.prompts import Task


def records(folder: Path) -> list[Record]:
    """A mosaic's tiles with masks by colour, a boxed picture, and a dialogue about a pair."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("mosaic.png", "a.png", "b.png"):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / name)
    colours = np.zeros((64, 64, 3), np.uint8)
    colours[:, 32:] = 255
    Image.fromarray(colours).save(folder / "mask.png")
    codes = (((0, 0, 0),), ((255, 255, 255),))
    return [
        *(
            Record(
                "dubai_seg",
                (Part(folder / "mosaic.png", (left, 0, 32, 32)),),
                mask=Part(folder / "mask.png", (left, 0, 32, 32), codes),
                mask_classes=("others", "land, bare"),
                licence="CC0",
            )
            for left in (0, 32)
        ),
        Record("dubai_seg", (folder / "a.png",), boxes=(("ship", 1.5, 2, 30, 40),), box_classes=("ship",)),
        Record(
            "dubai_seg",
            (folder / "a.png", folder / "b.png"),
            dialogue=((Task.DESCRIBE_CHANGE, "", "a “new” road"),),
            questions=(("how many?", "2"),),
        ),
    ]


def test_records_come_back_as_they_were_wherever_the_folder_is_moved(tmp_path: Path) -> None:
    written = records(tmp_path / "data")
    assert lines.write(written, tmp_path / "data" / "dubai_seg.jsonl") == 4
    read = Lines(tmp_path / "data" / "dubai_seg.jsonl")
    assert list(read) == written
    assert read[1:3] == written[1:3]
    assert read[-1] == written[-1]
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = Lines(tmp_path / "moved" / "dubai_seg.jsonl")
    assert load_image(moved[1].images[0]).shape == (32, 32, 3)
    assert moved[1].mask is not None
    assert load_mask(moved[1].mask).all()
    with pytest.raises(IndexError):
        moved[4]


def test_a_mixture_draws_the_same_from_lines_as_from_records(tmp_path: Path) -> None:
    written = records(tmp_path / "data")[:3]
    lines.write(written, tmp_path / "data" / "dubai_seg.jsonl")
    found = found_in(tmp_path / "data", STAGES["1"])
    assert list(found) == ["dubai_seg"]
    assert isinstance(found["dubai_seg"], Lines)
    preload(found["dubai_seg"])
    streamed = Mixture(found, {"dubai_seg": 1.0}, 7)
    held = Mixture({"dubai_seg": written}, {"dubai_seg": 1.0}, 7)
    assert [streamed.draw(n)[0] for n in range(20)] == [held.draw(n)[0] for n in range(20)]


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    file = tmp_path / "roads_cil.jsonl"
    file.write_text(json.dumps({"dataset": "roads_cil", "images": ["a.png"]}) + '\n{"dataset": "roads_cil"}\n[1]\n{')
    read = Lines(file)
    assert len(read) == 4
    assert read[0] == Record("roads_cil", (tmp_path / "a.png",))
    for number, why in ((2, "KeyError: 'images'"), (3, "not a record"), (4, "JSONDecodeError")):
        with pytest.raises(BadRow, match=rf"roads_cil.jsonl:{number}: not a record.*{why if number != 3 else ''}"):
            read[number - 1]


def test_pictures_in_memory_are_saved_beside_the_lines(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 2, (64, 64), dtype=np.uint8)
    (first, *_) = records(tmp_path / "data")
    lines.write([replace(first, mask=mask)] * 2, tmp_path / "rows.jsonl")
    read = Lines(tmp_path / "rows.jsonl")
    assert [row.mask for row in read] == [tmp_path / "rows.pictures" / f"{n}.png" for n in (0, 1)]
    assert read[1].mask is not None
    assert np.array_equal(load_mask(read[1].mask), mask)


def test_no_half_file_is_left(tmp_path: Path) -> None:
    def broken() -> Iterator[Record]:
        yield from records(tmp_path / "data")
        raise BadRow("row 5")

    with pytest.raises(BadRow, match="row 5"):
        lines.write(broken(), tmp_path / "rows.jsonl")
    assert [file.name for file in tmp_path.iterdir()] == ["data"]


def test_the_command_writes_the_train_split_of_every_set_that_is_there(tmp_path: Path, capsys, shared) -> None:
    lines.main(["roads_cil", "airbus_change", "--data", str(shared / "data"), "--out", str(tmp_path)])
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    for line in said:
        path, count = line.rsplit(": ", 1)
        read = Lines(Path(path))
        assert len(read) == int(count.split()[0]) > 0
        assert load_image(read[0].images[-1]).ndim == 3
    with pytest.raises(SystemExit):
        lines.main(["roads", "--data", str(shared / "data"), "--out", str(tmp_path)])
    assert "unknown set(s) roads" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # heads for names that no set has
def test_a_tower_warms_up_on_lines_of_a_set_that_knows_masks_alone(tmp_path: Path) -> None:
    lines.write(records(tmp_path / "data")[:2], tmp_path / "dubai_seg.jsonl")
    small = ["--steps", "1", "--batch", "2", "--synthetic", "0", "--workers", "0"]
    assert main(["--stage", "warmup", "--data", str(tmp_path), "--out", str(tmp_path / "run"), *small]) == 0
    assert (tmp_path / "run" / "tower.pt").is_file()
