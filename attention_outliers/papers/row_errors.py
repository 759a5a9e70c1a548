"""An error of one row of a table: whether the other rows go on, and what the row says."""

from __future__ import annotations

import errno

# No other row of the table gets further where there is no room.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def reason_of(error: Exception) -> str:
    """Why a row has no number: the sentence of a ValueError, any other error with its kind.

    An error that stops all rows, a full disk, is raised again. Of several lines, such as a traceback from a worker,
    the last one counts.
    """
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        raise error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else "no message"
    return text if isinstance(error, ValueError) and lines else f"{type(error).__name__}: {text}"
