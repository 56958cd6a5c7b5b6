"""The pages and their files: waiting room, console, OpenAPI document and its reader. All of it is served from here.

The files are read once at start. The page of a sale is the same bytes for every sale: it learns from its address
which one it is, so a cache in front can keep it. Nothing on a page runs that is not a file of ours (strict CSP).
"""

import gzip
import mimetypes
from hashlib import blake2b
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from litestar import Response, get
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from gateway.answers import AnyRequest
from gateway.board import Board
from gateway.openapi import OPT, Doc
from gateway.problems import Problem

_HTML: Final = "text/html; charset=utf-8"
_PAGE_AGE: Final = "public, max-age=60"
_FILE_AGE: Final = "public, max-age=60"


def policy(*, notifier_url: str, scripts_style: bool = False) -> str:
    """The Content-Security-Policy of a page: our files, our API, the notifier's WebSocket, nothing else."""
    at = urlsplit(notifier_url)
    style = "style-src 'self' 'unsafe-inline'" if scripts_style else "style-src 'self'"
    return (
        f"default-src 'none'; script-src 'self'; {style}; img-src 'self' data:; font-src 'self'; "
        f"connect-src 'self' {at.scheme}://{at.netloc}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


class File(NamedTuple):
    """One of them; ``packed`` is it with gzip, where that is smaller."""

    body: bytes
    packed: bytes | None
    kind: str
    etag: str


class Files:
    """The files below ``static``, in memory, by their path."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        self._read(files("gateway") / "static", "")

    def _read(self, folder: Traversable, path: str) -> None:
        for each in folder.iterdir():
            if each.is_dir():
                self._read(each, f"{path}{each.name}/")
                continue
            body = each.read_bytes()
            kind = mimetypes.guess_type(each.name)[0] or "application/octet-stream"
            packed = gzip.compress(body, mtime=0)
            etag = f'"{blake2b(body, digest_size=9).hexdigest()}"'
            self._files[path + each.name] = File(body, packed if len(packed) < len(body) else None, kind, etag)

    def answer(
        self, request: AnyRequest, path: str, *, age: str = _FILE_AGE, status: int = 200, policy: str | None = None
    ) -> Response[bytes]:
        """A file, or 304 for one that the client has; raises ``Problem`` where there is none."""
        found = self._files.get(path)
        if found is None:
            raise Problem("not_found")
        headers = {"cache-control": age, "etag": found.etag, "vary": "accept-encoding"}
        if policy is not None:
            headers["content-security-policy"] = policy
        if status == 200 and found.etag in request.headers.get("if-none-match", ""):  # noqa: PLR2004
            return Response(b"", status_code=304, headers=headers, media_type=found.kind)
        body = found.body
        if found.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            body, headers["content-encoding"] = found.packed, "gzip"
        return Response(body, status_code=status, headers=headers, media_type=found.kind)


def _doc(summary: str, kind: str, problems: tuple[str, ...] = (), *, no_such: str = "") -> dict[str, Doc]:
    return {
        OPT: Doc(
            tag="pages",
            summary=summary,
            who="anybody",
            answers={
                200: (kind, "the page"),
                304: (None, "the client has it"),
                **({404: (kind, no_such)} if no_such else {}),
            },
            problems=problems,
        )
    }


def pages(board: Board, *, notifier_url: str) -> list[ControllerRouterHandler]:
    """The routes."""
    static = Files()
    strict = policy(notifier_url=notifier_url)

    @get("/room/{sale_id:str}", opt=_doc("The waiting room of a sale", _HTML, no_such="a page that says so"))
    async def show_room(request: AnyRequest, sale_id: FromPath[str]) -> Response[bytes]:
        try:
            known = await board.sale(sale_id) is not None
        except Exception:  # noqa: BLE001 - the page itself tells what is wrong, and tries again
            known = True
        if known:
            return static.answer(request, "room.html", age=_PAGE_AGE, policy=strict)
        return static.answer(request, "no-room.html", age="no-store", status=404, policy=strict)

    @get("/console", opt=_doc("The operators' console", _HTML))
    async def show_console(request: AnyRequest) -> Response[bytes]:
        return static.answer(request, "console.html", age=_PAGE_AGE, policy=strict)

    @get("/docs", opt=_doc("The OpenAPI document, to read and try", _HTML))
    async def show_docs(request: AnyRequest) -> Response[bytes]:
        lenient = policy(notifier_url=notifier_url, scripts_style=True)  # the reader sets styles from its script
        return static.answer(request, "docs.html", age=_PAGE_AGE, policy=lenient)

    @get("/static/{path:path}", opt=_doc("The files of the pages", "*/*", ("not_found",)))
    async def show_file(request: AnyRequest, path: FromPath[str]) -> Response[bytes]:
        return static.answer(request, path.lstrip("/"))

    @get("/favicon.ico", opt=_doc("The mark", "image/svg+xml"))
    async def show_mark(request: AnyRequest) -> Response[bytes]:
        return static.answer(request, "mark.svg")

    return [show_room, show_console, show_docs, show_file, show_mark]
