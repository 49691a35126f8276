"""A digest of what seqio tasks train on; see `rahf.input.digests`."""

import os
from collections.abc import Iterable
from typing import Any

import seqio
import tensorflow as tf

from rahf.datasets import captions
from rahf.datasets.row_digest import digest_rows
from rahf.input.digests import digest_of
from rahf.input.seqio import tasks
from rahf.input.seqio.captions import CaptionSource


def digest_of_tasks(found: Iterable[seqio.Task], config) -> str | None:
    """Combines the digests of what the tasks read of their split "train".

    Args:
      found: the tasks.
      config: with `input`, which says where their data lies.

    Returns:
      A digest that changes with records, shards or files, wherever these lie; None
      where nothing of the kind is known, as of functions that make examples.
    """
    with tasks.building(config):
        return digest_of([_data_of(task.source) for task in found])


def _data_of(source: seqio.DataSource) -> Any:
    if isinstance(source, tasks.RecordSource):
        return source.records("train")
    if isinstance(source, CaptionSource):
        return captions.find_source("train", tasks.options(), source.dataset)
    if isinstance(source, seqio.FileDataSource | seqio.TfdsDataSource):
        return _Files(source.list_shards("train"))
    return None


class _Files:
    """Files by name and size: none of them is read."""

    def __init__(self, paths: Iterable[str]):
        self._paths = sorted(map(os.fspath, paths))

    def digest(self) -> str:
        sizes = [tf.io.gfile.stat(path).length for path in self._paths]
        names = [path.rpartition("/")[2] for path in self._paths]
        return digest_rows(zip(names, sizes, strict=True))
