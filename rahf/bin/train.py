"""Trains RAHF. The same command resumes an interrupted run.

    python -m rahf.bin.train --config=configs/scenes_demo.py --workdir=runs/demo
    python -m rahf.bin.train --config=configs/scenes.py --workdir=W --config.seed=1

Any key of the config can be overridden with --config.key=value; docs/train.md explains
them. To train on several hosts, run the same command on each, with --distributed
(docs/scale.md). SIGTERM, Ctrl-C and a closed terminal stop the run once it is saved,
with exit code 75.
"""

from absl import flags

from rahf.bin import config_flag, process_flags, training_run

flags.adopt_module_key_flags(config_flag)
flags.adopt_module_key_flags(training_run)
flags.adopt_module_key_flags(process_flags)
flags.mark_flags_as_required(["config", "workdir"])


def main():
    training_run.quiet()
    process_flags.join()
    training_run.run(config_flag.CONFIG.value, str(training_run.WORKDIR.value))


if __name__ == "__main__":
    config_flag.run(main)
