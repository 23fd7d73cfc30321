"""A token or a GitHub App as PyGithub wants it; the secret is read when it is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from github import Auth, GithubIntegration

from analytics.secrets import Secret
from analytics.settings import GitHubSource


@dataclass(frozen=True)
class Credential:
    """Who asks: a token, or an installation of an app. Each call of `auth` gives a new object, for one thread."""

    token: Secret | None
    app_id: int | None
    installation_id: int | None
    private_key: Secret | None
    base_url: str

    def auth(self) -> Auth.Auth:
        """For one client; raises SourceError where the secret is not there."""
        if self.token is not None:
            return Auth.Token(self.token.reveal())
        assert self.app_id is not None
        assert self.installation_id is not None
        assert self.private_key is not None
        app = Auth.AppAuth(self.app_id, self.private_key.reveal())
        installation = app.get_installation_auth(self.installation_id)
        # The requester that fetches, and renews, the installation's token.
        return installation.withRequester(GithubIntegration(auth=app, base_url=self.base_url).requester)

    def git_token(self) -> str:
        """A token with which git may read over HTTPS."""
        auth = self.auth()
        return str(auth.token)

    def secrets(self) -> list[str]:
        """What must not be printed."""
        return [secret.reveal() for secret in (self.token, self.private_key) if secret is not None]

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
