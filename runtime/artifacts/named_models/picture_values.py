"""How a model wants its pictures, out of ``preprocessor_config.json``: the values of
``wakeful.tasks.image_classification:Pixels``.

Source: transformers' image processors, which write every step into the file: ``do_resize``,
``size``, ``resample``, ``do_center_crop``, ``crop_size``, ``do_rescale``, ``rescale_factor``,
``do_normalize``, ``image_mean``, ``image_std``; ``crop_pct`` (of ConvNeXt and ResNet), the share of
the shorter side that is kept. In older files values are always made 0 to 1, and a size is a number,
by which each processor means another thing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

OTHER_STEPS: Final = ("do_pad", "do_flip_channel_order", "do_thumbnail")
"""Keys of steps that no stage does; without them a picture would be another one."""

BOTH_SIDES: Final = ("", "ViT", "DeiT", "Beit", "Pvt", "Siglip")
"""Image processors to which a size of one number is height and width; none is named in the oldest
files of ViT. These and the next do what the file says; others have steps of their own, which it
does not say.
"""

SHORTER_SIDE: Final = ("ConvNext", "CLIP", "Bit", "PoolFormer", "MobileNetV1", "MobileNetV2")
"""Those to which it is the shorter side."""

CONVNEXT_SHARE: Final = 224 / 256
"""ConvNext's ``crop_pct`` where the file has none."""

WHOLE_SIDE: Final = 384
"""From this size on, a picture with a ``crop_pct`` is pressed into its square instead of cut."""


def picture_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the stage.

    Raises:
        ValueError: a step that no stage does, or a value that is missing or of another form.
    """
    if steps := [key for key in OTHER_STEPS if config.get(key)]:
        raise ValueError(f"{', '.join(steps)} is not done here")
    processor = _processor(config)
    values: dict[str, Any] = {}
    if config.get("do_resize", True):
        if not isinstance(config.get("resample"), int):
            raise ValueError("`resample` does not say by which filter pictures are resized")
        size = _size(config, "size", is_shorter=processor in SHORTER_SIDE)
        values |= {"resize": size, "resample": config["resample"]}
    share = config.get("crop_pct") or (CONVNEXT_SHARE if processor == "ConvNext" else None)
    if share and len(values.get("resize", ())) == 1:
        (side,) = values["resize"]
        if side < WHOLE_SIDE:
            values |= {"resize": [int(side / share)], "crop": [side, side]}
        else:
            values["resize"] = [side, side]
    if config.get("do_center_crop", False):
        crop = _size(config, "crop_size", is_shorter=False)
        values["crop"] = crop * 2 if len(crop) == 1 else crop
    does_rescale = config.get("do_rescale", True)
    values["rescale"] = float(config.get("rescale_factor", 1 / 255)) if does_rescale else 1.0
    if config.get("do_normalize", True):
        values |= {"mean": _channels(config, "image_mean"), "std": _channels(config, "image_std")}
    return values


def _processor(config: Mapping[str, Any]) -> str:
    """The name of the image processor, without what all of them are called."""
    named = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    found = re.sub(r"(ImageProcessor|FeatureExtractor)(Fast)?$", "", named)
    if found not in BOTH_SIDES + SHORTER_SIDE:
        raise ValueError(f"the steps of {named} are not known here")
    return found


def _size(config: Mapping[str, Any], key: str, *, is_shorter: bool) -> list[int]:
    """Height and width, or the shorter side alone.

    Args:
        is_shorter: one number is the shorter side.
    """
    size = config.get(key)
    if isinstance(size, int):
        return [size] if is_shorter else [size, size]
    if isinstance(size, dict) and {"height", "width"} <= size.keys():
        return [int(size["height"]), int(size["width"])]
    if isinstance(size, dict) and set(size) == {"shortest_edge"}:
        return [int(size["shortest_edge"])]
    raise ValueError(f"`{key}` is {size}, and here it is height and width, or shortest_edge")


def _channels(config: Mapping[str, Any], key: str) -> list[float]:
    values = config.get(key)
    if not isinstance(values, list) or len(values) != 3:
        raise ValueError(f"`{key}` is {values}, and here it is three numbers")
    return [float(value) for value in values]
