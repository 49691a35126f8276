"""What a generator learns from: pictures and their prompts, nothing being asked of them.

Importing this module registers two tasks:

    pictures_of_scenes  the scenes as they come: damaged, not always what was asked for
    pictures_of_folder  the images and captions of `config.input.captions`, such as
                        rahf.bin.select writes, with weights of the loss where it has some

Unlike in the tasks of feedback, the text is the prompt alone, as when generating.
"""

from rahf.datasets import captions
from rahf.datasets.scenes import scenes_records
from rahf.input.registry import Task, register
from rahf.targets import Kind, Target
from rahf.targets import register as register_target

#: How much each place of a picture counts; 1 is most. Without it, all count the same.
LOSS_WEIGHTS = register_target(
    Target(
        name="loss_weights",
        kind=Kind.HEATMAP,
        field="loss_weights",
        prompt="",
        description="how much each place counts in the loss of a generator",
    )
)

# A task has a target; that of scenes is not looked at.
register(Task("pictures_of_scenes", ("overall",), scenes_records, augment=False))
register(
    Task(
        "pictures_of_folder",
        (LOSS_WEIGHTS.name,),
        captions.captions_records,
        augment=False,
    )
)
