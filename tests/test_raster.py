"""Images opened safely, seen as RGB, and two dates on one grid."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from rasters import UTM31, noise, write_tif

from rs_tools import raster
from rs_tools.errors import GridMismatch, InvalidInput, NotAllowed, RasterError, TooLarge
from rs_tools.geometry import Window, gdal
from rs_tools.raster import Scene, View, open_pair, open_scene, write_mask


def whole(scene: Scene) -> View:
    return scene.read(Window(0, 0, scene.grid.width, scene.grid.height))


# What is refused ---------------------------------------------------------------------------------------------------


SECRET = b"the secret that no image tool may read" * 100


def vrt(secret: Path) -> str:
    return (
        '<VRTDataset rasterXSize="32" rasterYSize="32">'
        '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        f'<SourceFilename relativeToVRT="0">{secret}</SourceFilename>'
        "<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset>"
        "<LineOffset>32</LineOffset></VRTRasterBand></VRTDataset>"
    )


WMS = (
    '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/${z}/${x}/${y}.png</ServerUrl></Service>'
    "<DataWindow><UpperLeftX>-1</UpperLeftX><UpperLeftY>1</UpperLeftY><LowerRightX>1</LowerRightX><LowerRightY>-1"
    "</LowerRightY><SizeX>64</SizeX><SizeY>64</SizeY></DataWindow></GDAL_WMS>"
)


@pytest.mark.parametrize("name", ["map.tif", "photo.png", "photo.jpg", "map.vrt"])
def test_a_file_that_points_at_other_files_is_refused_whatever_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / name).write_text(vrt(tmp_path / "secret"))
    with pytest.raises(RasterError, match="pass a GeoTIFF"):
        open_scene(tmp_path / name)
    (tmp_path / name).write_text(WMS)
    with pytest.raises(RasterError, match="pass a GeoTIFF"):
        open_scene(tmp_path / name)


def test_the_drivers_that_read_other_files_are_switched_off_in_a_fresh_process(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "map.vrt").write_text(vrt(tmp_path / "secret"))
    code = (
        "from rs_tools.geometry import gdal\nrasterio = gdal()\n"
        f"try: rasterio.open({str(tmp_path / 'map.vrt')!r})\nexcept rasterio.errors.RasterioIOError: print('refused')"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GDAL_SKIP"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1], env=environment
    )
    assert done.stdout.strip() == "refused", done.stderr


@pytest.mark.parametrize(
    "path",
    [
        "/vsicurl/http://127.0.0.1:9/a.tif",
        "/vsizip/a.zip/a.tif",
        "http://127.0.0.1:9/a.tif",
        "https://example.org/a.tif",
        "s3://bucket/a.tif",
        "data:image/png;base64,AAAA",
    ],
)
def test_what_is_no_file_on_disk_is_not_allowed_and_says_what_to_do(path: str) -> None:
    with pytest.raises(NotAllowed, match="pass"):
        open_scene(path)


def test_xml_or_a_part_of_a_file_in_place_of_a_path_is_no_file(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "a.tif", noise(3, 20, 20))
    for said in (vrt(tmp_path / "secret"), f"GTIFF_DIR:1:{path}", f"{path},1"):
        with pytest.raises(RasterError, match="no file"):
            open_scene(said)


def test_a_side_file_cannot_send_gdal_elsewhere(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "map.tif", noise(3, 2048, 2048))
    decoy = write_tif(tmp_path / "decoy.tif", np.zeros((3, 1024, 1024), np.uint8))
    (tmp_path / "map.tif.aux.xml").write_text(
        f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{decoy}</MDI></Metadata></PAMDataset>'
    )
    (tmp_path / "map.tif.ovr").write_bytes(decoy.read_bytes())
    seen = open_scene(path).preview(512)
    assert seen.rgb.mean() > 100  # noise, not the zeros of the decoy


def test_a_sparse_bomb_is_refused_before_a_pixel_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tif"
    rasterio = gdal()
    with rasterio.open(
        path, "w", driver="GTiff", width=40_000, height=40_000, count=3, dtype="uint8", tiled=True, sparse_ok=True,
        compress="deflate", crs=UTM31, transform=rasterio.Affine(1, 0, 500_000, 0, -1, 5_400_000),
    ):  # fmt: skip
        pass
    assert path.stat().st_size < 5_000_000
    with pytest.raises(TooLarge, match=r"40000 x 40000 .*-srcwin"):
        open_scene(path)


def test_a_raster_stored_in_giant_blocks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "blocks.tif"
    rasterio = gdal()
    with rasterio.open(
        path, "w", driver="GTiff", width=20_000, height=20_000, count=3, dtype="uint8", sparse_ok=True,
        compress="deflate", tiled=True, blockxsize=16_384, blockysize=16_384, crs=UTM31,
        transform=rasterio.Affine(1, 0, 5e5, 0, -1, 5e6),
    ):  # fmt: skip
        pass
    with pytest.raises(TooLarge, match="TILED=YES"):
        open_scene(path)


def test_a_png_too_large_to_be_read_whole_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    with pytest.raises(TooLarge, match="tiled GeoTIFF"):
        open_scene(path)


@pytest.mark.parametrize("suffix", ["tif", "png", "jpg", "webp"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_file_that_was_cut_short_is_an_error_and_never_a_grey_picture(
    tmp_path: Path, suffix: str, share: float
) -> None:
    path = tmp_path / f"cut.{suffix}"
    pixels = noise(3, 200, 300)
    if suffix == "tif":
        write_tif(path, pixels)
    else:
        Image.fromarray(np.moveaxis(pixels, 0, -1)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(RasterError, match="copy it again"):
        whole(open_scene(path))


def test_a_file_with_the_right_first_bytes_and_rubbish_behind_is_an_error(tmp_path: Path) -> None:
    for head in (b"II*\0", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"\0\0\0\x0cjP  \r\n\x87\n"):
        path = tmp_path / "rubbish"
        path.write_bytes(head + os.urandom(500))
        with pytest.raises(RasterError, match="copy it again"):
            whole(open_scene(path))


def test_a_pipe_a_folder_and_a_device_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    for path in (tmp_path / "pipe.tif", tmp_path, Path("/dev/zero")):
        with pytest.raises(RasterError, match="pass the path of an image file"):
            open_scene(path)


@pytest.mark.parametrize("path", ["", "  "])
def test_an_empty_path_is_invalid(path: str) -> None:
    with pytest.raises(InvalidInput, match="empty"):
        open_scene(path)


def test_a_path_with_a_nul_is_invalid() -> None:
    with pytest.raises(InvalidInput, match="not a path"):
        open_scene("a\0b.tif")


def test_a_missing_file_says_where_relative_paths_start(tmp_path: Path) -> None:
    with pytest.raises(RasterError, match="relative paths start at"):
        open_scene("no-such-file.tif")
    with pytest.raises(RasterError):
        open_scene("x" * 5000)
    with pytest.raises(OSError, match="no file"):  # a RasterError is an OSError
        open_scene(tmp_path / "no.tif")


def test_text_is_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("hello")
    with pytest.raises(RasterError, match="pass a GeoTIFF"):
        open_scene(tmp_path / "a.tif")


def test_control_characters_of_a_file_name_are_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "evil\x1b[31m\u202ename.tif"
    path.write_text("hello")
    with pytest.raises(RasterError) as caught:
        open_scene(path)
    assert "\x1b" not in str(caught.value)
    assert "\u202e" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((0, 10, 3), np.uint8), "no pixels"),
        (np.zeros((0,), np.uint8), r"pass \(height, width\)"),
        (np.zeros((2, 2, 2, 2), np.uint8), r"pass \(height, width\)"),
        (np.zeros((10, 10), complex), "no picture"),
        (np.full((10, 10), "a"), "no picture"),
        (np.zeros((10, 10), object), "no picture"),
        (np.zeros((1, 1, 3), np.uint8), "at least 8"),
        (np.zeros((1, 1), np.uint8), "at least 8"),
        (np.zeros((3, 64, 64), np.uint8), "bands last"),
        (np.zeros((4, 500, 3), np.uint8), "at least 8"),
    ],
)
def test_arrays_that_are_no_picture_are_refused_with_the_remedy(array: np.ndarray, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        open_scene(array)


def test_what_a_masked_array_masks_is_not_valid() -> None:
    pixels = np.moveaxis(noise(3, 20, 30), 0, -1)
    hidden = np.zeros(pixels.shape, bool)
    hidden[:5, :, 1] = True
    view = whole(open_scene(np.ma.masked_array(pixels, hidden)))
    assert not view.valid[:5].any()
    assert view.valid[5:].all()
    assert (view.rgb[5:] == pixels[5:]).all()


def test_other_objects_are_refused() -> None:
    with pytest.raises(InvalidInput, match="pass a path"):
        open_scene(42)  # type: ignore[arg-type]


def test_a_one_pixel_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="at least 8"):
        open_scene(write_tif(tmp_path / "a.tif", noise(3, 1, 1)))


# How bands become RGB ----------------------------------------------------------------------------------------------


def test_8_bit_colours_arrive_untouched_from_every_lossless_format(tmp_path: Path) -> None:
    pixels = np.moveaxis(noise(3, 60, 80), 0, -1)
    write_tif(tmp_path / "a.tif", np.moveaxis(pixels, -1, 0))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=True)
    for image in (tmp_path / "a.tif", tmp_path / "a.png", tmp_path / "a.webp", pixels, Image.fromarray(pixels)):
        view = whole(open_scene(image))
        assert (view.rgb == pixels).all()
        assert view.valid.all()


def test_a_window_of_a_file_is_the_window_of_its_pixels(tmp_path: Path) -> None:
    bands = noise(3, 300, 400)
    scene = open_scene(write_tif(tmp_path / "a.tif", bands, tiled=True, blockxsize=64, blockysize=64))
    view = scene.read(Window(37, 91, 263, 200))
    assert (view.rgb == np.moveaxis(bands, 0, -1)[91:200, 37:263]).all()


def test_one_band_is_grey(tmp_path: Path) -> None:
    bands = noise(1, 50, 50)
    view = whole(open_scene(write_tif(tmp_path / "a.tif", bands)))
    assert (view.rgb == bands[0][..., None]).all()


def test_grey_with_alpha_is_grey_where_it_is_opaque(tmp_path: Path) -> None:
    bands = np.stack([noise(1, 50, 50)[0], np.where(np.arange(50) < 20, 0, 255)[None].repeat(50, 0).astype(np.uint8)])
    scene = open_scene(write_tif(tmp_path / "a.tif", bands, colours=("gray", "alpha")))
    view = whole(scene)
    assert scene.warnings == ()
    assert not view.valid[:, :20].any()
    assert view.valid[:, 20:].all()
    assert (view.rgb[:, :20] == 0).all()


def test_two_bands_without_a_meaning_are_shown_as_grey_and_this_is_said(tmp_path: Path) -> None:
    scene = open_scene(write_tif(tmp_path / "a.tif", noise(2, 50, 50), colours=("gray", "undefined")))
    assert "first is shown as grey" in scene.warnings[0]


def test_alpha_makes_the_valid_mask_of_a_file_an_array_and_a_pil_image(tmp_path: Path) -> None:
    bands = noise(4, 50, 50)
    bands[3] = 255
    bands[3, :10] = 0
    rgba = np.moveaxis(bands, 0, -1)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    tif = write_tif(tmp_path / "a.tif", bands, colours=("red", "green", "blue", "alpha"))
    for image in (tif, tmp_path / "a.png", rgba, Image.fromarray(rgba)):
        view = whole(open_scene(image))
        assert not view.valid[:10].any()
        assert (view.rgb[10:] == rgba[10:, :, :3]).all()


def test_near_infrared_is_left_out_when_the_colours_are_named(tmp_path: Path) -> None:
    bands = noise(4, 50, 50)
    scene = open_scene(write_tif(tmp_path / "a.tif", bands, colours=("blue", "green", "red", "undefined")))
    assert (whole(scene).rgb == np.moveaxis(bands[[2, 1, 0]], 0, -1)).all()
    assert scene.warnings == ()


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("B02", "B03", "B04", "B08"), (3, 2, 1)),
        (("B2", "B3", "B4", "B8"), (3, 2, 1)),
        (("B01 (60m)", "B02 (10m)", "B03 (10m)", "B04 (10m)", "B8A (20m)"), (4, 3, 2)),
        (("blue", "green", "red", "nir"), (3, 2, 1)),
        (("Red", "Green", "Blue", "Rededge"), (1, 2, 3)),
    ],
)
def test_bands_are_found_by_their_names(tmp_path: Path, names: tuple[str, ...], order: tuple[int, ...]) -> None:
    bands = noise(len(names), 50, 50)
    colours = ("gray", *("undefined" for _ in names[1:]))
    scene = open_scene(write_tif(tmp_path / "a.tif", bands, descriptions=names, colours=colours))
    assert (whole(scene).rgb == np.moveaxis(bands[[band - 1 for band in order]], 0, -1)).all()
    assert scene.warnings == ()


def test_many_unnamed_bands_show_the_first_three_and_say_so_unless_they_are_chosen(tmp_path: Path) -> None:
    bands = noise(7, 50, 50)
    path = write_tif(tmp_path / "a.tif", bands, colours=("gray", *["undefined"] * 6))
    scene = open_scene(path)
    assert (whole(scene).rgb == np.moveaxis(bands[:3], 0, -1)).all()
    assert "first three" in scene.warnings[0]
    chosen = open_scene(path, bands=(5, 4, 2))
    assert (whole(chosen).rgb == np.moveaxis(bands[[4, 3, 1]], 0, -1)).all()
    assert chosen.warnings == ()
    with pytest.raises(InvalidInput, match="from 1 to 7"):
        open_scene(path, bands=(0, 1, 2))


@pytest.mark.parametrize("kind", ["uint16", "int16", "float32", "uint32", "float64"])
def test_other_depths_are_stretched_between_percentiles_measured_once(tmp_path: Path, kind: str) -> None:
    values = np.linspace(100, 3000, 400 * 400).reshape(1, 400, 400).repeat(3, 0).astype(kind)
    scene = open_scene(write_tif(tmp_path / "a.tif", values))
    view = whole(scene)
    assert (view.rgb == 0).mean() == pytest.approx(0.06 / 3, abs=0.005)
    assert (view.rgb == 255).mean() == pytest.approx(0.06 / 3, abs=0.005)
    part = scene.read(Window(100, 200, 180, 300))
    assert (part.rgb == view.rgb[200:300, 100:180]).all()  # a tile looks as it does in the whole
    from_array = whole(open_scene(np.moveaxis(values, 0, -1)))
    assert np.abs(from_array.rgb.astype(int) - view.rgb).max() <= 1


def test_nan_and_no_data_are_neither_valid_nor_part_of_the_stretch(tmp_path: Path) -> None:
    values = np.linspace(0, 100, 90_000, dtype=np.float32).reshape(1, 300, 300).repeat(3, 0)
    values[:, :100] = np.nan
    values[:, 100:150] = -9999
    view = whole(open_scene(write_tif(tmp_path / "a.tif", values, nodata=-9999)))
    assert not view.valid[:150].any()
    assert view.valid[150:].all()
    assert view.rgb[150:].min() == 0
    assert view.rgb[150:].max() == 255


def test_a_raster_of_one_value_is_grey(tmp_path: Path) -> None:
    view = whole(open_scene(write_tif(tmp_path / "a.tif", np.full((3, 20, 20), 700, np.uint16))))
    assert (view.rgb == 128).all()


def test_one_bit_and_palette_tiffs_show_their_colours(tmp_path: Path) -> None:
    bits = (noise(1, 64, 64) > 128).astype(np.uint8)
    assert (whole(open_scene(write_tif(tmp_path / "bit.tif", bits, nbits=1))).rgb[..., 0] == bits[0] * 255).all()
    classes = noise(1, 64, 64, top=3)
    palette = {0: (10, 20, 30), 1: (200, 0, 0), 2: (0, 0, 250)}
    scene = open_scene(write_tif(tmp_path / "map.tif", classes, palette=palette, photometric="palette"))
    assert (whole(scene).rgb == np.array(list(palette.values()), np.uint8)[classes[0]]).all()
    seen = {tuple(colour) for colour in scene.preview(30).rgb.reshape(-1, 3)}
    assert seen <= set(palette.values())  # indices are never averaged


def test_a_palette_png_shows_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.moveaxis(noise(3, 40, 40), 0, -1)).quantize(16)
    image.save(tmp_path / "a.png")
    assert (whole(open_scene(tmp_path / "a.png")).rgb == np.asarray(image.convert("RGB"))).all()
    assert (whole(open_scene(image)).rgb == np.asarray(image.convert("RGB"))).all()


def test_a_16_bit_png_is_stretched(tmp_path: Path) -> None:
    values = np.linspace(300, 900, 10_000).reshape(100, 100).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    view = whole(open_scene(tmp_path / "a.png"))
    assert (view.rgb.min(), view.rgb.max()) == (0, 255)
    assert np.abs(whole(open_scene(Image.fromarray(values))).rgb.astype(int) - view.rgb).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_exif_says(tmp_path: Path, orientation: int) -> None:
    image = Image.fromarray(np.moveaxis(noise(3, 40, 60), 0, -1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.webp"
    image.save(path, lossless=True, exif=exif)
    with Image.open(path) as file:
        upright = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    assert (whole(open_scene(path)).rgb == upright).all()
    image.resize((6, 4)).resize((60, 40)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    with Image.open(tmp_path / "a.jpg") as file:
        upright = np.asarray(ImageOps.exif_transpose(file))
    seen = whole(open_scene(tmp_path / "a.jpg")).rgb
    assert seen.shape == upright.shape
    assert np.abs(seen.astype(int) - upright).mean() < 3


def test_a_grey_and_a_cmyk_jpeg_are_seen(tmp_path: Path) -> None:
    grey = Image.fromarray(noise(1, 40, 60)[0])
    grey.save(tmp_path / "grey.jpg", quality=95)
    assert np.abs(whole(open_scene(tmp_path / "grey.jpg")).rgb[..., 0].astype(int) - np.asarray(grey)).mean() < 4
    red = Image.new("RGB", (40, 40), (220, 30, 20)).convert("CMYK")
    red.save(tmp_path / "cmyk.jpg", quality=95)
    colour = whole(open_scene(tmp_path / "cmyk.jpg")).rgb.reshape(-1, 3).mean(axis=0)
    assert colour[0] > 180
    assert colour[1:].max() < 80


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LA", "La", "RGBa", "HSV", "I", "F", "I;16"]
)
def test_every_pil_mode_is_seen(mode: str) -> None:
    made_bare = mode in ("I", "F", "I;16", "La", "RGBa")
    image = Image.new(mode, (40, 30)) if made_bare else Image.new("RGB", (40, 30), (9, 99, 199)).convert(mode)
    view = whole(open_scene(image))
    assert view.rgb.shape == (30, 40, 3)


def test_jpeg_2000_is_seen(tmp_path: Path) -> None:
    rasterio = gdal()
    bands = noise(3, 64, 64)
    with rasterio.open(
        tmp_path / "a.jp2", "w", driver="JP2OpenJPEG", width=64, height=64, count=3, dtype="uint8", crs=UTM31,
        transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_400_000), quality=100, reversible="YES",
    ) as file:  # fmt: skip
        file.write(bands)
    scene = open_scene(tmp_path / "a.jp2")
    assert scene.grid.crs == UTM31
    assert (whole(scene).rgb == np.moveaxis(bands, 0, -1)).all()


def test_a_reduced_view_is_an_average_that_ignores_no_data(tmp_path: Path) -> None:
    bands = np.full((3, 400, 400), 200, np.uint8)
    bands[:, ::2] = 100
    bands[:, :, :100] = 0
    view = open_scene(write_tif(tmp_path / "a.tif", bands, nodata=0)).preview(100)
    assert not view.valid[:, :24].any()
    assert np.abs(view.rgb[:, 26:].astype(int) - 150).max() <= 1


def test_opening_leaves_the_warning_filters_as_they_were(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "a.tif", noise(3, 20, 20), crs=None)
    before = list(warnings.filters)
    whole(open_scene(path))
    assert warnings.filters == before


# Two dates ---------------------------------------------------------------------------------------------------------


def test_the_later_date_is_laid_on_the_grid_of_the_earlier(tmp_path: Path) -> None:
    bands = np.moveaxis(
        np.asarray(Image.effect_noise((40, 40), 60).resize((400, 400), Image.Resampling.BICUBIC).convert("RGB")), -1, 0
    )
    before = write_tif(tmp_path / "before.tif", bands[:, :300, :300])
    after = write_tif(tmp_path / "after.tif", bands[:, 50:, 50:], origin=(500_500.0, 5_399_500.0))
    first, second = open_pair(before, after)
    assert second.grid == first.grid
    one, two = whole(first), whole(second)
    assert not two.valid[:49].any()
    assert not two.valid[:, :49].any()
    assert two.valid[51:, 51:].all()
    assert np.abs(one.rgb[60:, 60:].astype(int) - two.rgb[60:, 60:]).max() <= 2
    assert "covers 69%" in second.warnings[-1]


def test_a_date_in_another_crs_and_resolution_is_laid_on_the_same_ground(tmp_path: Path) -> None:
    rasterio = gdal()
    ramp = np.linspace(0, 250, 300)[None, None].repeat(300, 1).repeat(3, 0).astype(np.uint8)
    before = write_tif(tmp_path / "before.tif", ramp)
    west, south, east, north = rasterio.warp.transform_bounds(
        UTM31, "EPSG:4326", 500_000, 5_397_000, 503_000, 5_400_000
    )
    place = rasterio.Affine((east - west) / 400, 0, west, 0, (south - north) / 250, north)
    moved = np.zeros((3, 250, 400), np.uint8)
    with rasterio.open(before) as file:
        rasterio.warp.reproject(
            rasterio.band(file, [1, 2, 3]), moved, dst_transform=place, dst_crs="EPSG:4326",
            resampling=rasterio.enums.Resampling.bilinear,
        )  # fmt: skip
    after = tmp_path / "after.tif"
    with rasterio.open(
        after, "w", driver="GTiff", width=400, height=250, count=3, dtype="uint8", crs="EPSG:4326", transform=place
    ) as file:
        file.write(moved)
    first, second = open_pair(before, after)
    inner = Window(20, 20, 280, 280)
    assert np.abs(first.read(inner).rgb.astype(int) - second.read(inner).rgb).mean() < 2


def test_dates_that_do_not_overlap_are_refused(tmp_path: Path) -> None:
    before = write_tif(tmp_path / "a.tif", noise(3, 50, 50))
    after = write_tif(tmp_path / "b.tif", noise(3, 50, 50), origin=(600_000.0, 5_400_000.0))
    with pytest.raises(GridMismatch, match="do not overlap"):
        open_pair(before, after)


def test_sizes_must_be_equal_without_a_crs_and_both_are_said() -> None:
    with pytest.raises(GridMismatch, match=r"60 x 50 .* 60 x 51.*same size"):
        open_pair(np.zeros((50, 60, 3), np.uint8), np.zeros((51, 60, 3), np.uint8))


def test_one_date_without_a_crs_is_compared_pixel_by_pixel_and_this_is_said(tmp_path: Path) -> None:
    _, second = open_pair(write_tif(tmp_path / "a.tif", noise(3, 50, 50)), np.zeros((50, 50, 3), np.uint8))
    assert "pixel by pixel" in second.warnings[-1]


def test_a_large_difference_in_resolution_is_said(tmp_path: Path) -> None:
    before = write_tif(tmp_path / "a.tif", noise(3, 300, 300), pixel=1)
    after = write_tif(tmp_path / "b.tif", noise(3, 30, 30), pixel=10)
    assert "detail differs" in open_pair(before, after)[1].warnings[-1]


@pytest.mark.parametrize(
    ("crs", "pixel"), [('LOCAL_CS["survey",UNIT["metre",1]]', 10.0), ("EPSG:4978", 10.0), ("EPSG:3857", 1e8)]
)
def test_a_crs_that_does_not_place_the_raster_on_the_earth_is_left_out_and_this_is_said(
    tmp_path: Path, crs: str, pixel: float
) -> None:
    scene = open_scene(write_tif(tmp_path / "a.tif", noise(3, 20, 30), crs=crs, pixel=pixel))
    assert not scene.grid.placed
    assert "does not place it on the earth" in scene.warnings[0]


def test_a_crs_without_a_transform_places_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with gdal().open(
            tmp_path / "a.tif", "w", driver="GTiff", width=30, height=20, count=3, dtype="uint8", crs=UTM31
        ) as file:
            file.write(noise(3, 20, 30))
    scene = open_scene(tmp_path / "a.tif")
    assert not scene.grid.placed
    assert "does not say where" in scene.warnings[0]


def test_real_dates_whose_grids_differ_are_laid_over_each_other(shared: Path) -> None:
    folder = shared / "data" / "geotiff"
    first, second = open_pair(folder / "naip_nd_2010_4band.tif", folder / "naip_nd_2018_4band.tif")
    assert second.grid == first.grid
    one, two = whole(first), whole(second)
    assert (one.valid & two.valid).mean() > 0.98
    edges = [np.hypot(*np.gradient(view.rgb.mean(axis=-1)))[40:-40, 40:-40] for view in (one, two)]
    fit = {
        (row, column): np.corrcoef(edges[0].ravel(), np.roll(edges[1], (row, column), (0, 1)).ravel())[0, 1]
        for row in (-8, 0, 8)
        for column in (-8, 0, 8)
    }
    assert max(fit, key=lambda shift: fit[shift]) == (0, 0)


@pytest.mark.parametrize(
    ("name", "crs", "scale"),
    [
        ("landsat_lasvegas_1985", "EPSG:4326", 89.2),
        ("naip_nd_2010_4band", "EPSG:26914", 5.0),
        ("rasterio_RGB.byte", "EPSG:32618", 300.04),
        ("riotiler_cog_rgb_utm13", "EPSG:26913", 0.15),
        ("riotiler_pix4d_alpha_nodata", "EPSG:32750", 0.353),
        ("s2_bercy_t1_B02B03B04B08", "EPSG:4326", 10.5),
        ("s2_bercy_change", None, None),
    ],
)
def test_real_rasters_are_seen_with_their_georeference(
    shared: Path, name: str, crs: str | None, scale: float | None
) -> None:
    scene = open_scene(shared / "data" / "geotiff" / f"{name}.tif")
    view = whole(scene)
    assert scene.grid.crs_name == crs
    assert scene.grid.scale == (None if scale is None else pytest.approx(scale, rel=0.01))
    assert view.rgb[view.valid].std() > 3 or name == "s2_bercy_change"
    assert (view.rgb[~view.valid] == 0).all()


# Writing -----------------------------------------------------------------------------------------------------------


def test_a_written_mask_lies_where_its_image_lies(tmp_path: Path) -> None:
    scene = open_scene(write_tif(tmp_path / "a.tif", noise(3, 80, 120)))
    indices = noise(1, 80, 120, top=2)[0]
    indices[:5] = raster.UNREAD
    write_mask(tmp_path / "mask.tif", indices, scene.grid)
    rasterio = gdal()
    with rasterio.open(tmp_path / "mask.tif") as file, rasterio.open(tmp_path / "a.tif") as image:
        assert (file.read(1) == indices).all()
        assert (file.crs, file.transform, file.nodata) == (image.crs, image.transform, raster.UNREAD)
