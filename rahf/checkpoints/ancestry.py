"""What a run, and the runs that it began from, learned from."""

from collections.abc import Iterator

from rahf.checkpoints.restore import split_step
from rahf.checkpoints.workdir import read_config


def image_sources(config) -> list[str]:
    """Returns the folders and files of images that a run and its forebears learned from.

    Args:
      config: of the run. Forebears are followed by `config.init_from`, as long as their
        workdirs are where they were.

    Returns:
      The values of `config.input.captions.train`, the run's own first.
    """
    found = (each.input.get("captions", {}).get("train") for each in _lineage(config))
    return list(dict.fromkeys(str(source) for source in found if source))


def _lineage(config) -> Iterator:
    """Yields a config, then that of the run it began from, and so on."""
    seen = set()
    while config is not None:
        yield config
        start = config.get("init_from")
        config = None
        if start and start not in seen:
            seen.add(start)
            try:
                config = read_config(split_step(start)[0])
            except ValueError:  # moved since, or weights of other tools
                return
