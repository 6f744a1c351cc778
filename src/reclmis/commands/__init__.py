"""The `reclmis` command: one module per subcommand, each with `add_arguments(parser)` and `run(args) -> int`."""


class CommandError(Exception):
    """A mistake of the caller's, told in one sentence and without a traceback."""
