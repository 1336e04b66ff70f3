"""The steps of an attribution, and where they run: in memory, or in tasks on disk by any number of processes."""

from infra.influence.steps.disk import OnDisk, each_shard
from infra.influence.steps.memory import InMemory
from infra.influence.steps.settings import ModelSettings

__all__ = ["InMemory", "ModelSettings", "OnDisk", "each_shard"]
