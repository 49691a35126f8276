"""What a generator learns from: pictures and their prompts, nothing being asked of them.

Importing this module registers the task

    scenes_pictures   the scenes as they come: damaged, and not always what was asked for

Unlike in the tasks of feedback, the text is the prompt alone, as when generating.
"""

from rahf.datasets.scenes import scenes_records
from rahf.input.registry import Task, register

# A task has a target; the generator's learners do not look at it.
register(Task("scenes_pictures", ("overall",), scenes_records, augment=False))
