"""``python -m rlm_server.sandbox``: prepare the packages that the configuration lists."""

from __future__ import annotations

import sys

from rlm_server.config import load_config
from rlm_server.errors import RlmError
from rlm_server.sandbox.packages import prepare


def main() -> int:
    """Prepare the configured packages and say where they are."""
    try:
        wanted = load_config().sandbox.packages
        if not wanted:
            print("The configuration lists no packages under [sandbox].")
            return 0
        print(f"Prepared in {prepare(wanted)}.")
    except RlmError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
