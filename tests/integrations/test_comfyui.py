"""The ComfyUI nodes, loaded and called by a stand-in for it, as its documentation says: no ComfyUI is needed."""

import importlib.util
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from realsrt import Upscaler, presets, save_model

FOLDER = Path(__file__).parents[2] / "integrations" / "comfyui"
KINDS = {"IMAGE", "MASK", "INT", "FLOAT", "REALSRT_MODEL"}


class Interrupted(Exception):
    """What ComfyUI raises for who pressed Cancel."""


class Comfy:
    """Keeps what the nodes tell it."""

    def __init__(self, models):
        self.models, self.bars, self.stop = models, [], False

    def get_filename_list(self, folder):
        return [path.name for path in self.models.iterdir()] if folder == "upscale_models" else []

    def get_full_path_or_raise(self, folder, name):
        if name not in self.get_filename_list(folder):
            raise FileNotFoundError(name)
        return str(self.models / name)

    def throw_exception_if_processing_interrupted(self):
        if self.stop:
            raise Interrupted

    def bar(self, total):
        class ProgressBar:
            def update_absolute(_, value, total=None, preview=None):
                self.bars.append((value, total))

        return ProgressBar()

    def modules(self):
        paths, package, management, utils = (
            ModuleType(name) for name in ("folder_paths", "comfy", "comfy.model_management", "comfy.utils")
        )
        paths.get_filename_list, paths.get_full_path_or_raise = self.get_filename_list, self.get_full_path_or_raise
        management.get_torch_device = lambda: torch.device("cpu")
        management.throw_exception_if_processing_interrupted = self.throw_exception_if_processing_interrupted
        utils.ProgressBar = self.bar
        package.model_management, package.utils = management, utils
        return {module.__name__: module for module in (paths, package, management, utils)}

    def run(self, node, **inputs):
        """Call a node with all of its required inputs, the defaults where none is given, and check what it returns."""
        required = node.INPUT_TYPES()["required"]
        assert set(inputs) <= set(required)
        for name, (kind, *details) in required.items():
            assert isinstance(kind, list) or kind in KINDS
            if name not in inputs and details:
                inputs[name] = details[0]["default"]
            if kind in ("INT", "FLOAT"):
                assert details[0]["min"] <= inputs[name] <= details[0]["max"]
        out = getattr(node(), node.FUNCTION)(**inputs)
        assert isinstance(out, tuple)
        assert len(out) == len(node.RETURN_TYPES) == len(node.RETURN_NAMES)
        for kind, value in zip(node.RETURN_TYPES, out, strict=True):
            if kind in ("IMAGE", "MASK"):
                assert value.dtype == torch.float32
                assert value.device.type == "cpu"
                assert value.ndim == (4 if kind == "IMAGE" else 3)
                assert 0 <= value.min() <= value.max() <= 1
        return out


@pytest.fixture
def comfy(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    made = Comfy(tmp_path / "models")
    for name, module in made.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return made


@pytest.fixture
def nodes(comfy):
    """The folder's modules, as ComfyUI imports what lies in custom_nodes."""
    spec = importlib.util.spec_from_file_location(
        "custom_nodes.realsrt", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    assert set(module.NODE_CLASS_MAPPINGS) == set(module.NODE_DISPLAY_NAME_MAPPINGS)
    yield module.NODE_CLASS_MAPPINGS
    del sys.modules[spec.name], sys.modules[spec.name + ".nodes"]


@pytest.fixture(scope="module")
def tiny():
    return Upscaler(presets.build("tiny", 0), "cpu")


@pytest.fixture
def image():
    """(2,12,10,3)."""
    return torch.from_numpy(np.random.default_rng(0).random((2, 12, 10, 3), np.float32))


def test_models_are_the_embedded_and_the_weight_files_of_the_folder(comfy, nodes):
    save_model(presets.build("tiny", 0), comfy.models / "mine.safetensors")
    (comfy.models / "other.pth").write_bytes(b"")
    node = nodes["RealSRTLoadModel"]
    assert node.INPUT_TYPES()["required"]["model_name"][0] == ["small", "mine.safetensors"]
    (model,) = comfy.run(node, model_name="mine.safetensors")
    assert model.model.config.preset == "tiny"


def test_an_image_is_upscaled_as_by_the_package(comfy, nodes, tiny, image):
    large, confidence = comfy.run(nodes["RealSRTUpscale"], model=tiny, image=image, steps=2, denoise=0.5, fidelity=0.5)
    assert large.shape == (2, 48, 40, 3)
    assert confidence.shape == (2, 48, 40)
    for one, made, sure in zip(image, large, confidence, strict=True):
        wanted = tiny.upscale(one.movedim(-1, 0)[None], steps=2, denoise=0.5, fidelity=0.5)
        assert torch.equal(made, wanted.image[0].clamp(0, 1).movedim(0, -1))
        assert torch.equal(sure[::8, ::8], torch.from_numpy(wanted.confidence[0]))
    assert comfy.bars[-1][0] == comfy.bars[-1][1] > 0


def test_what_is_not_given_is_left_to_the_model(comfy, nodes, tiny, image):
    large, _ = comfy.run(nodes["RealSRTUpscale"], model=tiny, image=image[:1], seed=2**64 - 1)
    wanted = tiny.upscale(image[:1].movedim(-1, 1))
    assert torch.equal(large, wanted.image.clamp(0, 1).movedim(1, -1))


def test_transparency_is_left_out(comfy, nodes, tiny, image):
    with_alpha = torch.cat([image, torch.zeros(2, 12, 10, 1)], -1)
    large, _ = comfy.run(nodes["RealSRTUpscale"], model=tiny, image=with_alpha)
    assert torch.equal(large, comfy.run(nodes["RealSRTUpscale"], model=tiny, image=image)[0])


def test_only_what_the_mask_marks_is_regenerated(comfy, nodes, tiny, image):
    large, _ = comfy.run(nodes["RealSRTUpscale"], model=tiny, image=image)
    node = nodes["RealSRTRegenerate"]
    mask = torch.zeros(1, 6, 5)  # of another size than input and output
    mask[0, :1, :1] = 1
    (made,) = comfy.run(node, model=tiny, image=image, mask=mask, seed=3, temperature=5.0)
    assert made.shape == large.shape
    changed = (made != large).any(-1)
    assert changed[:, :8, :8].any()
    assert not changed[:, 16:].any()
    assert not changed[:, :, 16:].any()
    assert torch.equal(made, comfy.run(node, model=tiny, image=image, mask=mask, seed=3, temperature=5.0)[0])
    assert torch.equal(large, comfy.run(node, model=tiny, image=image, mask=torch.zeros(2, 12, 10))[0])


def test_masks_that_fit_no_images_are_refused(comfy, nodes, tiny, image):
    with pytest.raises(ValueError, match="3 masks for 2 images"):
        comfy.run(nodes["RealSRTRegenerate"], model=tiny, image=image, mask=torch.ones(3, 12, 10))


def test_cancel_stops_in_the_middle(comfy, nodes, tiny, image):
    comfy.stop = True
    with pytest.raises(Interrupted):
        comfy.run(nodes["RealSRTUpscale"], model=tiny, image=image)


def test_the_folder_is_as_the_registry_wants_it():
    document = tomllib.loads((FOLDER / "pyproject.toml").read_text())
    assert document["project"]["name"].replace("-", "").isalnum()
    assert "comfy" not in document["project"]["name"]
    assert len(document["project"]["version"].split(".")) == 3
    assert {"PublisherId", "DisplayName"} <= set(document["tool"]["comfy"])
    assert document["project"]["dependencies"] == []  # as long as no index has the package
