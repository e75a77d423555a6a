"""Logging in: huggingface_hub checks the token with the Hub and stores it for all programs of the user."""

from gglib_nb.domain.text import redacted
from gglib_nb.errors import HubUnavailableError, InvalidConfigError, InvalidTokenError


def log_in(token: str) -> None:
    """Check a token with the Hub and store it as `hf auth login` does; no error quotes it.

    Raises:
        InvalidTokenError: The Hub does not accept it; nothing is stored.
        InvalidConfigError: The folder of logins cannot be written.
        HubUnavailableError: The Hub cannot be reached; nothing is stored.
    """
    import huggingface_hub

    if not token.strip():
        raise InvalidTokenError("No token was given. Create one on https://huggingface.co/settings/tokens.")
    try:
        huggingface_hub.login(token=token.strip(), add_to_git_credential=False)
    except Exception as error:  # noqa: BLE001 - of requests or httpx, as the version has it
        if isinstance(error, OSError) and error.filename:  # after the check
            raise InvalidConfigError(
                f"The Hub accepts the token, but it cannot be stored: {error.filename} cannot be written ({error.strerror}). "
                "Set HF_HOME to a folder that you can write, restart the kernel and log in again; or set HF_TOKEN."
            ) from None
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, ValueError) or status in (401, 403):
            raise InvalidTokenError(
                "The Hub does not accept this token. Copy it again, or create one on https://huggingface.co/settings/tokens."
            ) from None
        reason = redacted(str(error)).splitlines()[0][:200] if str(error) else type(error).__name__
        raise HubUnavailableError(f"The token could not be checked ({reason}). Try again later.") from None
