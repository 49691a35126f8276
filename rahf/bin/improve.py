"""Closes the loop: a generator learns from predicted feedback, and another model judges.

    python -m rahf.bin.improve --config=muse_scenes:folder --generator=runs/muse \\
        --rewards=runs/scenes --judge=runs/scenes_judge --workdir=runs/improved

The generator draws images of prompts, the rewarding model chooses among them, and the
generator is trained on with the chosen ones; beside it, with as many drawn at random, with
weights from heatmaps, and in rounds that draw anew. Images of held-out prompts, the same
seeds each time, are judged by a model that had no part in it. Held-out images are mended,
too. The folder gets results.json and a page, report.html; docs/apply.md explains both.

Every image, prediction and checkpoint is kept: whatever stops it, the same command goes on
where it was.
"""

from absl import flags

from rahf.bin import config_flag, improve_flags, training_run

flags.adopt_module_key_flags(config_flag)
flags.adopt_module_key_flags(training_run)
flags.adopt_module_key_flags(improve_flags)
flags.mark_flags_as_required(["config", "workdir", "generator", "rewards", "judge"])


def main():
    training_run.quiet()
    from rahf.generators.muse.generator import MuseGenerator
    from rahf.improvement import cycle
    from rahf.improvement.stages import Tools
    from rahf.reports import improvement_page, yield_chart
    from rahf.training.exits import in_one_line

    tools = Tools(
        load=MuseGenerator.load,
        train=training_run.run,
        draw=yield_chart.write_chart,
    )
    request = improve_flags.request(config_flag.CONFIG.value, tools.load)
    with in_one_line(request.workdir):
        points = cycle.improve(request, tools)
        tokenize = tools.load(request.generator).tokens
        print("\n" + improvement_page.write(request, points, tokenize))


if __name__ == "__main__":
    config_flag.run(main)
