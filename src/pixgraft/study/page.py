"""The page that raters are given: one HTML file that asks nothing of a network, and names no row and no image."""

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).with_name("page.html")


def page(content: dict[str, Any]) -> str:
    """The page of a study; `content` has the fields that the template's script reads.

    Its policy lets the browser run the template's own script alone, and load nothing but the pictures.
    """
    template = TEMPLATE.read_text(encoding="utf-8")
    script = template.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "policy": "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'unsafe-inline'; "
        f"img-src data: 'self' file:; script-src 'sha256-{digest}'",
        "title": html.escape(content["title"]),
        "content": json.dumps(content).replace("<", "\\u003c"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)
