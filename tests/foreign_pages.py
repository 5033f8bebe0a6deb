"""Requests as browsers send them for pages of this site, and of others."""

from __future__ import annotations

APP, OTHER = "https://app.example", "https://other.example"

OWN, FAR = {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "cross-site"}
LINK = {**FAR, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
AT_HOST = {"host": "here:8000"}

FOREIGN = [
    ("POST", "/v2/models/f", {}, False),
    ("POST", "/v2/models/f", OWN, False),
    ("POST", "/v2/models/f", {"sec-fetch-site": "none"}, False),
    ("POST", "/v2/models/f", FAR, True),
    ("POST", "/v2/models/f", {"sec-fetch-site": "same-site"}, True),
    ("POST", "/v2/models/f", {"sec-fetch-site": "what"}, True),
    ("POST", "/v2/models/f", {**FAR, "origin": APP}, False),
    ("POST", "/v2/models/f", {**FAR, "origin": OTHER}, True),
    ("POST", "/v2/models/f", LINK, True),
    ("GET", "/v2/models/f", LINK, True),
    ("GET", "/", LINK, False),
    ("HEAD", "/docs", LINK, False),
    ("GET", "/console", LINK, False),
    ("GET", "/console/session", LINK, True),
    ("GET", "/", FAR, True),
    ("POST", "/", LINK, True),
    ("GET", "/v2/models/f", {**FAR, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, True),
    ("OPTIONS", "/v2/models/f", {**FAR, "origin": OTHER}, False),
    ("POST", "/v2/models/f", {**AT_HOST, "origin": "http://here:8000"}, False),
    ("POST", "/v2/models/f", {**AT_HOST, "origin": "https://HERE:8000"}, False),
    ("POST", "/v2/models/f", {**AT_HOST, "origin": "http://here"}, True),
    ("POST", "/v2/models/f", {**AT_HOST, "origin": "http://here:8000.evil"}, True),
    ("POST", "/v2/models/f", {**AT_HOST, "origin": "null"}, True),
    ("POST", "/v2/models/f", {**AT_HOST, "origin": ""}, True),
    ("POST", "/v2/models/f", {**AT_HOST, "origin": "http://"}, True),
    ("POST", "/v2/models/f", {"origin": "http://here:8000"}, True),
    ("POST", "/v2/models/f", {**AT_HOST, "origin": APP}, False),
    (
        "POST",
        "/v2/models/f",
        {**AT_HOST, "origin": "https://outer", "x-forwarded-host": "outer"},
        False,
    ),
    ("POST", "/v2/models/f", {**AT_HOST, **OWN, "origin": "https://outer"}, False),
]
"""Method, path, headers, and whether the request is another site's page's, which may not call; where
``APP`` may.
"""
