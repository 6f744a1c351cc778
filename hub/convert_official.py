"""Converts a released checkpoint: `python hub/convert_official.py best_model-RecLMIS.pth.tar out/ [--max-length 10]`.

The same as `reclmis convert`.
"""

import sys

from reclmis.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]]))
