"""The page at `/`: one document, its style and script inside it, and nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from starlette.responses import Response

_FOLDER = Path(__file__).parent


def page() -> Response:
    """The page, with a policy by which a browser runs this script, uses this style, and asks this server alone."""
    html, style, script = (
        (_FOLDER / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
    )
    policy = "; ".join(
        [
            "default-src 'none'",
            f"style-src '{_digest(style)}'",
            f"script-src '{_digest(script)}'",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ]
    )
    text = html.replace("/* style */", style).replace("/* script */", script)
    return Response(text, media_type="text/html", headers={"Content-Security-Policy": policy})


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
