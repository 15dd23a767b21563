"""The Hugging Face Hub: publishing a model folder, pulling one, following a branch, the Space."""

from classifier.hub.following import Follower
from classifier.hub.publishing import Publication, publish
from classifier.hub.pulling import ModelNotFoundError, Pulled, pull
from classifier.hub_client import HubError

__all__ = [
    "Follower",
    "HubError",
    "ModelNotFoundError",
    "Publication",
    "Pulled",
    "publish",
    "pull",
]
