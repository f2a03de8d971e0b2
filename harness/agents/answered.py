"""When the last answers of this process came: `answer_watch` looks at them."""

from __future__ import annotations

from collections import deque

# Those that nobody has taken: a few seconds of the fastest stub, 400 kB.
KEPT_MAX = 4096

# (who answered, sent at, first text at or None, ended at, who was asked): a plain
# tuple, since every answer pays for it.
ANSWERED: deque[tuple[str, int, int | None, int, str]] = deque(maxlen=KEPT_MAX)
