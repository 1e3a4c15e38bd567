"""Whether the model hub answers: asked once, since its library tries for most of a minute each time."""

from __future__ import annotations

from functools import cache

SECONDS = 5.0
"""How long the hub may take to answer at all."""
UNREACHABLE = (502, 503, 504)
"""What a proxy answers in the hub's place."""


@cache
def hub_problem() -> str | None:
    """Why the hub cannot be asked, so that only what is cached can be used; None if it answers."""
    from huggingface_hub import constants, get_session, is_offline_mode

    if is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    try:
        status = get_session().head(constants.ENDPOINT, timeout=SECONDS).status_code
    except (
        Exception
    ) as error:  # of the library's own client, which is another one every few versions
        reason = str(error) or type(error).__name__
    else:
        if status not in UNREACHABLE:
            return None
        reason = f"status {status}"
    return f"{constants.ENDPOINT} does not answer: {reason}"
