"""The join as an Apache Beam pipeline, for a cluster; Beam is an optional extra."""

# The type checker runs in an environment without Beam (see setup.py).
# pyright: reportMissingImports=false

import dataclasses
import glob
import json
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

from rahf import extras
from rahf.datasets.richhf import PUBLISHED, joining, pickapic
from rahf.datasets.richhf.build import DESCRIPTION, read_labels, survey
from rahf.datasets.richhf.build_paths import BuildPaths
from rahf.datasets.richhf.labels import Label, refuse_pointer
from rahf.datasets.richhf.report import BuildReport


def build(
    paths: BuildPaths,
    *,
    policy: str,
    partial: bool = False,
    runner: str = "DirectRunner",
    options: str = "",
) -> BuildReport:
    """Builds the dataset, with the same records as the join on one machine.

    Args:
      paths: what to read and where to write; all workers must have access.
      policy: a key of `joining.POLICIES`.
      partial: whether the label files may have other numbers of records than those
        published.
      runner: the Beam runner: "DirectRunner", "FlinkRunner", "DataflowRunner", ...
      options: Beam options, as on a command line: "--project=mine --region=here".

    Returns:
      The counts and problems, which are also written to `paths.report`.

    Raises:
      MissingExtraError: Beam is not installed.
      ValueError: the files are not the published ones, or the
        policy does not allow the problems found.
    """
    with extras.needing("beam", f"--runner={runner}"):
        from apache_beam.options.pipeline_options import PipelineOptions
    from rahf.datasets.files import tfds_records

    report = BuildReport(policy, {})
    shards = _find_shards(paths.pickapic)
    paths.output.prepare()
    wanted = frozenset(survey(paths, report, partial=partial))
    problems = paths.output.staging / "problems.jsonl"

    def make_splits(pipeline: Any) -> dict[str, Any]:
        joined = _join(pipeline, paths, shards, wanted)
        return _filter(joined, paths, policy, str(problems))

    with paths.output.writing():
        report.written |= tfds_records.write_with_beam(
            paths.output,
            description=DESCRIPTION,
            make_splits=make_splits,
            runner=runner,
            options=PipelineOptions(shlex.split(options)),
        )
        with problems.open() as lines:
            found = [joining.Problem(**json.loads(line)) for line in lines]
        order = list(paths.labels)
        report.problems = sorted(found, key=lambda p: (order.index(p.split), p.index))
        report.finish(paths.report)
    return report


def _join(
    pipeline: Any, paths: BuildPaths, shards: list[str], wanted: frozenset
) -> Any:
    """Joins labels and pictures by uid; returns a collection of `joining.Joined`."""
    import apache_beam as beam
    from apache_beam.io.parquetio import ReadAllFromParquetBatched

    labels = (
        pipeline
        | "label files" >> beam.Create(sorted(paths.labels.items()))
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


def _filter(
    joined: Any, paths: BuildPaths, policy: str, problems: str
) -> dict[str, Any]:
    """Writes problems to a file; returns the records the policy keeps, by split."""
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
        for split in paths.labels
    }


def _find_shards(folder: str) -> list[str]:
    """Returns the Parquet files in a folder and up to two levels below, sorted."""
    from apache_beam.io.filesystems import FileSystems

    root = glob.escape(folder.rstrip("/"))
    patterns = [f"{root}/{deep}*.parquet" for deep in ("", "*/", "*/*/")]
    files = [
        file for found in FileSystems.match(patterns) for file in found.metadata_list
    ]
    files = [f for f in files if not f.path.rpartition("/")[2].startswith(".")]
    if not files:
        raise ValueError(f"--pickapic={folder} has no .parquet files of Pick-a-Pic v1")
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
    """Yields the wanted pictures of a row group, without decoding other cells."""
    uids = {name: table.column(name).to_pylist() for name in pickapic.SIDES}
    for side, image in pickapic.SIDES.items():
        for row, uid in enumerate(uids[side]):
            if uid in wanted:
                cells = (
                    table.column(name)[row].as_py() for name in (image, pickapic.PROMPT)
                )
                yield uid, pickapic.make_picture(*cells)


def _join_group(group: tuple[str, dict[str, Iterable]]) -> Iterator[joining.Joined]:
    """Joins the labels and pictures of one uid; the first label counts."""
    order = list(PUBLISHED)
    labels = sorted(
        group[1]["labels"], key=lambda label: (order.index(label.split), label.index)
    )
    pictures = group[1]["pictures"]
    picture = min(pictures, key=joining.preference, default=None)
    for position, label in enumerate(labels):
        yield joining.join(label, picture, repeated=position > 0)


def _problem_lines(joined: joining.Joined) -> Iterator[str]:
    for problem in joined.problems:
        yield json.dumps(dataclasses.asdict(problem))


def _records_of_split(
    joined: joining.Joined, split: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    from rahf.datasets.files import tfds_records

    if joined.split == split and joined.record is not None:
        yield joined.record["uid"], tfds_records.complete(joined.record)
