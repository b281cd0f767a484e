"""Weights in and out of files, in our format and in the published one, from folders and from a hub."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from safetensors.torch import load_file, save_file
from tiny_network import ANSWERS, mixed_queries, stir, tiny_network
from transformers import PreTrainedTokenizerFast

from vlm.checkpoints import load, narrow, published_config, read_pinpoints, save, widen
from vlm.prompts import Granularity, Query

GOLDEN = Path(__file__).parent / "golden"
PUBLISHED_LIKE = GOLDEN / "d_square_unpad_published" / "checkpoint"
TIED = GOLDEN / "c_square_flat" / "checkpoint"
UNTIED = GOLDEN / "b_pad_flat" / "checkpoint"

Edit = Callable[[dict[str, Any]], None]


def nothing(_: dict[str, Any]) -> None:
    """Change nothing."""


def variant(folder: Path, source: Path, weights: Edit = nothing, config: Edit = nothing) -> Path:
    """A copy of a golden checkpoint with its tensors or its config.json changed."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    tensors = load_file(folder / "model.safetensors")
    weights(tensors)
    save_file(tensors, folder / "model.safetensors")
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config(settings)
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@torch.no_grad()
def last_logits(folder: str | Path, **options: Any) -> torch.Tensor:
    """What the checkpoint thinks of four mixed queries."""
    model, processor = load(folder, **options)
    return model(**processor(mixed_queries()), logits_to_keep=1).logits


@torch.no_grad()
def losses(model: Any, processor: Any) -> torch.Tensor:
    """Loss of every answer token of four mixed queries."""
    return model(**processor(mixed_queries(), ANSWERS)).token_losses


# ---- our format


@pytest.mark.parametrize("changes", [{}, {"num_experts": 1}, {"merge": "spatial_unpad", "vision_layers": 2}])
def test_a_saved_network_comes_back_to_the_bit(tmp_path: Path, changes) -> None:
    model, processor = tiny_network(**changes)
    stir(model)
    save(model, processor, tmp_path)
    again, reader = load(tmp_path)
    assert torch.equal(losses(again, reader), losses(model, processor))
    assert again.state_dict().keys() == model.state_dict().keys()
    assert again.generation_config.eos_token_id == reader.tokenizer.eos_token_id
    assert again.generation_config.pad_token_id == reader.tokenizer.pad_token_id
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_weights_stored_in_16_bit_take_half_the_room_and_are_computed_in_float32(tmp_path: Path) -> None:
    model, processor = tiny_network()
    stir(model)
    full = save(model, processor, tmp_path / "full") / "model.safetensors"
    half = save(model, processor, tmp_path / "half", dtype=torch.bfloat16) / "model.safetensors"
    assert half.stat().st_size < 0.6 * full.stat().st_size
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    again, reader = load(tmp_path / "half")
    assert again.dtype == torch.float32
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name].bfloat16().float())
    assert losses(again, reader).dtype == torch.float32
    assert load(tmp_path / "half", dtype="auto")[0].dtype == torch.bfloat16
    assert load(tmp_path / "full", dtype="bfloat16")[0].dtype == torch.bfloat16
    with pytest.raises(ValueError, match="dtype 'int7' is unknown"):
        load(tmp_path / "half", dtype="int7")


def test_saving_over_the_folder_that_the_weights_are_mapped_from_is_safe(tmp_path: Path) -> None:
    model, processor = tiny_network()
    stir(model)
    save(model, processor, tmp_path)
    mapped, reader = load(tmp_path, dtype="auto")
    expected = losses(mapped, reader)
    save(mapped, reader, tmp_path)
    assert torch.equal(losses(mapped, reader), expected)
    assert torch.equal(losses(*load(tmp_path)), expected)


def test_a_loaded_network_can_be_trained_on_without_touching_its_file(tmp_path: Path) -> None:
    model, processor = tiny_network()
    save(model, processor, tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    mapped, reader = load(tmp_path, dtype="auto")
    optimizer = torch.optim.SGD(mapped.parameters(), lr=0.1)
    mapped(**reader(mixed_queries(), ANSWERS)).loss.backward()
    optimizer.step()
    assert not torch.equal(losses(mapped, reader), losses(model, processor))
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_a_tied_network_stays_tied(tmp_path: Path) -> None:
    model, processor = tiny_network()
    save(model, processor, tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    again, _ = load(tmp_path)
    assert again.lm_head.weight is again.language_model.embed_tokens.weight


# ---- dense and experts


def test_widening_changes_no_logit_and_gives_experts_of_their_own(tmp_path: Path) -> None:
    model, processor = tiny_network(num_experts=1)
    stir(model)
    expected = losses(model, processor)
    assert widen(model) is model
    assert model.config.num_experts == 3
    assert torch.equal(losses(model, processor), expected)
    with torch.no_grad():
        for layer in model.language_model.layers:
            layer.mlp[Granularity.PIXEL].up_proj.weight.zero_()
    changed = losses(model, processor) != expected
    tokens = [len(answer) + 1 for answer in ANSWERS]
    assert [bool(part.any()) for part in changed.split(tokens)] == [False, False, True, True]
    save(model, processor, tmp_path)
    assert torch.equal(losses(*load(tmp_path)), losses(model, processor))
    with pytest.raises(ValueError, match="3 experts already"):
        widen(model)


@pytest.mark.parametrize("keep", list(Granularity))
def test_narrowing_keeps_the_expert_that_was_chosen(tmp_path: Path, keep) -> None:
    model, processor = tiny_network()
    stir(model)
    batch = processor([Query(query.task, query.images, query.text, granularity=keep) for query in mixed_queries()])
    with torch.no_grad():
        expected = model(**batch).logits
        narrow(model, keep)
        assert torch.equal(model(**batch).logits, expected)
    save(model, processor, tmp_path)
    dense, _ = load(tmp_path)
    assert dense.config.num_experts == 1
    with torch.no_grad():
        torch.testing.assert_close(dense(**batch).logits, expected)
    with pytest.raises(ValueError, match=r"there is no expert 2: choose one in 0\.\.0"):
        narrow(model, Granularity.PIXEL)


# ---- the published format


@pytest.mark.parametrize("name", ["a_anyres_max_9_unpad", "b_pad_flat", "c_square_flat", "d_square_unpad_published"])
def test_a_published_checkpoint_saved_in_our_format_computes_the_same(tmp_path: Path, name) -> None:
    model, processor = load(GOLDEN / name / "checkpoint")
    save(model, processor, tmp_path)
    again, reader = load(tmp_path)
    assert torch.equal(losses(again, reader), losses(model, processor))
    batch = processor(mixed_queries())
    assert torch.equal(again.generate(**batch, max_new_tokens=8), model.generate(**batch, max_new_tokens=8))
    assert again.generation_config.repetition_penalty == model.generation_config.repetition_penalty


def test_the_tie_wins_over_a_stored_projection(tmp_path: Path) -> None:
    def add_projection(tensors: dict[str, Any]) -> None:
        tensors["lm_head.weight"] = torch.randn_like(tensors["model.embed_tokens.weight"])

    assert torch.equal(last_logits(variant(tmp_path, TIED, weights=add_projection)), last_logits(TIED))


def test_an_untied_projection_is_its_own_and_may_not_be_missing(tmp_path: Path) -> None:
    model, _ = load(UNTIED)
    assert not torch.equal(model.lm_head.weight, model.language_model.embed_tokens.weight)
    with pytest.raises(ValueError, match=r"missing: lm_head\.weight$"):
        load(variant(tmp_path, UNTIED, weights=lambda tensors: tensors.pop("lm_head.weight")))


@pytest.mark.parametrize(
    "changed",
    [
        {"attention_bias": False},
        {"attention_bias": True},
        {"rope_scaling": {"type": "linear", "factor": 4.0}},
        {"vision_config": {"hidden_size": 7, "model_type": "clip_vision_model"}},
        {"text_config": {"hidden_size": 7}},
        {"mm_vision_select_layer": -5, "mm_spatial_pool_stride": 2},
        {"image_token_index": 3, "image_seq_length": 9},
        {"image_aspect_ratio": "letterbox"},
    ],
)
def test_settings_without_effect_in_the_reference_have_none_here(tmp_path: Path, changed) -> None:
    folder = variant(tmp_path, PUBLISHED_LIKE, config=lambda settings: settings.update(changed))
    assert torch.equal(last_logits(folder), last_logits(PUBLISHED_LIKE))


def test_missing_unexpected_and_misshapen_tensors_are_listed_in_one_error(tmp_path: Path) -> None:
    def damage(tensors: dict[str, Any]) -> None:
        del tensors["model.norm.weight"], tensors["model.layers.1.mlp.2.up_proj.weight"]
        tensors["model.layers.0.mlp.router.weight"] = torch.zeros(3)
        tensors["model.image_newline"] = torch.zeros(5)
        tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:100].clone()

    with pytest.raises(ValueError, match="do not fit") as caught:
        load(variant(tmp_path, PUBLISHED_LIKE, weights=damage))
    message = str(caught.value)
    assert "2 missing: language_model.layers.1.mlp.2.up_proj.weight, language_model.norm.weight;" in message
    assert "unexpected: model.layers.0.mlp.router.weight;" in message
    assert "model.image_newline [5] instead of [64]" in message
    assert "model.embed_tokens.weight [100, 64] instead of [608, 64]" in message


def test_our_own_format_is_as_strict(tmp_path: Path) -> None:
    model, processor = tiny_network()
    save(model, processor, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["language_model.norm.weight"] = torch.zeros(33)
    tensors["surprise"] = tensors.pop("projector.0.bias")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"1 missing: projector\.0\.bias; 1 unexpected: surprise; 1 misshapen: "):
        load(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("model.safetensors", b"", "no whole safetensors file"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "no whole safetensors file"),
        ("config.json", b"[]", "no JSON object"),
        ("config.json", b'{"model_type": "rsunivlm", "text_config": {"hidden_size": "x"}}', "not describe a network"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: bytes, said: str) -> None:
    save(*tiny_network(), tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        load(tmp_path)
    assert file in str(caught.value)


def test_the_processor_fits_the_network_whatever_its_own_file_says(tmp_path: Path) -> None:
    model, processor = tiny_network(merge="spatial_unpad")
    save(model, processor, tmp_path)
    (tmp_path / "processor_config.json").unlink()
    assert load(tmp_path)[1].layout == model.config.layout


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.path,)


def test_pickled_weights_are_refused_and_never_opened(tmp_path: Path) -> None:
    folder, trace = tmp_path / "checkpoint", tmp_path / "exploded"
    shutil.copytree(PUBLISHED_LIKE, folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(trace)))
    load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"only pickled weights \(pytorch_model\.bin\), which are refused"):
        load(folder)
    assert not trace.exists()


def test_a_checkpoint_in_several_files_is_read_by_its_index(tmp_path: Path) -> None:
    shutil.copytree(PUBLISHED_LIKE, tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(tensors)
    where = {name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(names)}
    for file in set(where.values()):
        save_file({name: tensors[name] for name in names if where[name] == file}, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    assert torch.equal(last_logits(tmp_path), last_logits(PUBLISHED_LIKE))
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks model-00002-of-00002\.safetensors"):
        load(tmp_path)


def test_a_dense_checkpoint_of_the_family_loads_as_one_expert_and_can_be_widened(tmp_path: Path) -> None:
    def make_dense(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if ".mlp." in name and "model.layers" in name]:
            if ".mlp.0." in name:
                tensors[name.replace(".mlp.0.", ".mlp.")] = tensors[name]
            if "vision_tower" not in name:
                del tensors[name]

    folder = variant(tmp_path, UNTIED, make_dense, lambda settings: settings.update(model_type="llava_qwen"))
    dense, processor = load(folder)
    assert dense.config.num_experts == 1
    experts, _ = load(UNTIED)
    asked = [Query(query.task, query.images, query.text, granularity=Granularity.IMAGE) for query in mixed_queries()]
    with torch.no_grad():
        expected = experts(**processor(asked), logits_to_keep=1).logits
        torch.testing.assert_close(dense(**processor(asked), logits_to_keep=1).logits, expected, atol=1e-4, rtol=0)
        wide = widen(dense)(**processor(mixed_queries()), logits_to_keep=1).logits
    torch.testing.assert_close(wide, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_type": "llava_llama"}, "describes a 'llava_llama' model"),
        ({"mm_vision_tower": "openai/clip-vit-large-patch14-336"}, "only SigLIP towers"),
        ({"image_aspect_ratio": None}, "no image_aspect_ratio"),
        ({"image_aspect_ratio": "highres"}, "image_aspect_ratio 'highres' is not supported"),
        ({"image_aspect_ratio": "anyres_max_9"}, "needs grid_pinpoints"),
        ({"mm_patch_merge_type": "spatial_nobase"}, "merge 'spatial_nobase' is not supported"),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused_by_name(tmp_path: Path, changed, message) -> None:
    with pytest.raises(ValueError, match=message):
        load(variant(tmp_path, PUBLISHED_LIKE, config=lambda settings: settings.update(changed)))


def test_a_source_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="neither a folder nor a hub id"):
        load(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="neither a folder nor a hub id"):
        load("nowhere")
    with pytest.raises(FileNotFoundError, match="holds no safetensors weights"):
        load(tmp_path)
    with pytest.raises(ValueError, match="has no revision 'main'"):
        load(PUBLISHED_LIKE, revision="main")


def test_the_published_tower_has_its_dimensions_without_a_config_of_its_own(tmp_path: Path) -> None:
    settings = json.loads((PUBLISHED_LIKE / "config.json").read_text())
    tokenizer = PreTrainedTokenizerFast.from_pretrained(PUBLISHED_LIKE)
    for tower in ("google/siglip-so400m-patch14-384", "../" + PUBLISHED_LIKE.name + "/siglip-tiny-patch14-384"):
        (tmp_path / "checkpoint").mkdir(exist_ok=True)
        shutil.copytree(PUBLISHED_LIKE, tmp_path / PUBLISHED_LIKE.name, dirs_exist_ok=True)
        config = published_config(tmp_path / "checkpoint", settings | {"mm_vision_tower": tower}, tokenizer, 3)
        vision = config.vision_config
        assert (vision.hidden_size, vision.intermediate_size, vision.num_attention_heads) == (1152, 4304, 16)
        assert (vision.image_size, vision.patch_size) == (384, 14)
        assert (vision.num_hidden_layers, config.vision_layers) == (27, 26)
        assert vision.hidden_act == "gelu_pytorch_tanh"
        assert vision.layer_norm_eps == 1e-6


def test_what_the_published_config_leaves_out_has_the_reference_s_defaults() -> None:
    settings = json.loads((TIED / "config.json").read_text())
    for key in ("mm_patch_merge_type", "mm_use_im_patch_token", "mm_use_im_start_end", "tokenizer_model_max_length"):
        settings.pop(key, None)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(TIED)
    config = published_config(TIED, settings, tokenizer, 3)
    assert config.merge == "flat"
    assert config.max_rows == settings["max_position_embeddings"]
    assert config.mask_grid == 24
    assert config.tile_pixels == 384


def test_pinpoints_are_read_from_a_list_its_text_or_a_range() -> None:
    assert read_pinpoints([[384, 768]], 384) == [[384, 768]]
    assert read_pinpoints("[[384, 768], [768, 384]]", 384) == [[384, 768], [768, 384]]
    assert read_pinpoints("(1x1),...,(2x2)", 384) == [[384, 384], [384, 768], [768, 384], [768, 768]]
    assert read_pinpoints(None, 384) is None


def test_generation_settings_of_the_checkpoint_are_kept_but_for_sampling() -> None:
    model, processor = load(PUBLISHED_LIKE)
    settings = model.generation_config
    assert settings.repetition_penalty == 1.1
    assert settings.eos_token_id == [606, 604]
    assert settings.pad_token_id == 604
    assert not settings.do_sample
    batch = processor(mixed_queries())
    free = model.generate(**batch, max_new_tokens=24, repetition_penalty=1.0)
    assert model.generate(**batch, max_new_tokens=24).tolist() != free.tolist()


# ---- the hub


class Hub:
    """A server on 127.0.0.1 that serves folders the way the hub's API does, and notes what was asked of it."""

    def __init__(self) -> None:
        self.revisions: dict[tuple[str, str], tuple[str, Path]] = {}
        self.requests: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                """Be quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def publish(self, name: str, folder: Path, commit: str, *labels: str) -> None:
        """Serve a folder as one commit of a repository, under its hash and under branch or tag names."""
        for label in (commit, *labels):
            self.revisions[name, label] = (commit, folder)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.split("?")[0]
        self.requests.append(f"{request.command} {path}")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name, revision = "/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main"
            if (name, revision) not in self.revisions:
                known = any(repository == name for repository, _ in self.revisions)
                self.refuse(request, "RevisionNotFound" if known else "RepoNotFound")
                return
            commit, folder = self.revisions[name, revision]
            files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
            if len(parts) > 4 and parts[4] == "tree":
                sizes = [(file, (folder / file).stat().st_size) for file in files]
                body: Any = [{"type": "file", "path": file, "size": size, "oid": file} for file, size in sizes]
            else:
                body = {"id": name, "sha": commit, "private": False, "siblings": [{"rfilename": f} for f in files]}
            self.send(request, json.dumps(body).encode(), {"Content-Type": "application/json"})
        else:
            name, revision, file = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
            commit, folder = self.revisions[name, revision]
            self.send(request, (folder / file).read_bytes(), {"ETag": f'"{commit}-{file}"', "X-Repo-Commit": commit})

    def send(self, request: BaseHTTPRequestHandler, body: bytes, headers: dict[str, str]) -> None:
        request.send_response(200)
        for key, value in headers.items():
            request.send_header(key, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body)

    def refuse(self, request: BaseHTTPRequestHandler, code: str) -> None:
        request.send_response(404)
        request.send_header("X-Error-Code", code)
        request.send_header("Content-Length", "0")
        request.end_headers()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    served = Hub()
    monkeypatch.setenv("HF_ENDPOINT", served.address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield served
    served.server.shutdown()
    served.server.server_close()


def test_a_hub_id_is_downloaded_from_the_endpoint_and_computes_what_the_folder_does(hub: Hub, capfd) -> None:
    hub.publish("someone/RSUniVLM", PUBLISHED_LIKE, "a" * 40, "main")
    assert torch.equal(last_logits("someone/RSUniVLM"), last_logits(PUBLISHED_LIKE))
    assert f"GET /someone/RSUniVLM/resolve/{'a' * 40}/model.safetensors" in hub.requests
    assert "100%" in capfd.readouterr().err
    hub.requests.clear()
    last_logits("someone/RSUniVLM")
    assert not [request for request in hub.requests if request.endswith(".safetensors")]


def test_a_revision_can_be_pinned(hub: Hub, tmp_path: Path) -> None:
    older = variant(tmp_path / "older", PUBLISHED_LIKE, weights=lambda tensors: tensors["model.norm.weight"].mul_(2))
    hub.publish("someone/RSUniVLM", older, "b" * 40, "v1")
    hub.publish("someone/RSUniVLM", PUBLISHED_LIKE, "a" * 40, "main")
    for revision in ("v1", "b" * 40):
        assert torch.equal(last_logits("someone/RSUniVLM", revision=revision), last_logits(older))
    assert torch.equal(last_logits("someone/RSUniVLM"), last_logits(PUBLISHED_LIKE))
    with pytest.raises(RevisionNotFoundError):
        load("someone/RSUniVLM", revision="v9")
    with pytest.raises(RepositoryNotFoundError):
        load("nobody/RSUniVLM")


def test_pickled_weights_are_not_even_downloaded(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(PUBLISHED_LIKE, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / "remote_code.py").write_text("raise SystemExit")
    hub.publish("someone/pickled", folder, "c" * 40, "main")
    with pytest.raises(FileNotFoundError, match="no safetensors weights, and pickled weights are never read"):
        load("someone/pickled")
    assert not [request for request in hub.requests if request.endswith((".bin", ".py"))]


# ---- full size

PUBLISHED_SHAPES = {
    "vocabulary": 151936,
    "hidden": 896,
    "inner": 4864,
    "layers": 24,
    "keys": 128,
    "vision": 1152,
    "vision_inner": 4304,
    "vision_layers": 26,
}

MEASURE = """
import json, resource, sys
import numpy, torch
torch.set_num_threads(2)
from vlm.checkpoints import load
from vlm.prompts import Query, Task
model, processor = load(sys.argv[1], dtype=torch.bfloat16)
loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = numpy.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=numpy.uint8)
batch = processor([Query(Task.SEGMENT, (image,), "water")])
tokens = model.generate(**batch, max_new_tokens=8, min_new_tokens=8)
answered = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"loaded": loaded * 1024, "answered": answered * 1024, "rows": batch["input_ids"].shape[1],
                  "tokens": tokens.shape[1], "vocabulary": model.lm_head.weight.shape[0], "dtype": str(model.dtype)}))
"""


def published_tensor_shapes() -> Iterator[tuple[str, list[int]]]:
    """Name and shape of every tensor of the published checkpoint."""
    size = PUBLISHED_SHAPES
    hidden, vision = size["hidden"], size["vision"]
    yield "lm_head.weight", [size["vocabulary"], hidden]
    yield "model.embed_tokens.weight", [size["vocabulary"], hidden]
    yield "model.image_newline", [hidden]
    yield "model.norm.weight", [hidden]
    for layer in range(size["layers"]):
        prefix = f"model.layers.{layer}."
        for name, width in (("q", hidden), ("k", size["keys"]), ("v", size["keys"])):
            yield f"{prefix}self_attn.{name}_proj.weight", [width, hidden]
            yield f"{prefix}self_attn.{name}_proj.bias", [width]
        yield f"{prefix}self_attn.o_proj.weight", [hidden, hidden]
        yield f"{prefix}input_layernorm.weight", [hidden]
        yield f"{prefix}post_attention_layernorm.weight", [hidden]
        for expert in range(3):
            yield f"{prefix}mlp.{expert}.gate_proj.weight", [size["inner"], hidden]
            yield f"{prefix}mlp.{expert}.up_proj.weight", [size["inner"], hidden]
            yield f"{prefix}mlp.{expert}.down_proj.weight", [hidden, size["inner"]]
    for number, width in ((0, vision), (2, hidden)):
        yield f"model.mm_projector.{number}.weight", [hidden, width]
        yield f"model.mm_projector.{number}.bias", [hidden]
    tower = "model.vision_tower.vision_tower.vision_model."
    yield f"{tower}embeddings.patch_embedding.weight", [vision, 3, 14, 14]
    yield f"{tower}embeddings.patch_embedding.bias", [vision]
    yield f"{tower}embeddings.position_embedding.weight", [729, vision]
    yield f"{tower}post_layernorm.weight", [vision]
    yield f"{tower}post_layernorm.bias", [vision]
    for layer in range(size["vision_layers"]):
        prefix = f"{tower}encoder.layers.{layer}."
        for name in ("q", "k", "v", "out"):
            yield f"{prefix}self_attn.{name}_proj.weight", [vision, vision]
            yield f"{prefix}self_attn.{name}_proj.bias", [vision]
        yield f"{prefix}mlp.fc1.weight", [size["vision_inner"], vision]
        yield f"{prefix}mlp.fc1.bias", [size["vision_inner"]]
        yield f"{prefix}mlp.fc2.weight", [vision, size["vision_inner"]]
        yield f"{prefix}mlp.fc2.bias", [vision]
        for number in (1, 2):
            yield f"{prefix}layer_norm{number}.weight", [vision]
            yield f"{prefix}layer_norm{number}.bias", [vision]


def write_full_size(folder: Path) -> None:
    """A checkpoint of random weights with the published names, shapes, settings and size of tokenizer."""
    folder.mkdir()
    torch.manual_seed(0)
    tensors = {}
    for name, shape in published_tensor_shapes():
        is_norm = len(shape) == 1 and name.endswith("weight")
        tensor = torch.empty(shape, dtype=torch.bfloat16)
        tensors[name] = tensor.fill_(1.0) if is_norm else tensor.normal_(std=0.02)
    save_file(tensors, folder / "model.safetensors")
    size = PUBLISHED_SHAPES
    config = {
        "architectures": ["LlavaQwenGMoeForCausalLM"],
        "model_type": "llava_qwen_gmoe",
        "hidden_size": size["hidden"],
        "intermediate_size": size["inner"],
        "num_hidden_layers": size["layers"],
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": size["vocabulary"],
        "max_position_embeddings": 32768,
        "rope_theta": 1000000.0,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "image_aspect_ratio": "square",
        "image_grid_pinpoints": None,
        "mm_patch_merge_type": "spatial_unpad",
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "tokenizer_model_max_length": 32768,
        "vision_config": {"hidden_size": 1024, "model_type": "clip_vision_model"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    penalty = {"do_sample": True, "repetition_penalty": 1.1, "temperature": 0.7, "eos_token_id": [151645, 151643]}
    (folder / "generation_config.json").write_text(json.dumps(penalty | {"pad_token_id": 151643}))
    tokenizer = json.loads((PUBLISHED_LIKE / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    for number in range(len(vocabulary), 151643):
        vocabulary[f"\u0120filler{number}"] = number
    for token in tokenizer["added_tokens"]:
        token["id"] += 151643 - 604
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    settings = json.loads((PUBLISHED_LIKE / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings.pop("added_tokens_decoder")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_full_size_checkpoint_loads_and_answers_within_1_3_times_its_weights(tmp_path: Path) -> None:
    folder = tmp_path / "full"
    try:
        write_full_size(folder)
        weights = (folder / "model.safetensors").stat().st_size
        assert 3.31e9 < weights < 3.32e9
        measured = subprocess.run(
            [sys.executable, "-c", MEASURE, str(folder)], capture_output=True, text=True, check=True
        )
        facts = json.loads(measured.stdout)
        print(facts | {"weights": weights, "ratio": facts["answered"] / weights})
        assert facts["loaded"] < 1.3 * weights
        assert facts["answered"] < 1.3 * weights
        assert facts["vocabulary"] == 151647
        assert facts["rows"] > 730
        assert facts["tokens"] == 8
        assert facts["dtype"] == "torch.bfloat16"
    finally:
        shutil.rmtree(folder)
