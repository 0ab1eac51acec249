"""What both command lines share: one line per failure, exit codes, and signals that unwind."""

import contextlib
import os
import sys
from typing import NoReturn

import typer

from testbed import interrupts
from testbed.errors import IsacError

EXIT_FAILURE, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def new_app(name: str, description: str) -> typer.Typer:
    """A command line in the house style: plain help, no tracebacks of its own."""
    return typer.Typer(
        name=name,
        help=description,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=True,
    )


def run_app(app: typer.Typer) -> NoReturn:
    """Run a command line and exit: 0 done, 1 failed in one line, 2 wrong usage, 130 interrupted.

    SIGTERM, and SIGHUP of a closed terminal, unwind like Ctrl-C, so that every `finally` mutes. Linear algebra gets one
    thread, unless the environment says otherwise.
    """
    interrupts.install()
    for library in ("OPENBLAS", "MKL", "OMP"):
        # before NumPy is loaded; our matrices are small, and threads that wait for a busy core cost up to fourfold
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    try:
        code = app(standalone_mode=False)
    except IsacError as exc:
        fail(str(exc), EXIT_FAILURE)
    except (KeyboardInterrupt, typer.Abort):
        fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output is gone; no complaint about it
        sys.exit(EXIT_FAILURE)
    except OSError as exc:
        # a safety net: what is foreseen says where and what to do
        fail(f"{exc.filename}: {exc.strerror}" if exc.filename and exc.strerror else str(exc), EXIT_FAILURE)
    except Exception as exc:
        show = getattr(exc, "show", None)  # click's usage errors print themselves
        if show is None:
            raise
        show()
        sys.exit(EXIT_USAGE)
    if code == EXIT_INTERRUPTED:  # what typer makes of a KeyboardInterrupt
        fail("interrupted", EXIT_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def fail(message: str, code: int) -> NoReturn:
    """End with one line on standard error."""
    with contextlib.suppress(OSError):  # after SIGHUP there may be no terminal to print on
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
