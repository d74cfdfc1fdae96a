"""Pictures as a network was trained to see them: resized, cropped and standardised as its ``preprocessor_config.json`` says."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from cortexflow.errors import DamagedFileError

PILLOW = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}  # numbers of Pillow's filters


@dataclass(frozen=True)
class Preprocessing:
    """From 8-bit pictures to a network's pixels.

    Arguments:
        resize: Length of the shorter side, or height and width; None leaves the size.
        crop: Height and width of the middle that is kept; None keeps all.
        mean: Of each colour, in [0, 1].
        deviation: Of each colour.
        filter: bilinear or bicubic, with antialiasing.
    """

    resize: int | tuple[int, int] | None
    crop: tuple[int, int] | None
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    filter: str = "bicubic"

    @classmethod
    def read(cls, folder: Path) -> "Preprocessing":
        """What the folder's ``preprocessor_config.json`` says.

        Raises:
            DamagedFileError: It is missing or says something else.
        """
        path = folder / "preprocessor_config.json"
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            size, crop = said.get("size"), said.get("crop_size")
            # ResNets are resized by 256 / 224 more and cropped; older files write sizes as one number.
            if said.get("crop_pct") and isinstance(size, dict) and "shortest_edge" in size and size["shortest_edge"] < 384:
                crop, size = _both(size["shortest_edge"]), {"shortest_edge": int(size["shortest_edge"] / said["crop_pct"])}
            resize = _size(size) if said.get("do_resize", True) else None
            cropped = _both(crop) if crop is not None and said.get("do_center_crop", "crop_pct" in said) else None
            return cls(resize, cropped, tuple(said["image_mean"]), tuple(said["image_std"]), PILLOW[said.get("resample", 3)])
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise DamagedFileError(f"{path} does not say how pictures are resized and standardised ({reason}); restore it") from error

    def __call__(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> Float[Tensor, "stimuli 3 _ _"]:
        """The network's pixels."""
        pictures = images
        if self.resize is not None:
            pictures = resize(pictures, _target(images.shape[-2:], self.resize), self.filter)
        if self.crop is not None:
            pictures = centre(pictures, self.crop)
        mean, deviation = (torch.tensor(values, device=images.device)[:, None, None] for values in (self.mean, self.deviation))
        return (pictures.float() / 255 - mean) / deviation


def resize(images: UInt8[Tensor, "stimuli 3 height width"], size: tuple[int, int], filter: str = "bicubic") -> UInt8[Tensor, "stimuli 3 _ _"]:
    """Antialiased, in 256 steps again, as Pillow does it (one step apart at most here and there)."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    options: dict[str, Any] = {} if filter == "nearest-exact" else {"antialias": True, "align_corners": False}
    # Rounded after each side, as Pillow does.
    wide = _steps(functional.interpolate(images.float(), (images.shape[-2], size[1]), mode=filter, **options))
    return _steps(functional.interpolate(wide, size, mode=filter, **options)).to(torch.uint8)


def centre(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle of each picture; black where it is smaller."""
    for side, length in zip((-2, -1), size, strict=True):
        spare = images.shape[side] - length
        if spare < 0:
            before = (-spare + 1) // 2
            pad = [0, 0, before, -spare - before] if side == -2 else [before, -spare - before]
            images = functional.pad(images, pad)
        images = images.narrow(side, max(spare, 0) // 2, length)
    return images


def _steps(pictures: Tensor) -> Tensor:
    return pictures.round().clamp(0, 255)


def _target(now: torch.Size, wanted: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width; one number is the shorter side and the shape stays."""
    if not isinstance(wanted, int):
        return wanted
    height, width = now
    short = min(height, width)
    return wanted * height // short, wanted * width // short


def _size(size: Any) -> int | tuple[int, int]:
    if isinstance(size, int):
        return size
    return int(size["shortest_edge"]) if "shortest_edge" in size else (int(size["height"]), int(size["width"]))


def _both(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size["height"]), int(size["width"]))
