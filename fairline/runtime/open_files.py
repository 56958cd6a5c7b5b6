"""How many connections the limit of open files leaves room for."""

import contextlib
import resource
from typing import Final

from fairline.runtime import logs

FILES_BESIDE: Final = 128  # servers, health, logs, and connections that are only there to be refused


def most_connections(wanted: int) -> int:
    """How many connections the limit of open files allows, at most those wanted. Raises the soft limit if need be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + FILES_BESIDE
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    most = max(1, soft - FILES_BESIDE)
    logs.get(__name__).warning("fewer connections than wanted: raise the limit of open files", wanted=wanted, most=most)
    return most
