"""Flags of rahf.bin.distill: whom to ask, about which pictures."""

from absl import flags

_TEACHER = flags.DEFINE_string("teacher", None, "The workdir of the teacher's run.")
_TEACHER_STEP = flags.DEFINE_string(
    "teacher_step", None, "A step of the teacher, latest or best (latest)."
)
_IMAGES = flags.DEFINE_multi_string(
    "images",
    None,
    "Pictures without labels: files, folders or tables, as rahf.bin.predict takes them, "
    "or tar and Parquet shards, as rahf.bin.score does; repeatable. Without it, those "
    "of the config's own task.",
)
_PROMPT = flags.DEFINE_string("prompt", None, "The prompt of --images without one.")
_CACHE = flags.DEFINE_string(
    "cache",
    None,
    "The folder of the teacher's predictions, which students may share "
    "(WORKDIR/teacher).",
)
_MIRRORED = flags.DEFINE_bool(
    "mirrored",
    False,
    "Whether to ask about each picture a second time, mirrored, unless its prompt "
    "speaks of left or right.",
)
_ON_ERROR = flags.DEFINE_enum(
    "on_error",
    "fail",
    ["fail", "skip"],
    "Stop at a picture that cannot be read, or record it and go on.",
)
_BATCH = flags.DEFINE_integer(
    "teacher_batch", 64, "Pictures that the teacher sees at a time.", lower_bound=1
)


def request(config, usual_cache: str):
    """Returns the `TeachRequest` that the flags ask for."""
    from rahf.inference.teaching import TeachRequest

    step = _TEACHER_STEP.value
    if step is not None and step not in ("latest", "best") and not step.isdecimal():
        raise ValueError(f"--teacher_step={step}: expected a step, latest or best")
    return TeachRequest(
        teacher=str(_TEACHER.value),
        step=step,
        cache=usual_cache if _CACHE.value is None else _CACHE.value,
        side=config.input.image_size,
        mirrored=bool(_MIRRORED.value),
        skip=_ON_ERROR.value == "skip",
        batch_size=int(_BATCH.value or 64),
    )


def pictures(config):
    """Returns the unlabelled pictures, and whether they are of the config's task."""
    from rahf.inference import unlabelled

    if _IMAGES.value:
        return unlabelled.of_sources(_IMAGES.value, _PROMPT.value), False
    if _PROMPT.value is not None:
        raise ValueError("--prompt is for --images; the config's task has its own")
    from rahf.input import distillation

    return unlabelled.of_records(*distillation.own_records(config)), True
