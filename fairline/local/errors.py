"""What can go wrong with the local stack, each said in one sentence that tells what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StackError(Exception):
    """The stack cannot do what was asked; the text is one sentence for the person who asked."""


class MissingError(StackError):
    """Something that has to be installed is not."""


def full_disk(folder: Path) -> StackError:
    """The sentence for a disk without room, wherever it was noticed."""
    return StackError(
        f"The disk that holds {folder} is full: free some space there, or name a folder on another disk with --data."
    )


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the operating system says about a folder into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise full_disk(folder) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise StackError(
                f"{folder} cannot be written ({error.strerror}): give yourself the right to it, "
                "or name another folder with --data."
            ) from error
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}:
            raise StackError(f"{folder} cannot be a folder ({error.strerror}): name another with --data.") from error
        raise
