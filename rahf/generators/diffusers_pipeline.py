"""Pipelines of diffusers as generators: Stable Diffusion 1.5, XL and 3, FLUX, and others.

generator = DiffusersGenerator.load("stable-diffusion-xl-base-1.0")
[image] = generator.generate(["two red cubes"], seeds=[3])

PyTorch and diffusers are the extra `diffusers`. Only local files are read, weights as
safetensors alone, and no code that a folder brings is run.
"""

import dataclasses
import inspect
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import logging

from rahf import extras
from rahf.generators import diffusers_folder
from rahf.generators.painting import check_images_and_masks, check_requests, paste

with extras.needing("diffusers", "a pipeline of diffusers"):
    import diffusers
    import torch
    import transformers  # noqa: F401  pipelines need it, and say so less clearly

#: The types to compute in, by name.
DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineOptions:
    """What an image depends on, beside its prompt and its seed.

    None leaves the choice to the pipeline.

    Attributes:
      steps: of denoising.
      guidance: the pipeline's `guidance_scale`.
      negative_prompt: what to steer away from.
      strength: how far inpainting departs from what is under the mask, in (0, 1].
      size: (height, width) of the images in pixels.
      dtype: one of `DTYPES`; None is float32 on a CPU, bfloat16 elsewhere.
    """

    steps: int | None = None
    guidance: float | None = None
    negative_prompt: str | None = None
    strength: float | None = None
    size: tuple[int, int] | None = None
    dtype: str | None = None

    def __post_init__(self):
        if self.dtype not in (None, *DTYPES):
            raise ValueError(f"dtype={self.dtype!r}; known: {', '.join(DTYPES)}")
        if self.strength is not None and not 0 < self.strength <= 1:
            raise ValueError(f"strength={self.strength}: expected above 0, at most 1")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps={self.steps}: expected at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelinePlacement:
    """Where a pipeline runs; images depend on it by rounding alone.

    Attributes:
      device: as PyTorch names it; None is the first GPU, or else the CPU.
      batch_size: images to make at once.
      offload: whether to keep on the device only the component that is running.
    """

    device: str | None = None
    batch_size: int = 1
    offload: bool = False


class DiffusersGenerator:
    """Makes and mends images with a pipeline; `load` is the constructor.

    Attributes:
      size: (height, width) of its images in pixels.
      options: what its images depend on, with dtype and size decided.
      batch_size: how many images it makes at once.
      digest: of the folder (`diffusers_folder.PipelineFolder.digest`).
    """

    def __init__(
        self,
        pipe: Any,
        options: PipelineOptions,
        placement: PipelinePlacement,
        digest: str = "",
    ):
        """Takes a pipeline that is loaded, and was not placed yet."""
        self._loaded, self._pipes = pipe, {}  # by task
        self._device, self._offload = _device(placement.device), placement.offload
        self.batch_size, self.digest = placement.batch_size, digest
        self.size: tuple[int, int] = options.size or _default_size(pipe)
        self.options = dataclasses.replace(options, size=self.size)
        if _draws_without_seed(pipe):
            raise ValueError(
                f"{type(pipe.scheduler).__name__} draws noise that no seed decides; "
                "choose another scheduler in scheduler/scheduler_config.json"
            )

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike,
        options: PipelineOptions | None = None,
        placement: PipelinePlacement | None = None,
    ) -> "DiffusersGenerator":
        """Loads the folder of a pipeline, offline.

        Raises:
          ValueError: see `diffusers_folder.read`; or the pipeline is not known to the
            installed diffusers, or the device is not there.
        """
        options = options or PipelineOptions()
        placement = placement or PipelinePlacement()
        found = diffusers_folder.read(folder)
        _check_classes(found)
        on_cpu = _device(placement.device).type == "cpu"
        dtype = options.dtype or ("float32" if on_cpu else "bfloat16")
        absent: dict[str, Any] = dict.fromkeys(found.absent)
        library: Any = diffusers  # its names are looked up when they are asked for
        pipe = library.DiffusionPipeline.from_pretrained(
            str(found.path),
            dtype=getattr(torch, dtype),
            variant=found.variant,
            local_files_only=True,
            use_safetensors=True,
            **absent,
        )
        options = dataclasses.replace(options, dtype=dtype)
        return cls(pipe, options, placement, found.digest())

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        """Generates an image for each prompt.

        Args:
          prompts: the prompts.
          seeds: as many, in [0, 2**31), each for a random generator of its image's own.

        Returns:
          uint8[H, W, 3] images.

        Raises:
          ValueError: the pipeline only inpaints, or cannot do what the options ask, or
            computed numbers that are no image.
        """
        pipe = self._pipe("text2image")
        found: list[np.ndarray] = []
        for rows in self._batches(prompts, seeds):
            found += self._run(
                pipe, [prompts[i] for i in rows], [seeds[i] for i in rows], {}
            )
        return found

    def inpaint(
        self,
        images: Sequence[np.ndarray],
        masks: Sequence[np.ndarray],
        prompts: Sequence[str],
        seeds: Sequence[int],
    ) -> list[np.ndarray]:
        """Repaints a part of each image.

        Args:
          images: uint8[H, W, 3].
          masks: float32[H, W] in [0, 1]: 1 where to repaint; between, the new pixels
            are mixed with the old ones. The pipeline repaints all that is above 0.
          prompts, seeds: see `generate`.

        Returns:
          uint8[H, W, 3] images, whose pixels where the mask is 0 are the given ones.

        Raises:
          ValueError: the numbers differ, or an image or mask has another size, or see
            `generate`.
        """
        check_images_and_masks(images, masks, prompts, self.size)
        pipe = self._pipe("inpaint")
        found: list[np.ndarray] = []
        for rows in self._batches(prompts, seeds):
            given = np.stack([images[i] for i in rows])
            inside = np.stack([masks[i] > 0 for i in rows])
            inputs = {
                "image": torch.from_numpy(given).permute(0, 3, 1, 2).float() / 255,
                "mask_image": torch.from_numpy(inside)[:, None].float(),
            }
            new = self._run(
                pipe, [prompts[i] for i in rows], [seeds[i] for i in rows], inputs
            )
            found += [
                paste(images[i], each, masks[i])
                for i, each in zip(rows, new, strict=True)
            ]
        return found

    def _batches(
        self, prompts: Sequence[str], seeds: Sequence[int]
    ) -> Iterator[list[int]]:
        """Yields as many indices as images are made at once; the last repeats its own.

        A batch of another size would round otherwise.
        """
        check_requests(prompts, seeds)
        for start in range(0, len(prompts), self.batch_size):
            yield list(range(start, min(start + self.batch_size, len(prompts))))

    def _pipe(self, task: str) -> Any:
        """Returns the pipeline of a task, which shares the components of the others."""
        if task not in self._pipes:
            pipe = _for_task(self._loaded, task)
            if self._offload and self._device.type != "cpu":
                pipe.enable_model_cpu_offload(device=self._device)
            else:
                pipe.to(self._device)
            # Beside the bar of the images, which waits for whole batches.
            pipe.set_progress_bar_config(leave=False, position=1, disable=None)
            self._pipes[task] = pipe
        return self._pipes[task]

    def _run(
        self,
        pipe: Any,
        prompts: list[str],
        seeds: Sequence[int],
        inputs: dict[str, torch.Tensor],
    ) -> list[np.ndarray]:
        count, missing = len(prompts), self.batch_size - len(prompts)
        last = lambda rows: [*rows, *[rows[-1]] * missing]
        padded = {
            name: torch.cat([value, *[value[-1:]] * missing])
            for name, value in inputs.items()
        }
        height, width = self.size
        try:
            output = pipe(
                prompt=last(prompts),
                generator=[
                    torch.Generator("cpu").manual_seed(seed) for seed in last(seeds)
                ],
                output_type="pt",
                **({"height": height, "width": width} | padded),
                **self._asked(pipe),
            )
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"{type(pipe).__name__}: the device has no memory for {self.batch_size} "
                f"images of {height} x {width} pixels at once; choose a smaller batch, "
                "or offload"
            ) from error
        flagged = getattr(output, "nsfw_content_detected", None) or []
        for prompt, seed, is_black in zip(prompts, seeds, flagged, strict=False):
            if is_black:
                logging.warning(
                    "the pipeline's safety checker blackened the image of seed %d, %r",
                    *(seed, prompt),
                )
        images = output.images[:count]
        if images.shape[-2:] != self.size:
            raise ValueError(
                f"{type(pipe).__name__} made {' x '.join(map(str, images.shape[-2:]))} "
                f"pixels where {height} x {width} were asked for; choose multiples of 16"
            )
        return _to_bytes(images, self.options.dtype)

    def _asked(self, pipe: Any) -> dict[str, Any]:
        """Returns the options as arguments of a pipeline.

        Raises:
          ValueError: it has no such argument.
        """
        options = self.options
        asked = {
            "num_inference_steps": options.steps,
            "guidance_scale": options.guidance,
            "negative_prompt": options.negative_prompt,
            "strength": options.strength,
        }
        asked = {name: value for name, value in asked.items() if value is not None}
        known = inspect.signature(pipe.__call__).parameters
        if "mask_image" not in known:
            asked.pop("strength", None)  # of inpainting alone
        unknown = [name for name in asked if name not in known]
        # FLUX takes a negative prompt and ignores it, unless true_cfg_scale is above 1.
        if "negative_prompt" in asked and "true_cfg_scale" in known:
            unknown.append("negative_prompt")
        if unknown:
            raise ValueError(f"{type(pipe).__name__} has no {', '.join(unknown)}")
        if "negative_prompt" in asked:  # one for each prompt
            asked["negative_prompt"] = [options.negative_prompt] * self.batch_size
        return asked


def _check_classes(found: diffusers_folder.PipelineFolder) -> None:
    version = diffusers.__version__
    if not hasattr(diffusers, found.pipeline):
        raise ValueError(
            f"{found.path}: its pipeline, {found.pipeline}, is not in diffusers {version}"
        )
    for name, (library, class_name) in found.components.items():
        known = library in ("diffusers", "transformers")
        if not known and not hasattr(diffusers.pipelines, library):
            raise ValueError(
                f"{found.path}: component {name!r} is {class_name} of {library}; "
                "expected a class of diffusers or transformers"
            )


def _device(name: str | None) -> torch.device:
    if name is None:
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).partition("\n")[0]
        raise ValueError(f"device={name!r} cannot be used: {first}") from error
    return device


def _for_task(pipe: Any, task: str) -> Any:
    """Returns the pipeline for "text2image" or "inpaint" that has these components.

    diffusers.AutoPipelineFor* would import every pipeline there is: their names tell.
    """
    name = type(pipe).__name__
    inpaints = "mask_image" in inspect.signature(pipe.__call__).parameters
    if inpaints == (task == "inpaint"):
        return pipe
    if inpaints:
        wanted, lacks = name.replace("InpaintPipeline", "Pipeline"), "generate"
    else:
        wanted, lacks = name.replace("Pipeline", "InpaintPipeline"), "inpaint"
    unet = getattr(pipe, "unet", None)
    sees_masks = unet and unet.config.in_channels != unet.config.out_channels
    if wanted == name or not hasattr(diffusers, wanted) or (inpaints and sees_masks):
        raise ValueError(
            f"{name} cannot {lacks}: "
            + (
                "its network needs an image and a mask"
                if inpaints
                else f"diffusers {diffusers.__version__} has no {wanted}"
            )
        )
    kind = getattr(diffusers, wanted)
    parts = {**dict(pipe.config), **pipe.components}
    known = inspect.signature(kind.__init__).parameters
    return kind(**{part: value for part, value in parts.items() if part in known})


def _default_size(pipe: Any) -> tuple[int, int]:
    """Returns the (height, width) that the pipeline makes if it is not told."""
    side = getattr(pipe, "default_sample_size", None)
    if side is None:
        net = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
        side = getattr(net, "config", {}).get("sample_size")
    if side is None:
        raise ValueError(
            f"{type(pipe).__name__} says no size of its images; choose one"
        )
    height, width = side if isinstance(side, list | tuple) else (side, side)
    return height * pipe.vae_scale_factor, width * pipe.vae_scale_factor


def _draws_without_seed(pipe: Any) -> bool:
    """Returns whether the scheduler's noise comes from a generator of its own."""
    scheduler = getattr(pipe, "scheduler", None)
    return hasattr(scheduler, "noise_sampler_seed")


def _to_bytes(images: torch.Tensor, dtype: str | None) -> list[np.ndarray]:
    """[B, 3, H, W] in [0, 1] -> B times uint8[H, W, 3]."""
    if not torch.isfinite(images).all():
        raise ValueError(
            f"the pipeline computed numbers that are not finite in {dtype}; choose "
            "bfloat16 or float32"
        )
    levels = images.float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return list(levels.permute(0, 2, 3, 1).cpu().contiguous().numpy())
