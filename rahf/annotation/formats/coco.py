"""COCO keypoints: each point of each rater as an annotation, in pixels.

COCO's keypoints are the named joints of one object. A flaw has one joint: its place. So
the two kinds of points are two categories with one keypoint each, and an annotation is
one point, with the box of its disk. Who said it is in `rater`, which COCO's tools
ignore. Scores, words and images without points have no place in COCO but as images.
"""

from collections.abc import Iterable
from typing import Any

from rahf.annotation import pixels
from rahf.annotation.formats.rated_rows import RatedRow
from rahf.datasets.ratings.consolidation import POINT_RADIUS, POINTS

# Visible, in COCO's words.
_VISIBLE = 2
_NAMES = {"implausible_points": "implausible", "misaligned_points": "misaligned"}


def make(ratings: Iterable[RatedRow]) -> dict[str, Any]:
    """Returns ratings as COCO's JSON; skipped images are left out."""
    pictures: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for rating in ratings:
        if rating.skipped is not None:
            continue
        row = rating.row
        picture = pictures.setdefault(
            row["image"],
            {
                "id": len(pictures) + 1,
                "file_name": row["image"],
                "width": rating.width,
                "height": rating.height,
                "prompt": row.get("prompt") or "",
            },
        )
        for category, field in enumerate(POINTS, 1):
            for x, y in row.get(field) or []:
                where = (
                    pixels.to_pixel(x, rating.width),
                    pixels.to_pixel(y, rating.height),
                )
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": picture["id"],
                        "category_id": category,
                        "keypoints": [*where, _VISIBLE],
                        "num_keypoints": 1,
                        **_box(where, rating.width, rating.height),
                        "iscrowd": 0,
                        "rater": str(row["rater"]),
                    }
                )
    return {
        "info": {"description": "Places that raters marked, one annotation each"},
        "licenses": [],
        "images": list(pictures.values()),
        "annotations": annotations,
        "categories": [
            {
                "id": number,
                "name": _NAMES[field],
                "supercategory": "flaw",
                "keypoints": ["place"],
                "skeleton": [],
            }
            for number, field in enumerate(POINTS, 1)
        ],
    }


def _box(where: tuple[float, float], width: int, height: int) -> dict[str, Any]:
    """Returns the box of a point's disk, within the image, its outline and area."""
    radius = POINT_RADIUS * height
    low = [max(0.0, at - radius) for at in where]
    high = [
        min(float(side), at + radius)
        for at, side in zip(where, (width, height), strict=True)
    ]
    size = [end - start for start, end in zip(low, high, strict=True)]
    (left, top), (right, bottom) = low, high
    return {
        "bbox": [*low, *size],
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
        "area": size[0] * size[1],
    }
