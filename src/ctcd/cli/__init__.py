"""The command line: the commands that workflows, DAGs and people call."""

import gc
import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["main"]


class _Output(io.FileIO):
    """A standard stream that nobody has to read to its end, as with `| head -1`: what comes after is dropped.

    After any other error, such as that of a full disk, it is dropped too, and `lost` is the error's number.
    """

    lost: int | None = None

    def write(self, data: "ReadableBuffer") -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.lost = error.errno
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return super().write(data) or 0


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code.

    This module imports only what the interpreter has loaded already: Ctrl-C has to end the other imports like all else.
    """
    # Imports make hundreds of thousands of objects that stay; to look through them took a sixth of a command's start.
    # A command that works for long turns the garbage collector on, see `ctcd.cli.app.SHORT`.
    gc.disable()
    try:
        _open_streams()
        from ctcd.cli.app import run
        from ctcd.errors import show_only_our_messages

        show_only_our_messages()
        code = run(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted; the command can be run again\n")
        code = 130
    # Nor does the interpreter look through them when it ends, which took a third of what a short command costs.
    gc.freeze()
    if (sys.argv[1:] if arguments is None else arguments)[:1] == ["consume"]:
        # A normal exit would wait for threads that a challenger has started, and these may hang.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _open_streams() -> None:
    """Make sure that standard input, output and error are open, whatever the caller closed (`>&-`)."""
    # Without this a file that is opened later, a database even, would become the standard output.
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the whole process
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        encoding, errors = (stream.encoding, stream.errors) if stream else ("utf-8", "backslashreplace")
        buffer = io.BufferedWriter(_Output(number, "w", closefd=False))
        text = io.TextIOWrapper(buffer, encoding, errors, line_buffering=number == 2 or os.isatty(number))
        setattr(sys, name, text)
