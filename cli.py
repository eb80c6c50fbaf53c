"""The ``stm`` command from the repository, without installing it: ``python cli.py COMMAND``.

What it runs is assembled in ``stmdata/commands/main.py``.
"""

import os
from pathlib import Path

from stmdata.commands.main import app, main

__all__ = ["app", "main"]

if __name__ == "__main__":
    # The processes that a command starts must find the packages too.
    here, given = str(Path(__file__).resolve().parent), os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([here, given] if given else [here])
    main()
