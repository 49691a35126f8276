"""Tasks and loading on seqio and TensorFlow, which the extra `train` installs."""

from rahf import extras

with extras.needing("train", "the seqio loader"):
    import seqio  # noqa: F401
    import tensorflow  # noqa: F401
