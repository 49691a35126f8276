"""What rahf.bin.improve makes: a folder for each stage, and which depends on which.

prompts.jsonl, held_out.jsonl   what is drawn to learn from, and to be judged
base/                images of held-out prompts by the generator as it is, and judged/
round1/              its images to learn from, and predictions/ of the rewarding model
chosen/, random/, weighted/, rounds/     the arms, see `ARMS`:
    selected/        the training set
    run/             the workdir of the training
    200/images, 200/judged               after 200 steps, on held-out prompts
rounds/2/            the same stages of its second round; the first is that of chosen/
mended/              held-out images of base/, mended and judged
"""

import copy
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rahf.applications.selecting import SelectionRequest
from rahf.applications.selection import Rule
from rahf.improvement import stages
from rahf.improvement.stages import Tools

#: What is compared with the generator as it is.
ARMS: Mapping[str, str] = {
    "chosen": "fine-tuned on the images that the rule chooses",
    "random": "on as many images of the same prompts, drawn at random: the control",
    "weighted": "on those of the control, with less weight where they are implausible",
    "rounds": "on chosen images that are made anew before each round",
}
#: Seeds of two rounds are this far apart.
_APART = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImproveRequest:
    """What to make.

    Attributes:
      workdir: the folder of everything.
      generator: the workdir of the generator.
      rewards: that of the model that chooses, weighs and mends.
      judge: that of another model, which judges and does nothing else.
      config: how the generator is trained on; `training_steps` are those of a round.
      prompts: what to draw for learning.
      held_out: other prompts, for judging.
      samples: images of each prompt.
      judged_samples: images of each held-out prompt.
      rule: what is chosen.
      weigh: the heatmap of the weighted arm, see `PlaceWeights.parse`.
      rounds: rounds of training. Arms with one training set have as many steps.
      arms: some of `ARMS`.
      mended: how many held-out images to mend, each of another prompt.
      seed: of the first held-out image; those to learn from have seeds from
        `seed` + 1000 in the first round, + 2000 in the second, ...
    """

    workdir: str
    generator: str
    rewards: str
    judge: str
    config: Any
    prompts: Sequence[str]
    held_out: Sequence[str]
    samples: int = 8
    judged_samples: int = 4
    rule: Rule
    weigh: str = "implausibility"
    rounds: int = 1
    arms: Sequence[str] = tuple(ARMS)
    mended: int = 100
    seed: int = 0

    def __post_init__(self):
        unknown = sorted(set(self.arms) - set(ARMS))
        if unknown or not self.arms:
            raise ValueError(
                f"arms: {', '.join(unknown) or 'none'}; expected some of "
                f"{', '.join(ARMS)}"
            )
        shared = set(self.prompts) & set(self.held_out)
        if shared:
            raise ValueError(
                f"{len(shared)} prompts are both learned from and held out, such as "
                f"{min(shared)!r}"
            )
        for name in ("prompts", "held_out"):
            given = getattr(self, name)
            if not given or len(set(given)) < len(given):
                raise ValueError(
                    f"{name}: expected different ones, at least one; got {len(given)}, "
                    f"of which {len(set(given))} differ"
                )
        if not 1 <= max(self.samples, self.judged_samples) <= _APART:
            raise ValueError(f"expected 1 to {_APART} images of a prompt")

    def path(self, *parts: str) -> pathlib.Path:
        """Returns a place in the workdir."""
        return pathlib.Path(self.workdir, *parts)


@dataclasses.dataclass(frozen=True)
class Point:
    """Held-out images that were judged.

    Attributes:
      arm: one of `ARMS`, or "base" or "mended".
      steps: of training since the base.
      folder: relative to the workdir; it has `images` and `judged`.
    """

    arm: str
    steps: int
    folder: str


@dataclasses.dataclass(frozen=True)
class Stage:
    """A step of the work.

    Attributes:
      name: for people.
      run: does it, or finds it done.
    """

    name: str
    run: Callable[[], None]


def points(request: ImproveRequest) -> list[Point]:
    """Returns what is judged, in the order of the arms."""
    found, steps = [Point("base", 0, "base")], int(request.config.training_steps)
    for arm in request.arms:
        for number in range(1, request.rounds + 1):
            if arm == "rounds" and number == 1:
                continue  # nothing differs yet from "chosen"
            found.append(Point(arm, number * steps, f"{arm}/{number * steps}"))
    if request.mended:
        found.append(Point("mended", 0, "mended"))
    return found


def improve(request: ImproveRequest, tools: Tools) -> list[Point]:
    """Does everything that is not done yet; returns what was judged.

    Raises:
      ValueError: a stage cannot be done, such as a selection where nothing passes. What
        was made stays, and the same command goes on with it.
    """
    todo = list(_stages(request, tools))
    _check_judge(request)
    stages.keep_list(request.path("prompts.jsonl"), request.prompts)
    stages.keep_list(request.path("held_out.jsonl"), request.held_out)
    for number, stage in enumerate(todo, 1):
        print(f"\n== {number} of {len(todo)}: {stage.name}", flush=True)
        stage.run()
    return points(request)


def _check_judge(request: ImproveRequest) -> None:
    """Raises ValueError if the judge is the model that rewards."""
    digests = [stages.digest_of_model(m) for m in (request.rewards, request.judge)]
    if digests[0] == digests[1]:
        raise ValueError(
            f"the judge, {request.judge}, has the parameters of the model that rewards, "
            f"{request.rewards}: a score that was climbed says little; give another run"
        )


def _stages(request: ImproveRequest, tools: Tools) -> Iterator[Stage]:
    """Yields all stages in their order."""
    path, base = request.path, request.generator
    yield from _judge(request, tools, base, "base")
    yield from _draw(request, tools, base, 1, "round1")
    for arm in request.arms:
        if arm == "rounds":
            yield from _rounds(request, tools)
            continue
        selection = _selection(request, arm, "round1", arm)
        yield from _tune(request, tools, selection, arm, base, request.rounds)
        for number in range(1, request.rounds + 1):
            folder = f"{arm}/{number * request.config.training_steps}"
            generator = _checkpoint(request, arm, number)
            yield from _judge(request, tools, generator, folder)
    if request.mended:
        listed, mended = path("mended", "predictions.jsonl"), path("mended", "images")
        yield Stage(
            f"list {request.mended} held-out images",
            lambda: stages.take_first(path("base", "judged"), request.mended, listed),
        )
        yield Stage(
            "mend them",
            lambda: stages.mend(tools, base, request.rewards, listed, mended),
        )
        yield Stage(
            "judge them",
            lambda: stages.predict(request.judge, mended, path("mended", "judged")),
        )


def _rounds(request: ImproveRequest, tools: Tools) -> Iterator[Stage]:
    """Yields the stages of the rounds after the first, which "chosen" has done."""
    if "chosen" not in request.arms and request.rounds > 1:
        raise ValueError(
            "arms: the first round of 'rounds' is that of 'chosen'; add it"
        )
    generator = _checkpoint(request, "chosen", 1)
    for number in range(2, request.rounds + 1):
        place = f"rounds/{number}"
        yield from _draw(request, tools, generator, number, place)
        selection = _selection(request, "chosen", place, place)
        yield from _tune(request, tools, selection, place, generator, 1)
        generator = _checkpoint(request, place, 1)
        folder = f"rounds/{number * request.config.training_steps}"
        yield from _judge(request, tools, generator, folder)


def _draw(
    request: ImproveRequest, tools: Tools, generator: str, number: int, place: str
) -> Iterator[Stage]:
    """Yields the stages that make the images of a round, and predict them."""
    images, seed = request.path(place, "images"), request.seed + _APART * number
    seeds = range(seed, seed + request.samples)
    yield Stage(
        f"images to learn from, round {number}",
        lambda: stages.generate(tools, generator, request.prompts, seeds, images),
    )
    predictions = request.path(place, "predictions")
    yield Stage(
        f"predict them, {place}",
        lambda: stages.predict(request.rewards, images, predictions),
    )


def _judge(
    request: ImproveRequest, tools: Tools, generator: str, place: str
) -> Iterator[Stage]:
    """Yields the stages that make held-out images, and judge them."""
    images = request.path(place, "images")
    seeds = range(request.seed, request.seed + request.judged_samples)
    # The control is drawn by chance.
    chosen = not place.startswith(("base", "random"))

    def generate():
        by = [stages.digest_of_model(request.rewards)] if chosen else []
        stages.generate(tools, generator, request.held_out, seeds, images, by)

    yield Stage(f"held-out images, {place}", generate)
    judged = request.path(place, "judged")
    yield Stage(
        f"judge them, {place}", lambda: stages.predict(request.judge, images, judged)
    )


def _selection(
    request: ImproveRequest, arm: str, source: str, place: str
) -> SelectionRequest:
    return SelectionRequest(
        predictions=[str(request.path(source, "predictions"))],
        rule=request.rule,
        output=str(request.path(place, "selected")),
        control=arm != "chosen",
        seed=request.seed,
        weigh=request.weigh if arm == "weighted" else "",
    )


def _tune(
    request: ImproveRequest,
    tools: Tools,
    selection: SelectionRequest,
    place: str,
    start: str,
    rounds: int,
) -> Iterator[Stage]:
    """Yields the stages that choose, and train for some rounds from a generator."""
    yield Stage(f"choose, {place}", functools.partial(stages.choose, tools, selection))
    config = copy.deepcopy(request.config)
    steps = int(config.training_steps)
    config.training_steps = rounds * steps
    # Each round's end is judged, and nothing in between may push it out.
    config.checkpoint.update(every_steps=steps, every_minutes=0.0, keep_latest=1000)
    config.seed = request.seed
    workdir = request.path(place, "run")
    yield Stage(
        f"train for {rounds * steps} steps, {place}",
        lambda: stages.tune(
            tools, config, start, pathlib.Path(selection.output), workdir
        ),
    )


def _checkpoint(request: ImproveRequest, place: str, number: int) -> str:
    """Returns the generator at the end of a round of training."""
    steps = number * int(request.config.training_steps)
    return str(request.path(place, "run", "checkpoints", str(steps)))
