"""Training data in one small file says what the folder of sets says."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import album
from training.datasets import read_all
from training.pictures import load_image, load_mask
from training.samples import Record
from training.synthetic import pair, scene
from vlm.prompts import Task


def records() -> list[tuple[str, Record]]:
    """A scene and a pair in memory, and a dialogue about a file."""
    return [("train", scene(3)), ("train", pair(5)), ("val", scene(4))]


def test_an_album_gives_back_every_annotation_and_nearly_every_pixel(tmp_path: Path) -> None:
    written = records()
    totals = album.write(written, tmp_path / "a.zip", album.Press(side=256, quality=90))
    assert totals["synthetic"][0] == 3
    back = [("train", r) for r in album.read(tmp_path / "a.zip", "train")]
    back += [("val", r) for r in album.read(tmp_path / "a.zip", "val")]
    for (split, one), (where, two) in zip(written, back, strict=True):
        assert split == where
        for name in (
            "boxes",
            "box_classes",
            "mask_classes",
            "scene",
            "captions",
            "questions",
            "change_classes",
            "licence",
        ):
            assert getattr(one, name) == getattr(two, name), name
        for mine, theirs in zip(one.images, two.images, strict=True):
            assert np.abs(load_image(mine).astype(int) - load_image(theirs)).mean() < 8
        for mine, theirs in ((one.mask, two.mask), (one.change_mask, two.change_mask)):
            assert (mine is None) == (theirs is None)
            if mine is not None and theirs is not None:
                assert (load_mask(mine) == load_mask(theirs)).all()


def test_a_large_picture_shrinks_with_its_boxes_and_mask_and_a_scene_may_shrink_more(tmp_path: Path) -> None:
    big = np.zeros((300, 600, 3), np.uint8)
    placed = Record("a", (big,), boxes=(("x", 100.0, 30.0, 400.0, 300.0),), box_classes=("x",), mask=big[..., 0])
    Image.fromarray(big).save(tmp_path / "big.png")
    named = Record("b", (tmp_path / "big.png",), scene="sea", scenes=("sea", "land"))
    asked = Record("b", (tmp_path / "big.png",), dialogue=((Task.QUESTION, "what?", "sea"),))
    rows = [("train", placed), ("train", named), ("train", asked)]
    album.write(rows, tmp_path / "a.zip", album.Press(side=200, scene_side=50))
    one, two, three = read_all(tmp_path / "a.zip", "train")
    assert load_image(one.images[0]).shape == (100, 200, 3)
    assert load_mask(one.mask).shape == (100, 200)  # type: ignore[arg-type]
    assert one.boxes == (("x", 33.33, 10.0, 133.33, 100.0),)
    assert load_image(two.images[0]).shape == (25, 50, 3)
    assert three.images == two.images  # kept once
    assert three.dialogue == ((Task.QUESTION, "what?", "sea"),)
    assert [record.dataset for record in read_all(tmp_path / "a.zip", "train", ["a"])] == ["a"]


def test_an_album_stops_when_it_is_full_and_never_holds_a_test_split(tmp_path: Path) -> None:
    totals = album.write(records(), tmp_path / "a.zip", most=1.0)
    assert totals["synthetic"][0] == 1
    with pytest.raises(ValueError, match="never holds the split 'test'"):
        read_all(tmp_path / "a.zip", "test")
    with pytest.raises(ValueError, match="not 'test'"):
        album.write([("test", scene(1))], tmp_path / "b.zip")


def test_another_file_is_no_album(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is no album"):
        list(album.read(tmp_path / "a.zip", "train"))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("x", "y")
    with pytest.raises(ValueError, match="is no album that this version reads"):
        list(album.read(tmp_path / "b.zip", "train"))


def test_the_sets_of_the_project_fit_into_an_album(shared: Path, tmp_path: Path) -> None:
    album.main(
        ["--data", str(shared / "data"), "--out", str(tmp_path / "a.zip"), "--sets", "hrsc_sample", "change_pairs"]
    )
    for split in ("train", "val"):
        for name in ("hrsc_sample", "change_pairs"):
            given = read_all(shared / "data", split, [name])
            kept = read_all(tmp_path / "a.zip", split, [name])
            assert len(given) == len(kept)
            assert sorted(len(r.boxes) for r in given) == sorted(len(r.boxes) for r in kept)
