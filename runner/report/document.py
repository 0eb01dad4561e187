"""A self-contained page: one HTML file with its styles, scripts, data and library, that asks the network for nothing.

Data and library are compressed by gzip and unpacked by the browser. A content security policy allows the page's own
scripts alone, by their hashes, and no connection.
"""

import base64
import functools
import gzip
import hashlib
import html
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import numpy as np

# The kinds of arrays that a page can hold, as numpy names them.
KINDS = ("f4", "f8", "i4", "u1", "u2", "u4")


@dataclass(frozen=True)
class Document:
    """A page, before it is written.

    Attributes:
        title: shown by the browser; plain text.
        body: markup; texts in it that are not ours go through `escaped`.
        script: JavaScript that declares `async function draw(data)`, called once the page has a size.
        data: what `draw` gets, as JSON; its numpy arrays arrive as typed arrays, other numbers that are not finite as
            null. Its keys are our own names.
        style: CSS in addition to that of every page.
        library: JavaScript that runs before `draw`, compressed by gzip.
        language: of the page, as HTML names it.
    """

    title: str
    body: str
    script: str
    data: Mapping[str, Any] = field(default_factory=dict)
    style: str = ""
    library: bytes | None = None
    language: str = "en"


def escaped(text: object) -> str:
    """Return a text as markup that shows it, in an attribute's value too."""
    return html.escape(str(text), quote=True)


def document(page: Document) -> str:
    """Return a page as HTML.

    Raises:
        ValueError: its script or style would end its element, or its data have an array of a kind that no page holds.
    """
    script = f"{page.script}\n{shipped('document.js')}"
    style = f"{shipped('document.css')}\n{page.style}"
    if "</script" in script.lower() or "<!--" in script or "</style" in style.lower():
        raise ValueError("a script or style would end its element")
    hashes = [_hash(script.encode())]
    library = ""
    if page.library is not None:
        hashes.append(_hash_of_library(page.library))
        library = f'\n<script type="text/plain" id="library">{_base64(page.library)}</script>'
    policy = (
        f"default-src 'none'; script-src {' '.join(hashes)}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="{escaped(page.language)}"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escaped(page.title)}</title>
<style>{style}</style></head><body>
{page.body}
<noscript><p>This page draws its figures by JavaScript, which is switched off.</p></noscript>
<script type="text/plain" id="data">{_base64(gzip.compress(packed(page.data), 9, mtime=0))}</script>{library}
<script>{script}</script>
</body></html>
"""


def shipped(name: str) -> str:
    """Return a text file of this folder."""
    return resources.files("runner.report").joinpath(name).read_text()


def packed(data: Mapping[str, Any]) -> bytes:
    """Return data as bytes: the length of the JSON, the JSON, and its arrays from multiples of 8 bytes on.

    Raises:
        ValueError: an array of another kind than `KINDS`.
    """
    arrays: list[dict[str, Any]] = []
    blocks: list[bytes] = []

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays.append({"kind": _kind(value), "at": sum(map(len, blocks)), "length": value.size})
            raw = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
            blocks.append(raw + bytes(-len(raw) % 8))
            return {"$array": len(arrays) - 1}
        if isinstance(value, np.generic):
            return plain(value.item())
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, Mapping):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [plain(item) for item in value]
        return value

    values = plain(data)
    text = json.dumps({"values": values, "arrays": arrays}, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 4) % 8)
    return struct.pack("<I", len(text)) + text + b"".join(blocks)


def _kind(array: "np.ndarray[Any, Any]") -> str:
    kind = f"{array.dtype.kind}{array.dtype.itemsize}"
    if kind not in KINDS:
        raise ValueError(f"an array of {array.dtype}, expected one of {', '.join(KINDS)}")
    return kind


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _hash(script: bytes) -> str:
    return f"'sha256-{_base64(hashlib.sha256(script).digest())}'"


@functools.cache
def _hash_of_library(library: bytes) -> str:
    return _hash(gzip.decompress(library))
