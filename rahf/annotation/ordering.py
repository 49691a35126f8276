"""In which order images are given out to raters."""

import hashlib
import pathlib

from rahf import targets
from rahf.annotation import uncertainty
from rahf.annotation.store import AnswerStore

#: As listed, or as it was brought into before; shuffled; those first of which a model is
#: least sure.
ORDERS = ("given", "random", "uncertain")


def arrange(
    store: AnswerStore,
    order: str,
    *,
    folder: pathlib.Path,
    checkpoint: str | None = None,
    seed: int = 0,
) -> int:
    """Brings the images that nobody has been given yet into an order.

    Args:
      store: the images.
      order: one of `ORDERS`.
      folder: the folder of the images (`uncertain`).
      checkpoint: a workdir of training, or an exported folder (`uncertain`).
      seed: of `random`; an image's place does not depend on which others there are.

    Returns:
      The number of images that the model could not read, which come last.

    Raises:
      ValueError: an order without its checkpoint or the other way round, there is no
        such checkpoint, or it predicts scores alone.
    """
    if order not in ORDERS or (order == "uncertain") != (checkpoint is not None):
        raise ValueError(
            f"order {order!r}, checkpoint {checkpoint!r}: expected one of "
            f"{', '.join(ORDERS)}, and a checkpoint with 'uncertain' alone"
        )
    if order == "given":
        return 0
    listed = [
        (row["image"], row["prompt"])
        for row in store.read(
            "SELECT image, prompt FROM images i WHERE gold IS NULL AND NOT EXISTS "
            "(SELECT 1 FROM assignments WHERE image = i.id) ORDER BY position"
        )
    ]
    if not listed:
        return 0
    if checkpoint is None:
        names, unread = [name for name, _ in listed], 0
        names.sort(key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    else:
        names, unread = _by_uncertainty(store, listed, folder, checkpoint)
    store.arrange(names)
    return unread


def _by_uncertainty(store, listed, folder, checkpoint) -> tuple[list[str], int]:
    import rahf  # JAX, which is slow to import
    from rahf.checkpoints import identity

    predictor = rahf.load(checkpoint)
    kinds = {targets.get(name).kind for name in predictor.targets}
    if not kinds & {targets.Kind.WORDS, targets.Kind.HEATMAP}:
        raise ValueError(
            f"--checkpoint={checkpoint} predicts {', '.join(predictor.targets)}, which "
            "do not say how sure it is; --order=uncertain needs a model that predicts "
            "words or heatmaps"
        )
    digest = identity.digest_of(checkpoint, predictor.step, predictor.params)
    path = store.path.with_name(uncertainty.FILE)
    found = uncertainty.measure(listed, folder, predictor, path, digest)
    readable = [each for each in listed if each[0] in found]
    unsure = uncertainty.combine([found[name] for name, _ in readable])
    turns = uncertainty.order(unsure, [prompt for _, prompt in readable])
    last = [name for name, _ in listed if name not in found]
    return [readable[index][0] for index in turns] + last, len(last)
