"""Asks the server of `warm_commands` for a verb and ends as it ended; started with `-S -E`, it costs next to nothing.

Its arguments: the server's socket, then those of `ctcd`.
"""

import json
import os
import signal
import socket
import sys


def main() -> int:
    """Hand on arguments, environment, folder and output; return the verb's exit code."""
    _, path, *arguments = sys.argv
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.connect(path)
        asked = json.dumps({"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}).encode()  # noqa: PTH109 - pathlib would be most of the start
        socket.send_fds(server, [len(asked).to_bytes(8, "big")], [1, 2])
        server.sendall(asked)
        with server.makefile() as said:
            pid = int(said.readline())
            # What ends this process ends the verb.
            signal.signal(signal.SIGTERM, lambda number, _: os.kill(pid, number))
            code = int(said.readline())
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main())
