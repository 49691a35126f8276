"""The base class of sources for seqio tasks."""

from collections.abc import Sequence
from typing import Any

import seqio
import tensorflow as tf


class OwnOrderSource(seqio.DataSource):
    """A source that divides and shuffles its examples itself."""

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    @property
    def performs_internal_shuffling(self) -> bool:
        return True

    def list_shards(self, split: str) -> Sequence[str]:
        return [split]

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **unused: Any,
    ) -> tf.data.Dataset:
        return self.make_dataset(
            split, shuffle, seed, shard_info or seqio.ShardInfo(0, 1)
        )

    def make_dataset(
        self, split: str, shuffle: bool, seed: int | None, shard: seqio.ShardInfo
    ) -> tf.data.Dataset:
        """Makes the dataset of one shard of a split."""
        raise NotImplementedError
