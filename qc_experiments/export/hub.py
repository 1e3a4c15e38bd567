"""An export on the hub."""

from __future__ import annotations

from pathlib import Path

from qc_experiments.errors import UserError, in_one_line


def push(folder: Path, repository: str) -> str:
    """Upload a folder as a private repository, which its owner makes public; says where it is.

    Raises:
        UserError: if there is no login, no network, or no right to write there.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    failed = f"--push {repository}"
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    except HFValidationError:
        raise UserError(f"{failed}: is no name of a repository (owner/name)") from None
    except HfHubHTTPError as error:
        code = error.response.status_code
        advice = "log in with hf auth login" if code == 401 else "may you write there?"
        raise UserError(f"{failed}: the hub refuses it (status {code}): {advice}") from None
    except (
        Exception
    ) as error:  # of the library's own client, which is another one every few versions
        reason = in_one_line(error)
        raise UserError(f"{failed}: the hub cannot be used ({reason}); {folder} is kept") from error
    return f"{api.endpoint}/{repository}"
