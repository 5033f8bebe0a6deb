"""Looks at the files of TLS on a machine of a cluster, in the process that starts HAProxy there
(``environment.BESIDE_HAPROXY``).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from deployments.ingress.tls.copies import LOOK_S, CertificateWatch
from deployments.ingress.tls.files import TlsFiles
from deployments.ray_support.environment import TLS_FILES

logger = logging.getLogger("wakeful.tls")


async def watch(folder: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Have HAProxy take files that change, for as long as the caller lives; return at once where
    HTTP is in the clear.

    Args:
        folder: HAProxy's.
    """
    files = TlsFiles.from_json(environ.get(TLS_FILES, ""))
    if files is None:
        return
    looking = CertificateWatch(folder)
    while True:
        try:
            await asyncio.to_thread(looking.look, files, logger.warning)
        except Exception:  # of a disk or of HAProxy; the next look does it again
            logger.warning("certificates are not looked at.", exc_info=True)
        await asyncio.sleep(LOOK_S)
