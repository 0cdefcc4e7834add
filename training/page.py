"""Makes one web page that holds everything it shows. A title and the parts of a body in, an HTML document out.

Note [Pages]
    One file without scripts and without anything from elsewhere: pictures and curves lie inside it, so that it can be
    sent on, and what comes out of files - names, figures, tags - is escaped, because a set or a run may come from a
    stranger. It serves light and dark screens, wide ones and phones.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable

import cv2

from realtime.frame import ImageU8


def page(title: str, body: str, style: str = "") -> str:
    """The document; `title` is plain text, `body` is HTML, `style` CSS beyond that of all pages."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}</title><style>{_CSS}{style}</style></head><body><main>
{body}
</main></body></html>
"""


def escape(value: object) -> str:
    """Text that says what it says, and nothing to a browser."""
    return html.escape(str(value))


def tiles(figures: Iterable[tuple[str, str, str]]) -> str:
    """Large figures side by side: title, figure and meaning each, plain text; nothing where there is none."""
    drawn = "".join(
        f"<div><b>{escape(title)}</b><strong>{escape(figure)}</strong><span>{escape(meaning)}</span></div>"
        for title, figure, meaning in figures
    )
    return f'<section class="tiles">{drawn}</section>' if drawn else ""


def facts(rows: Iterable[tuple[str, object]]) -> str:
    """A table of names and values, plain text."""
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def figure(caption: str, picture: str) -> str:
    """A picture (HTML) under its title (plain text); nothing without a picture."""
    return f"<figure><figcaption>{escape(caption)}</figcaption>{picture}</figure>" if picture else ""


def embed_file(data: bytes, kind: str, alt: str) -> str:
    """An image of bytes; `kind` is png or jpeg."""
    return f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def embed_picture(image: ImageU8, alt: str, *, quality: int = 85) -> str:
    """An image of (H, W, 3) BGR pixels, as JPEG."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return embed_file(data.tobytes(), "jpeg", alt)


_CSS = """
:root{color-scheme:light dark;--ink:#1c2126;--soft:#5b6670;--page:#fff;--card:#f3f5f7}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ec;--soft:#9aa6b1;--page:#14181c;--card:#1f252b}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1240px;margin:0 auto;padding:20px}h1{margin:0 0 8px}h1 small{color:var(--soft);font-weight:400}
h2{margin:32px 0 8px}.verdict{font-size:1.15em;margin:0 0 16px}.note{color:var(--soft);margin:0 0 8px}
section{display:flex;flex-wrap:wrap;gap:14px}.tiles div{flex:1 1 200px}
.tiles div,figure{background:var(--card);border-radius:8px;padding:12px;margin:0}
.tiles strong{display:block;font-size:1.7em;line-height:1.3}.tiles span,figcaption{color:var(--soft);font-size:.86em}
svg,img{display:block;width:100%;height:auto}table{border-collapse:collapse}
th{text-align:left;font-weight:600;padding:4px 16px 4px 0;vertical-align:top;white-space:nowrap}
td{overflow-wrap:anywhere}
"""
