"""The Hugging Face Hub: publishing and downloading model folders, polling a branch, model cards."""

from classifier.hub.following import Follower
from classifier.hub.publishing import Publication, publish
from classifier.hub.pulling import ModelNotFoundError, ResolvedModel, pull
from classifier.hub_client import HubError

__all__ = [
    "Follower",
    "HubError",
    "ModelNotFoundError",
    "Publication",
    "ResolvedModel",
    "publish",
    "pull",
]
