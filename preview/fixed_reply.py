"""The model of the preview, which always gives the same reply, also about images."""

from __future__ import annotations

from parlai.agents.fixed_response.fixed_response import FixedResponseAgent


class FixedReplyAgent(FixedResponseAgent):
    """Gives the reply of ``fixed_response`` in its options, and says that it takes the images that it does not look at."""

    takes_images = True
