"""``python -m dnmf``: the command line."""

from __future__ import annotations

from dnmf.cli.main import main

if __name__ == "__main__":
    main()
