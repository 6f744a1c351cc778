import sys

from tests.conftest import REPOSITORY

# The scripts import each other by name, as they do when one of them is run.
sys.path.insert(0, str(REPOSITORY / "benchmarks"))
