"""Become another program, as another user if need be, that dies when its parent dies.

Run as a script, never imported: ``python -I -S launch.py PARENT SIGNAL USER PROGRAM [ARGUMENT ...]``. It
stays small because it runs before every child; the interpreter starts in about 15 ms without site-packages.

PARENT is the process id that must still be the parent, SIGNAL what the kernel sends when it goes away, USER
``uid:gid`` or ``-``. The order matters: a change of user clears the parent-death signal, so that one is set
last; and a parent that died before it was set is noticed by looking at the parent afterwards.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, death_signal: int, user: str, program: list[str]) -> None:
    """Never returns: the program replaces this one, or the exit code says why not (127: no such program)."""
    os.umask(0o077)
    if user != "-":
        uid, gid = (int(part) for part in user.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)
    try:
        os.execvp(program[0], program)  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.stderr.write(f"{program[0]}: {error.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
