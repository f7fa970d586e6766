"""Serves the worker's page from EC2 or Heroku, with our own router (docs/mturk.md)."""

from __future__ import annotations

from urllib.parse import urlsplit

from mephisto.abstractions.architects.ec2.ec2_architect import EC2Architect, EC2ArchitectArgs
from mephisto.abstractions.architects.heroku_architect import HerokuArchitect, HerokuArchitectArgs
from mephisto.operations.registry import register_mephisto_abstraction

from model_chat.router.own_router import OwnRouter, router_source

PROXIES = 1
"""Amazon's load balancer, or Heroku's router, which says from where a request comes."""


class HostedRouter(OwnRouter):
    """Gives Mephisto our router to build, with its key in a file beside it: such a server's environment isn't ours."""

    def _hosts(self) -> list[str]:
        """The names under which the page is asked for."""
        return [str(urlsplit(url).hostname) for url in self._get_socket_urls()]

    def prepare(self) -> str:
        """Build the folder that is sent to the server; return it."""
        if not self.has_own_router:
            other: str = super().prepare()  # type: ignore[misc]  # of the architect that this is mixed into
            return other
        # The host's addresses, and thus the machine's, are not known before: it listens on all of them.
        settings = {"key": self._key, "proxies": PROXIES, "bind": "", "hosts": self._hosts()}
        with router_source(settings=settings) as source:
            self.server_source_path = str(source)
            try:
                built: str = super().prepare()  # type: ignore[misc]  # likewise
            finally:
                self.server_source_path = None
        return built


@register_mephisto_abstraction()
class TaskEC2Architect(HostedRouter, EC2Architect):
    """Mephisto's architect ``ec2``, in whose place it is registered, with our router."""

    ArgsClass = EC2ArchitectArgs
    ARCHITECT_TYPE = "ec2"


@register_mephisto_abstraction()
class TaskHerokuArchitect(HostedRouter, HerokuArchitect):
    """Mephisto's architect ``heroku``, in whose place it is registered, with our router."""

    ArgsClass = HerokuArchitectArgs
    ARCHITECT_TYPE = "heroku"
