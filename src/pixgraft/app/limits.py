"""What the server refuses before the page's own code sees it: other addresses, large requests, paths that are URLs.

An ASGI middleware. Nothing that a browser is sent may load or be sent anywhere else: the headers say so.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from pixgraft.app.actions import UPLOAD_LIMIT

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

REQUEST_LIMIT = 2**20
"""Bytes of a request that is no upload."""
FORM_EXTRA = 2**16
"""Bytes of an upload's form besides the file."""
STORED_LIMIT = 2**30
"""Bytes of all uploads and results at a time."""
SHARED = ".gradio.live"
"""End of the names under which --share publishes."""
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: "
        "blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}  # fmt: skip
SANDBOXED = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:"
"""The policy of files that people gave: one that is opened by its address runs nothing."""


class Limits:
    """The application behind these limits."""

    def __init__(self, app: Any, *, folder: Path, share: bool) -> None:
        self.app, self.folder, self.share = app, folder, share

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"]

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = HEADERS | ({"content-security-policy": SANDBOXED} if "/file=" in path else {})
                names = {name.encode() for name in ours}
                others = [each for each in message.get("headers", []) if each[0].lower() not in names]
                message["headers"] = [*others, *((name.encode(), text.encode()) for name, text in ours.items())]
            await send(message)

        headers = {name.decode("latin-1").lower(): text.decode("latin-1") for name, text in scope["headers"]}
        body = b""
        try:
            self._check_address(headers.get("host", ""), path)
            if scope["method"] == "POST" and path.endswith("/upload"):
                self._check_upload(headers.get("content-length", ""))
            elif scope["method"] not in ("GET", "HEAD", "OPTIONS"):
                body = await _body(receive)
                _check_paths(body)
                receive = _once(body, receive)
        except _RefusalError as refused:
            await _answer(sent, refused.status, str(refused))
            return
        await self.app(scope, receive, sent)

    def _check_address(self, host: str, path: str) -> None:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name not in ("127.0.0.1", "localhost", "[::1]") and not (self.share and name.endswith(SHARED)):
            raise _RefusalError(421, "this page is at 127.0.0.1 alone")
        for marker in ("/file=", "/proxy=", "/file/"):
            _, found, rest = path.partition(marker)
            if found and ("://" in rest or marker == "/proxy=" or rest.lower().startswith(("http:", "https:", "//"))):
                raise _RefusalError(403, "no address: nothing is fetched from elsewhere")

    def _check_upload(self, length: str) -> None:
        if not length.isdigit() or int(length) > UPLOAD_LIMIT + FORM_EXTRA:
            raise _RefusalError(413, f"a file of more than the {UPLOAD_LIMIT:,} bytes allowed: shrink it")
        stored = sum(each.stat().st_size for each in self.folder.rglob("*") if each.is_file())
        if stored + int(length) > STORED_LIMIT:
            raise _RefusalError(507, "too many files for now: try again in some minutes")


class _RefusalError(Exception):
    """The status and the line of a refusal."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


async def _body(receive: Receive) -> bytes:
    """All of a request. Raises _RefusalError for a large one."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _RefusalError(400, "the request was cut short")
        body += message.get("body", b"")
        if len(body) > REQUEST_LIMIT:
            raise _RefusalError(413, f"a request of more than the {REQUEST_LIMIT:,} bytes allowed")
        if not message.get("more_body"):
            return bytes(body)


def _once(body: bytes, receive: Receive) -> Receive:
    """`receive` that gives a body which was read already, and then what else comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def _check_paths(body: bytes) -> None:
    """Raise _RefusalError if a file's path is a URL, which would be fetched."""
    try:
        values = [json.loads(body or b"null")]
    except (ValueError, RecursionError):
        return  # no JSON is no request of the page's; what lies behind says so
    while values:
        value = values.pop()
        if isinstance(value, dict):
            path = value.get("path")
            if isinstance(path, str) and ("://" in path or path.lower().startswith(("http:", "https:", "//"))):
                raise _RefusalError(403, "a file's path is an address: give the file itself")
            values += value.values()
        elif isinstance(value, list):
            values += value


async def _answer(send: Send, status: int, line: str) -> None:
    body = json.dumps({"detail": line, "error": line}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})
    await asyncio.sleep(0)
