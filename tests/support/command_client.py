"""Has the server of `warm_commands` run a command and ends as it ends; with `-S -E` it starts in no time.

Arguments: the server's socket, then those of `ctcd`.
"""

import json
import os
import signal
import socket
import sys


def main() -> int:
    """Pass on arguments, environment, folder and output; return the command's exit code."""
    _, path, *arguments = sys.argv
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.connect(path)
        request = json.dumps({"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}).encode()  # noqa: PTH109 - importing pathlib would take most of the time
        socket.send_fds(server, [len(request).to_bytes(8, "big")], [1, 2])
        server.sendall(request)
        with server.makefile() as answer:
            pid = int(answer.readline())
            # What ends this process ends the command: the server sees that it is gone, but it may be asked politely.
            signal.signal(signal.SIGTERM, lambda number, _: os.kill(pid, number))
            code = int(answer.readline())
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main())
