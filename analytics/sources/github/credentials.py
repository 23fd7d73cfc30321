"""A token or a GitHub App as PyGithub wants it; the secret is read when it is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import jwt
import requests
from github import Auth, Github, GithubException
from urllib3.util.retry import Retry

from analytics.errors import SourceError
from analytics.secrets import Secret, scrub
from analytics.settings import GitHubSource


@dataclass(frozen=True)
class Credential:
    """Who asks: a token, or an installation of an app. Each call of `auth` gives a new object, for one thread."""

    token: Secret | None
    app_id: int | None
    installation_id: int | None
    private_key: Secret | None
    base_url: str

    @property
    def reference(self) -> str:
        """Where the secret comes from, in words that hold no secret."""
        if self.token is not None:
            return f"the token of {self.token.reference}"
        assert self.private_key is not None
        return f"app {self.app_id} with the private key of {self.private_key.reference}"

    @property
    def counted_as(self) -> str:
        """Whose requests GitHub counts together: a token's, or those of one installation."""
        return self.reference if self.token is not None else f"installation {self.installation_id}: {self.reference}"

    def auth(self) -> Auth.Auth:
        """For one client; raises SourceError where the secret is not there, or is none."""
        if self.token is not None:
            value = self.token.reveal()
            # Else the HTTP library refuses the header, and its words repeat it.
            if not value.isascii() or not value.isprintable() or " " in value:
                raise SourceError(f"{self.reference} holds characters that no token has", fix="Copy the token again.")
            return Auth.Token(value)
        assert self.app_id is not None
        assert self.installation_id is not None
        app = Auth.AppAuth(self.app_id, self._key())
        try:
            app.create_jwt()
        except (jwt.PyJWTError, ValueError, TypeError):
            raise SourceError(
                f"{self.reference} cannot sign: that is no private key in PEM form",
                fix="Download a private key in the app's settings and refer to it as file:PATH.",
            ) from None
        return app.get_installation_auth(self.installation_id)

    def live_token(self, auth: Auth.Auth) -> str:
        """The token that a client's next request carries; an app's is fetched, and renewed each hour.

        Raises SourceError where GitHub gives the app none.
        """
        try:
            return str(auth.token)
        except GithubException as error:
            message = error.data.get("message") if isinstance(error.data, dict) else None
            raise SourceError(
                f"GitHub gives no token to installation {self.installation_id} of {self.reference} "
                f"(status {error.status}): {scrub(str(message), self.secrets())[:200]}",
                fix="Check `app.id`, `app.installation_id` and that the private key belongs to the app.",
            ) from None
        except requests.RequestException as error:
            raise SourceError(
                f"GitHub cannot be reached: {scrub(str(error), self.secrets())[:500]}",
                where=self.base_url,
                fix="Check the network and `base_url`.",
            ) from None

    def git_token(self) -> str:
        """A token with which git may read over HTTPS; raises what `auth` and `live_token` raise."""
        auth = self.auth()
        # The client is what fetches an app's token.
        with Github(auth=auth, base_url=self.base_url, retry=Retry(total=3, respect_retry_after_header=False)):
            return self.live_token(auth)

    def secrets(self) -> list[str]:
        """What must not be printed; a reference that gives nothing has nothing to hide."""
        values = []
        for secret in (self.token, self.private_key):
            try:
                values += [secret.reveal()] if secret is not None else []
            except SourceError:
                continue
        return values

    def _key(self) -> str:
        assert self.private_key is not None
        # A variable often holds the key on one line.
        return self.private_key.reveal().replace("\\n", "\n")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a credential is not pickled")


def credential_of(source: GitHubSource) -> Credential:
    """The credential of a configured source."""
    app = source.app
    return Credential(
        source.token,
        app.id if app else None,
        app.installation_id if app else None,
        app.private_key if app else None,
        source.base_url,
    )
