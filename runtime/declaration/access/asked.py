"""Whether a server asks for keys. Decided once, when it starts, from the file, the flags, the
address that it listens on, and whether there is a key.
"""

from __future__ import annotations

from runtime.errors import WakefulError


class OpenToStrangers(WakefulError):
    """The server would answer whatever reaches it, and this was not asked for."""

    code = "open_to_strangers"
    fault = "operator"


def asks_for_keys(
    host: str, *, is_declared: bool, is_loopback: bool, has_keys: bool, is_insecure: bool
) -> bool:
    """Whether calls need a key.

    Args:
        host: address listened on, for the message.
        is_declared: the file has ``http.auth``.
        is_loopback: the address is reached from this machine alone.
        has_keys: the file of keys has one.
        is_insecure: ``--insecure`` was said.

    Raises:
        OpenToStrangers: beyond this machine without keys, or with flag and file against each other.
    """
    if is_declared:
        if is_insecure:
            raise OpenToStrangers(
                "`--insecure` would open what the file closes with `http.auth`. Leave the flag"
                " away, or delete the key."
            )
        return True
    if is_loopback or is_insecure:
        return False
    if has_keys:
        return True
    raise OpenToStrangers(
        f"{host} is reached from other machines, and there are no keys: whatever reaches it could"
        " call, load and unload functions. Make a key (`wakeful keys add NAME`), listen on"
        " 127.0.0.1, or say `--insecure` where something else keeps strangers out."
    )
