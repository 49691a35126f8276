"""Learns scores from rated images in minutes, and says honestly how well: the first try.

    python -m rahf.bin.probe --workdir=runs/probe \\
        --config="configs/rated_images.py:mos_quality:1-5->overall" \\
        --config.input.rated_images.path=ratings/ratings.csv

A network that ImageNet has taught (pip install "rahf[pretrained]") looks at each image
once; ridge regression maps what it sees to each score. Nothing else is trained, and the
prompt is not read. Columns, scales and groups are those of configs/rated_images.py
(docs/own_data.md); no other key of the config is used.

The strength is cross-validated: every fold of prompts is predicted from the others, which
alone chose the penalty. PLCC and SRCC come with 95 % intervals (bootstrap over prompts),
the squared error beside that of always saying the mean. The folds are those of
rahf.bin.cross_validate. With official splits, test is predicted from train and dev.

The folder is a checkpoint for rahf.bin.predict, rahf.bin.score and rahf.load.
"""

from absl import flags

from rahf.bin import config_flag, training_run

_EYES = flags.DEFINE_enum(
    "eyes",
    "efficientnet_lite0",
    ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"],
    "The network.",
)
_SIDE = flags.DEFINE_integer(
    "image_size", 224, "The side of its images, in pixels.", lower_bound=32
)
_FOLDS = flags.DEFINE_integer("folds", 5, "The number of folds.", lower_bound=3)
flags.adopt_module_key_flags(config_flag)
flags.adopt_module_key_flags(training_run)
flags.mark_flags_as_required(["config", "workdir"])


def main():
    training_run.quiet()
    from rahf.evaluation import probing  # here, so that --help is fast

    print(
        probing.run(
            config_flag.CONFIG.value,
            str(training_run.WORKDIR.value),
            eyes=_EYES.value,
            side=_SIDE.value,
            folds=_FOLDS.value,
        )
    )


if __name__ == "__main__":
    config_flag.run(main)
