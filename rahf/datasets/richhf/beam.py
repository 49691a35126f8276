"""The join as an Apache Beam pipeline, for a cluster; Beam is an optional extra."""

# The type checker runs where Beam cannot be installed (see setup.py).
# pyright: reportMissingImports=false

import dataclasses
import glob
import json
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

from rahf.datasets.richhf import PUBLISHED, joining, pickapic
from rahf.datasets.richhf.build import DESCRIPTION, read_labels, survey
from rahf.datasets.richhf.build_paths import BuildPaths
from rahf.datasets.richhf.labels import Label, refuse_pointer
from rahf.datasets.richhf.report import BuildReport


def build(
    places: BuildPaths,
    *,
    policy: str,
    partial: bool = False,
    runner: str = "DirectRunner",
    options: str = "",
) -> BuildReport:
    """Builds the dataset; the result holds the records of the join on one machine.

    Args:
      places: what to read and where to write; of all workers' reach.
      policy: a key of `joining.POLICIES`.
      partial: whether the label files may hold other numbers of records than were
        published.
      runner: of Beam, such as "DirectRunner", "FlinkRunner", "DataflowRunner".
      options: of Beam, as on a command line: "--project=mine --region=here".

    Returns:
      What was found; it is also written to `places.report`.

    Raises:
      ValueError: Beam is not installed, the files are not what was published, or
        the policy refuses what was found.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise ValueError(
            f"--runner={runner} needs Apache Beam ({error}); install it with: "
            'pip install "rahf[beam]"'
        ) from error
    from rahf.datasets.files import tfds_records

    report = BuildReport(policy, {})
    shards = _find_shards(places.pickapic)
    places.output.prepare()
    wanted = frozenset(survey(places, report, partial=partial))
    problems = places.output.staging / "problems.jsonl"

    def make_splits(pipeline: Any) -> dict[str, Any]:
        joined = _join(pipeline, places, shards, wanted)
        return _sort_out(joined, places, policy, str(problems))

    with places.output.writing():
        report.written |= tfds_records.write_with_beam(
            places.output,
            description=DESCRIPTION,
            make_splits=make_splits,
            runner=runner,
            options=PipelineOptions(shlex.split(options)),
        )
        with problems.open() as lines:
            found = [joining.Problem(**json.loads(line)) for line in lines]
        order = list(places.labels)
        report.problems = sorted(found, key=lambda p: (order.index(p.split), p.index))
        report.finish(places.report)
    return report


def _join(
    pipeline: Any, places: BuildPaths, shards: list[str], wanted: frozenset
) -> Any:
    """Labels and pictures, joined by uid: a collection of `joining.Joined`."""
    import apache_beam as beam
    from apache_beam.io.parquetio import ReadAllFromParquetBatched

    labels = (
        pipeline
        | "label files" >> beam.Create(sorted(places.labels.items()))
        | "labels" >> beam.FlatMap(_labels_of_file)
    )
    pictures = (
        pipeline
        | "shards" >> beam.Create(shards)
        | "row groups" >> ReadAllFromParquetBatched(columns=list(pickapic.COLUMNS))
        | "pictures" >> beam.FlatMap(_pictures_of_table, wanted)
    )
    return (
        {"labels": labels, "pictures": pictures}
        | "by uid" >> beam.CoGroupByKey()
        | "join" >> beam.FlatMap(_join_group)
    )


def _sort_out(
    joined: Any, places: BuildPaths, policy: str, problems: str
) -> dict[str, Any]:
    """Lists the problems in a file, and keeps what the policy keeps, by split."""
    import apache_beam as beam
    from apache_beam.io.textio import WriteToText

    _ = (
        joined
        | "found" >> beam.FlatMap(_problem_lines)
        | "list" >> WriteToText(problems, shard_name_template="")
    )
    kept = joined | "policy" >> beam.Filter(joining.Joined.kept, policy)
    return {
        split: kept | split >> beam.FlatMap(_records_of_split, split)
        for split in places.labels
    }


def _find_shards(folder: str) -> list[str]:
    """Returns the Parquet files in a folder, and in its folders, of any file system."""
    from apache_beam.io.filesystems import FileSystems

    root = glob.escape(folder.rstrip("/"))
    patterns = [f"{root}/{deep}*.parquet" for deep in ("", "*/", "*/*/")]
    files = [
        file for found in FileSystems.match(patterns) for file in found.metadata_list
    ]
    files = [f for f in files if not f.path.rpartition("/")[2].startswith(".")]
    if not files:
        raise ValueError(f"--pickapic={folder} holds no .parquet file of Pick-a-Pic v1")
    for file in files:
        if file.size_in_bytes < pickapic.SMALLEST:
            refuse_pointer(file.path)
    return sorted(file.path for file in files)


def _labels_of_file(file: tuple[str, str]) -> Iterator[tuple[str, Label]]:
    for label in read_labels(dict([file])):
        yield label.uid, label


def _pictures_of_table(
    table: Any, wanted: frozenset[str]
) -> Iterator[tuple[str, joining.Picture]]:
    """Yields the wanted pictures of a row group, decoding no other cell."""
    uids = {name: table.column(name).to_pylist() for name in pickapic.SIDES}
    for side, image in pickapic.SIDES.items():
        for row, uid in enumerate(uids[side]):
            if uid in wanted:
                cells = (
                    table.column(name)[row].as_py() for name in (image, pickapic.PROMPT)
                )
                yield uid, pickapic.make_picture(*cells)


def _join_group(group: tuple[str, dict[str, Iterable]]) -> Iterator[joining.Joined]:
    """Joins all that has one uid: the first label counts, and any one picture."""
    order = list(PUBLISHED)
    labels = sorted(
        group[1]["labels"], key=lambda label: (order.index(label.split), label.index)
    )
    pictures = group[1]["pictures"]
    picture = min(pictures, key=joining.preference, default=None)
    for place, label in enumerate(labels):
        yield joining.join(label, picture, repeated=place > 0)


def _problem_lines(joined: joining.Joined) -> Iterator[str]:
    for problem in joined.problems:
        yield json.dumps(dataclasses.asdict(problem))


def _records_of_split(
    joined: joining.Joined, split: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    from rahf.datasets.files import tfds_records

    if joined.split == split and joined.record is not None:
        yield joined.record["uid"], tfds_records.complete(joined.record)
