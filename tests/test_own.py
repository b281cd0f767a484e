"""A user's own folder of images: what it may look like, what is said of a mistake in it, and training on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.datasets import own
from training.datasets.rows import BadRow
from training.pictures import load_image, load_mask


def picture(folder: Path, name: str, width: int = 60, height: int = 40) -> None:
    """A grey image of a size."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(folder / name)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Three images, with labels, boxes and masks, as a spreadsheet would write them."""
    for name in ("a/one.png", "two.jpg", "three.tif"):
        picture(tmp_path, name)
    (tmp_path / "labels.csv").write_text(
        "image,label,split\na/one.png,solar farm,train\ntwo.jpg,quarry,train\nthree.tif,quarry,val\n", encoding="utf-8"
    )
    # Semicolons and a byte order mark, as some spreadsheets have it.
    (tmp_path / "boxes.csv").write_text(
        "\ufeffimage;class;left;top;right;bottom\na/one.png;panel;1;2;30.5;40\na/one.png;hut;0;0;5;5\ntwo.jpg;;;;;\n",
        encoding="utf-8",
    )
    mask = np.zeros((40, 60), np.uint8)
    mask[:, 30:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (tmp_path / "masks.csv").write_text("image,mask\nthree.tif,mask.png\n", encoding="utf-8")
    (tmp_path / "classes.csv").write_text("value,name\n0,others\n255,water\n", encoding="utf-8")
    return tmp_path


def test_labels_boxes_and_masks_of_one_image_become_one_record(mine: Path) -> None:
    one, two = own.read(mine, "train")
    (three,) = own.read(mine, "val")
    assert (one.scene, one.scenes) == ("solar farm", ("quarry", "solar farm"))
    assert one.boxes == (("panel", 1, 2, 30.5, 40), ("hut", 0, 0, 5, 5))
    assert one.box_classes == ("hut", "panel")
    assert two.boxes == ()
    assert two.box_classes == ("hut", "panel")  # known to hold none
    assert three.box_classes == ()  # not known
    assert three.mask is not None
    assert three.mask_classes == ("others", "water")
    assert load_mask(three.mask)[0, [0, 59]].tolist() == [0, 1]
    assert load_image(three.images[0]).shape == (40, 60, 3)
    assert "train: 2 images" in own.check(mine)


def test_without_a_split_about_one_image_in_five_is_held_out_and_always_the_same(tmp_path: Path) -> None:
    lines = []
    for number in range(60):
        picture(tmp_path, f"{number}.png", 8, 8)
        lines.append(f"{number}.png,{'even' if number % 2 == 0 else 'odd'}")
    (tmp_path / "labels.csv").write_text("image,label\n" + "\n".join(lines), encoding="utf-8")
    held = [record.images for record in own.read(tmp_path, "val")]
    assert 5 <= len(held) <= 20
    assert held == [record.images for record in own.read(tmp_path, "val")]
    assert len(held) + len(list(own.read(tmp_path, "train"))) == 60


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("labels.csv", "image,name\na/one.png,x\n", r"labels\.csv, line 1: lacks label"),
        ("labels.csv", "image,label,colour\n", r"labels\.csv, line 1: has the unknown column colour"),
        ("labels.csv", "image,label\na/one.png,x\nfour.png,y\n", r"labels\.csv, line 3: .*four\.png is not there"),
        ("labels.csv", "image,label\na/one.png,x\na/one.png,y\n", r"line 3: a/one\.png has the label 'x' already"),
        ("labels.csv", "image,label\na/one.png\n", r"labels\.csv, line 2: should have 2 columns"),
        ("labels.csv", 'image,label\na/one.png,"x, y"\n', r"labels\.csv, line 2: 'x, y' cannot be a name"),
        ("labels.csv", "image,label,split\na/one.png,x,training\n", r"line 2: 'split' should be one of train, val"),
        ("labels.csv", "image,label\na/one.png,x\ntwo.jpg,x\n", r"every label is 'x'"),
        ("labels.csv", "image,label\nlabels.csv,x\n", r"line 2: labels\.csv should be an image"),
        ("boxes.csv", "image,class,left,top,right,bottom\ntwo.jpg,hut,1,2,x,4\n", r"boxes\.csv, line 2: .*numbers"),
        (
            "boxes.csv",
            "image,class,left,top,right,bottom\ntwo.jpg,hut,9,2,3,4\n",
            "line 2: the box 9, 2, 3, 4 is empty",
        ),
        ("boxes.csv", "image,class,left,top,right,bottom\ntwo.jpg,hut,1,2,61,4\n", "leaves the image of 60x40"),
        (
            "boxes.csv",
            "image,class,left,top,right,bottom\ntwo.jpg,,,,,\ntwo.jpg,hut,1,2,3,4\n",
            "line 3: boxes an object in an image which, in a line above, has none",
        ),
        ("masks.csv", "image,mask\nthree.tif,a/small.png\n", r"masks\.csv, line 2: .*small\.png is 8x8 pixels"),
        ("classes.csv", "value,name\n0,others\n0,water\n", r"classes\.csv, line 3: 0 has a name already"),
        ("classes.csv", "value,name\nblue,water\n", r"classes\.csv, line 2: 'blue' should be a number in 0\.\.255"),
        ("classes.csv", "value,name\n0,others\n", "should name at least one class besides others"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(mine: Path, file: str, content: str, said: str) -> None:
    picture(mine, "a/small.png", 8, 8)
    (mine / file).write_text(content, encoding="utf-8")
    with pytest.raises(BadRow, match=said):
        list(own.read(mine, "train"))


def test_a_value_of_a_mask_without_a_name_is_told_with_its_place(mine: Path) -> None:
    (mine / "classes.csv").write_text("value,name\n0,others\n254,water\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"mask\.png holds 255 at column 30, row 0"):
        own.check(mine)


@pytest.mark.parametrize("kind", ["labels", "boxes", "masks"])
def test_the_example_is_laid_out_as_it_should_be(tmp_path: Path, kind) -> None:
    own.main([str(tmp_path), "--example", kind, "--count", "12"])
    records = [record for split in ("train", "val") for record in own.read(tmp_path, split)]
    assert len(records) == 12
    assert all((record.scene, record.boxes or record.box_classes, record.mask)[own_index(kind)] for record in records)
    with pytest.raises(FileExistsError, match="choose another folder"):
        own.example(tmp_path, kind)


def own_index(kind: str) -> int:
    """Where a kind stands in (label, boxes, mask)."""
    return ("labels", "boxes", "masks").index(kind)
