"""Publishes a model: `python hub/push.py runs/qata/best org/reclmis-qata --evaluation evaluation.json`.

The same as `reclmis push`.
"""

import sys

from reclmis.cli import main

if __name__ == "__main__":
    sys.exit(main(["push", *sys.argv[1:]]))
