"""The Hugging Face Hub: publishing a model folder, pulling one, following a branch, the Space."""

from classifier.hub.connection import HubError, ModelNotFoundError
from classifier.hub.following import Follower
from classifier.hub.publishing import Publication, publish
from classifier.hub.pulling import Pulled, pull

__all__ = [
    "Follower",
    "HubError",
    "ModelNotFoundError",
    "Publication",
    "Pulled",
    "publish",
    "pull",
]
