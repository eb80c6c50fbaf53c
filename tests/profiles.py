"""How many examples hypothesis draws, and whether every run draws the same ones.

The default run is derandomized, so that no test depends on luck. ``HYPOTHESIS_PROFILE=random``
(``make test-all``) draws new examples each time, five times as many, and keeps failing ones in
``.hypothesis``. There are no deadlines: they would measure the machine.
"""

import os
from typing import Any

from hypothesis import settings

__all__ = ["examples", "load_profile"]

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "derandomized")
FACTORS = {"derandomized": 1, "random": 5}


def load_profile() -> None:
    """Apply the profile named by the environment.

    Raises:
        hypothesis.errors.InvalidArgument: There is no profile of that name.
    """
    for name, factor in FACTORS.items():
        settings.register_profile(
            name,
            derandomize=name == "derandomized",
            deadline=None,
            max_examples=100 * factor,
            print_blob=True,
        )
    settings.load_profile(PROFILE)


def examples(count: int, **options: Any) -> settings:
    """Draw ``count`` examples in the default run, more in the random one."""
    return settings(max_examples=count * FACTORS[PROFILE], **options)
