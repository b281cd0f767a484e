"""Sets that are folders of files: a folder for each category, images with masks beside them, lists of names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from training.datasets.rows import BadRow
from training.pictures import Code, Part, size_of
from training.samples import Record

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})
TILE = 512
"""Side of the tiles that large images are cut into, in pixels."""


def needed(folder: Path, set_folder: Path | None = None) -> Path:
    """A folder that must be there."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not there: see the layout of {(set_folder or folder).name} in "
            "`python -m training.datasets --list`"
        )
    return folder


def matching(folder: Path, pattern: str, set_folder: Path | None = None) -> list[Path]:
    """The files of a folder that match a pattern, by name; BadRow when there is none."""
    found = sorted(needed(folder, set_folder).glob(pattern))
    if not found:
        raise BadRow(f"{folder}: holds no {pattern}: unpack the set again, or see its layout in `--list`")
    return found


def key_of(name: str) -> str:
    """A name without what spellings differ in: case, spaces, dashes, underscores."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def category_folders(folder: Path, scenes: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """The category and path of each image, by category, then name; `scenes` maps folder names to words.

    BadRow for a folder that is no category, a category without a folder, and a file that is no image.
    """
    words = {key_of(name): scene for name, scene in scenes.items()}
    found = {path: key_of(path.name) for path in sorted(needed(folder).iterdir()) if path.is_dir()}
    for path, key in found.items():
        if key not in words:
            raise BadRow(f"{path}: {path.name!r} is none of the {len(scenes)} categories {', '.join(scenes)}")
    missing = [name for name in scenes if key_of(name) not in found.values()]
    if missing:
        raise BadRow(f"{folder}: no folder for {', '.join(missing)}: unpack the set again")
    for path, key in found.items():
        for image in sorted(path.iterdir()):
            if image.name == "Thumbs.db" or image.name.startswith("."):
                continue
            if image.suffix.lower() not in IMAGES:
                raise BadRow(f"{image}: should be an image ({', '.join(sorted(IMAGES))})")
            yield words[key], image


def listed(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a list of names, numbered from 1; blank ones are passed over."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: see the layout in `python -m training.datasets --list`")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def values(count: int) -> tuple[tuple[Code, ...], ...]:
    """Codes of a mask that holds plain indices below `count`, so that any other value is an error."""
    return tuple((index,) for index in range(count))


def windows(width: int, height: int, side: int = TILE) -> Iterator[tuple[int, int, int, int]]:
    """Left, top, width, height of tiles that cover an image; the last of a row or column is moved back to the border,
    so that all are of one size. A side shorter than a tile is left whole.
    """

    def starts(length: int) -> list[int]:
        return [0] if length <= side else [*range(0, length - side, side), length - side]

    for top in starts(height):
        for left in starts(width):
            yield left, top, min(side, width), min(side, height)


def masked(
    dataset: str,
    image: Path,
    mask: Path,
    codes: tuple[tuple[Code, ...], ...],
    classes: tuple[str, ...],
    licence: str,
    *,
    tile: int = 0,
    where: str = "",
) -> Iterator[Record]:
    """Records of one image and its mask: the whole, or tiles of `tile` pixels, which are read only when needed.

    `where` begins the complaint when a file is missing or the two differ in size.
    """
    before = f"{where}: " if where else ""
    for path in (image, mask):
        if not path.is_file():
            raise BadRow(f"{before}{path} is not there: unpack the set again")
    width, height = size_of(image)
    if size_of(mask) != (width, height):
        raise BadRow(
            f"{before}{mask} is {'x'.join(map(str, size_of(mask)))} pixels, its image {image.name} {width}x{height}"
        )
    parts = windows(width, height, tile) if tile and max(width, height) > tile else iter([None])
    for window in parts:
        yield Record(
            dataset=dataset,
            images=(Part(image, window),),
            mask=Part(mask, window, codes),
            mask_classes=classes,
            licence=licence,
        )
