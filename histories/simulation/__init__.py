"""Simulated towns: data whose choice model, and so whose best possible figures, are known."""

from .scenes import SCENES, SceneName
from .town import TownSettings
from .writing import simulate

__all__ = ["SCENES", "SceneName", "TownSettings", "simulate"]
