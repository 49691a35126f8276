"""Reads the events in the body of a request, and trusts nothing in them."""

import re

from rahf.annotation.records import Feedback, LabelError
from rahf.annotation.store import KINDS, Event

_EVENT_FIELDS = {"id", "kind", "label", "reason", "seconds"}
_REASON = re.compile("[^\x00-\x1f\ud800-\udfff]{1,500}")  # no control characters


def read_events(body: dict, prompt: str, width: int, height: int) -> list[Event]:
    """Checks the events that a page sent for one image.

    Args:
      body: the decoded request.
      prompt: the image's prompt.
      width, height: the image's natural size in pixels.

    Raises:
      LabelError: names the wrong field and what was expected.
    """
    listed = body.get("events")
    if not isinstance(listed, list) or not 1 <= len(listed) <= 100:
        raise LabelError("events", "a list of 1 to 100 events")
    events = []
    for row in listed:
        if not isinstance(row, dict) or not row.keys() <= _EVENT_FIELDS:
            raise LabelError("events", f"objects with some of {sorted(_EVENT_FIELDS)}")
        id_, kind, seconds = row.get("id"), row.get("kind"), row.get("seconds", 0)
        if not isinstance(id_, str) or not re.fullmatch("[A-Za-z0-9-]{8,64}", id_):
            raise LabelError("id", "8 to 64 letters, digits or '-'")
        if kind not in KINDS:
            raise LabelError("kind", f"one of {', '.join(KINDS)}")
        if type(seconds) not in (int, float) or not 0 <= seconds < 1e7:
            raise LabelError("seconds", "a number from 0")
        label, reason = None, None
        if kind == "skip":
            reason = row.get("reason")
            if not isinstance(reason, str) or not _REASON.fullmatch(reason):
                raise LabelError("reason", "1 to 500 characters")
        else:
            size = {"prompt": prompt, "width": width, "height": height}
            complete = kind == "answer"
            label = Feedback.from_json(row.get("label"), complete=complete, **size)
        event = Event(id=id_, kind=kind, label=label, reason=reason, seconds=seconds)
        events.append(event)
    return events
