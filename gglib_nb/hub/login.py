"""Logging in: checks the token with the hub and stores it for all programs of the user, as `hf auth login` does.

`huggingface_hub.login` checks it without our certificates, proxies and time limits, and only at its own `HF_ENDPOINT`.
"""

from gglib_nb.domain.hub_answers import Asked
from gglib_nb.domain.text import printable
from gglib_nb.errors import InvalidConfigError, InvalidTokenError
from gglib_nb.hub.errors_map import reading
from gglib_nb.hub.transport import BRIEF, Transport

_TOKENS_PAGE = "https://huggingface.co/settings/tokens"
_ACCOUNT = "/api/whoami-v2"


def log_in(hub: Transport, token: str) -> None:
    """Check a token with the hub and store it; no error quotes it.

    Raises:
        InvalidTokenError: The hub does not accept it; nothing is stored.
        InvalidConfigError: The folder of logins cannot be written, or huggingface_hub is too new.
        GglibError: The hub cannot be asked, as for every call of `HubClient`; nothing is stored.
    """
    try:  # there is no public way to store a token that was checked
        from huggingface_hub._login import _set_active_token
        from huggingface_hub.utils._auth import _save_token
    except ImportError:
        raise InvalidConfigError(
            "This version of huggingface_hub stores tokens in an unknown way. Run hf auth login in a terminal."
        ) from None
    if not (token := token.strip()):
        raise InvalidTokenError(f"No token was given. Create one on {_TOKENS_PAGE}.")
    try:
        account = hub.beside(hub.endpoint, token, BRIEF).json(_ACCOUNT, Asked(hub.endpoint, path=_ACCOUNT))
    except InvalidTokenError:
        raise InvalidTokenError(
            f"The Hub does not accept this token. Copy it again, or create one on {_TOKENS_PAGE}."
        ) from None
    with reading():
        name = ((account.get("auth") or {}).get("accessToken") or {}).get("displayName") or account["name"]
    # It becomes the heading of a section in an INI file, where DEFAULT has a meaning of its own.
    name = " ".join(printable(str(name)).split()).replace("DEFAULT", "default") or "token"
    try:
        _save_token(token, name)
        _set_active_token(name, add_to_git_credential=False)
    except OSError as error:
        raise InvalidConfigError(
            f"The Hub accepts the token, but it cannot be stored: {error.filename} cannot be written "
            f"({error.strerror}). Set HF_HOME to a folder that you can write, restart the kernel and log in again; "
            "or set HF_TOKEN."
        ) from None
