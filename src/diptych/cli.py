"""The command line: `diptych COMMAND ...`, one file a command in `commands/`.

Help and listings answer without importing torch; a command is imported when it is run.
"""

from __future__ import annotations

import sys
from pathlib import Path

from diptych.core import discovery
from diptych.core.allocator import keep_large_blocks
from diptych.core.errors import DiptychError, Interrupted, unknown_name

USAGE = "usage: diptych COMMAND [ARGUMENTS]   (diptych COMMAND --help tells more)"


def commands() -> dict[str, discovery.Found]:
    """Every command, by file name."""
    return discovery.find(Path(__file__).parent / "commands", "diptych.commands")


def help_text() -> str:
    """The list of commands with the first line of each one's docstring."""
    found = commands()
    width = max(len(name) for name in found)
    lines = [f"  {name:<{width}}  {command.title}" for name, command in found.items()]
    return "\n".join([__doc__.split("\n", 1)[0] if __doc__ else "", "", USAGE, "", *lines])


def main(arguments: list[str] | None = None) -> int:
    """Runs a command.

    Returns:
        the exit code: 0, 2 for a mistake of the user's (one sentence on stderr), 130 after an interrupt.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0
    if arguments[0] == "--version":
        from diptych import __version__

        print(f"diptych {__version__}")
        return 0
    try:
        return _run(arguments[0], arguments[1:])
    except DiptychError as error:
        print(f"diptych: {error}", file=sys.stderr)
        return 2
    except Interrupted as stopped:
        print(f"diptych: {stopped}", file=sys.stderr)
        return stopped.exit_code
    except KeyboardInterrupt:
        print("diptych: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def _run(name: str, arguments: list[str]) -> int:
    found = commands()
    if name not in found:
        raise unknown_name("command", name, found)
    keep_large_blocks()
    result = found[name].load().main(arguments)
    return int(result or 0)


if __name__ == "__main__":
    raise SystemExit(main())
