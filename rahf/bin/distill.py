"""Trains a small model, the student, on what a large one, the teacher, says of pictures.

    python -m rahf.bin.distill --config=scenes_student --teacher=W --workdir=W2
    python -m rahf.bin.distill --config=rahf_student:mini --teacher=W --workdir=W2 \\
        --images="shards/{00000..00099}.tar" --cache=predictions

No picture needs a label. First the teacher is asked about each picture, once: scores,
heatmaps and the probability of each word are kept in --cache. Then the student is trained
on them, by any config that `rahf.bin.train` takes, with the same workdir, log and
checkpoints. Without --images the pictures are those of the config's own task, whose labels
serve evaluation alone. The same command goes on where it was stopped, in either half.
docs/distill.md says which students are worth having.
"""

import os

from absl import flags

from rahf.bin import config_flag, distill_flags, training_run

flags.adopt_module_key_flags(config_flag)
flags.adopt_module_key_flags(training_run)
flags.adopt_module_key_flags(distill_flags)
flags.mark_flags_as_required(["config", "workdir", "teacher"])


def main():
    training_run.quiet()
    from rahf.inference import teaching
    from rahf.input import distillation

    config, workdir = config_flag.CONFIG.value, str(training_run.WORKDIR.value)
    pictures, own = distill_flags.pictures(config)
    request = distill_flags.request(config, os.path.join(workdir, "teacher"))
    print(teaching.teach(request, pictures), flush=True)
    student = distillation.student_config(config, request.cache, own_pictures=own)
    training_run.run(student, workdir)


if __name__ == "__main__":
    config_flag.run(main)
