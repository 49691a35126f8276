"""A database that may not grow, as if its disk were full."""

from rahf.annotation.store import AnswerStore


def limit_pages(store: AnswerStore, more: int) -> None:
    """Lets a database grow by at most so many pages from now on."""
    with store.transaction() as db:
        [pages] = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages + more}")
