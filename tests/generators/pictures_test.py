"""A generator is trained on prompts as it will be given them."""

import numpy as np

import configs.muse_scenes
from rahf.generators.muse.generator import MuseGenerator
from rahf.input.loader import make_eval_batches


def test_a_prompt_is_read_as_it_was_in_training():
    config = configs.muse_scenes.get_config()
    batches = make_eval_batches(
        config, split="dev", targets=config.task.targets, batch_size=8, examples=8
    )
    [(batch, infos)] = batches
    generator = MuseGenerator(config, params={})
    read = [generator._text(info["prompt"]) for info in infos]
    np.testing.assert_array_equal(batch["inputs"], read)
