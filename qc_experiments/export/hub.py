"""An export on the hub."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qc_experiments.errors import UserError, in_one_line


def check_push(repository: str) -> None:
    """See, before there is anything to upload, that a repository can be called so and who uploads it.

    Raises:
        UserError: if it cannot, or there is no login or no network.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    with _told(repository):
        if "/" not in repository:
            raise UserError(f"--push {repository}: names no owner (owner/name)")
        validate_repo_id(repository)
        HfApi().whoami()


def push(folder: Path, repository: str) -> str:
    """Upload a folder as a private repository, which its owner makes public; says where it is.

    Raises:
        UserError: if there is no network, or no right to write there.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with _told(repository, f"; {kept(folder, repository)}"):
        api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    return f"{api.endpoint}/{repository}"


def kept(folder: Path, repository: str) -> str:
    """How a folder that was not uploaded can be."""
    command = shlex.join(["hf", "upload", "--private", repository, str(folder)])
    return f"{folder} is kept, and uploaded with {command}"


@contextmanager
def _told(repository: str, after: str = "") -> Iterator[None]:
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
    )

    failed, login = f"--push {repository}", "log in with hf auth login"
    try:
        yield
    except UserError:
        raise
    except HFValidationError:
        raise UserError(f"{failed}: is no name of a repository (owner/name){after}") from None
    except LocalTokenNotFoundError:
        raise UserError(f"{failed}: nobody is logged in: {login}{after}") from None
    except HfHubHTTPError as error:
        code = error.response.status_code
        advice = login if code == 401 else "may you write there?"
        raise UserError(f"{failed}: the hub refuses it (status {code}): {advice}{after}") from None
    except (
        Exception
    ) as error:  # of the library's own client, which is another one every few versions
        reason = in_one_line(error)
        raise UserError(f"{failed}: the hub cannot be used ({reason}){after}") from error
