"""The join on one machine: label files + Pick-a-Pic -> a TFDS dataset."""

import sys
from collections.abc import Collection, Iterator
from typing import Any

from tqdm import tqdm

from rahf.datasets.richhf import joining, pickapic
from rahf.datasets.richhf.build_paths import BuildPaths
from rahf.datasets.richhf.labels import Label, check_counts
from rahf.datasets.richhf.picture_store import PictureStore
from rahf.datasets.richhf.report import BuildReport

DESCRIPTION = (
    "RichHF-18K (arXiv 2312.10240): what three raters said about generated images, "
    "joined with the images and prompts of Pick-a-Pic v1."
)


def build(paths: BuildPaths, *, policy: str, partial: bool = False) -> BuildReport:
    """Builds the dataset, continuing where an earlier call stopped.

    Args:
      paths: what to read and where to write; local folders.
      policy: a key of `joining.POLICIES`.
      partial: whether the label files may have other numbers of records than those
        published.

    Returns:
      The counts and problems, which are also written to `paths.report`.

    Raises:
      ValueError: the files are not the published ones, or the policy does not allow
        the problems found. The pictures found so far are kept.
    """
    from rahf.datasets.files import tfds_records

    report = BuildReport(policy, {})
    shards = pickapic.find_shards(paths.pickapic)
    paths.output.prepare()
    wanted = survey(paths, report, partial=partial)
    with PictureStore(paths.output.folder / "pictures_found.sqlite", wanted) as store:
        collect(shards, store, wanted, report)
        with paths.output.writing():
            report.written |= tfds_records.write(
                paths.output,
                description=DESCRIPTION,
                splits=list(paths.labels),
                records=_joined(paths, store, report),
            )
            report.finish(paths.report)
        store.remove()
    return report


def survey(paths: BuildPaths, report: BuildReport, *, partial: bool) -> set[str]:
    """Reads the label files once, before any long work begins.

    Args:
      paths: the label files.
      report: receives the numbers of records.
      partial: whether these may differ from those published.

    Returns:
      The uids of all records.

    Raises:
      ValueError: a file is damaged, or the numbers are wrong.
    """
    report.read.update(dict.fromkeys(paths.labels, 0))
    report.written.update(report.read)
    uids = set()
    for label in read_labels(paths.labels):
        report.read[label.split] += 1
        uids.add(label.uid)
    if not partial:
        check_counts(report.read)
    return uids - {""}


def read_labels(files: dict[str, str]) -> Iterator[Label]:
    """Yields the records of label files, split by split, in order."""
    from rahf.datasets.files import tfds_records

    for split, path in files.items():
        for index, example in enumerate(tfds_records.read_examples(path)):
            yield Label.from_example(split, index, example)


def collect(
    shards: list[pickapic.Shard],
    store: PictureStore,
    wanted: Collection[str],
    report: BuildReport,
) -> None:
    """Reads shards until every wanted uid has its picture, or all are read.

    Args:
      shards: the shards, in reading order.
      store: receives the pictures, and knows what was read before.
      wanted: the uids to look for.
      report: receives the shards that cannot be read.
    """
    left = set(wanted) - store.uids()
    bar = tqdm(
        total=sum(shard.size for shard in shards),
        desc="Pick-a-Pic",
        unit="B",
        unit_scale=True,
        file=sys.stderr,
        mininterval=0.5,
    )
    with bar:
        for shard in shards:
            if not left:
                break
            end = bar.n + shard.size
            try:
                with pickapic.ShardReader(shard) as reader:
                    done = store.done(shard.name, shard.size)
                    for group in range(reader.row_groups):
                        if left and group not in done:
                            found = reader.read(group, left)
                            left -= store.add(shard.name, shard.size, group, found)
                        bar.update(shard.size / reader.row_groups)
                        bar.set_postfix_str(
                            f"{len(wanted) - len(left):,}/{len(wanted):,} found",
                            refresh=False,
                        )
            except pickapic.ShardError as error:
                report.unreadable.append(str(error))
                bar.write(f"skipped: {error}", file=sys.stderr)
            bar.update(end - bar.n)


def _joined(
    paths: BuildPaths, store: PictureStore, report: BuildReport
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the records that the policy keeps, and notes all problems."""
    seen: set[str] = set()
    labels = tqdm(
        read_labels(paths.labels),
        total=sum(report.read.values()),
        desc="records",
        file=sys.stderr,
        mininterval=0.5,
    )
    for label in labels:
        repeated = label.uid in seen
        seen.add(label.uid)
        joined = joining.join(label, store.get(label.uid), repeated=repeated)
        if report.kept(joined) and joined.record is not None:
            yield joined.split, joined.record
