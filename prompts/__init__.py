"""Histories as text: Jinja templates, windows under a token budget, profiles. Knows nothing of models or training."""

from .context import context_frame
from .encoder import EncodedWindow, HistoryText, PromptEncoder, identity_of
from .settings import PromptSettings
from .templates import TemplateSet, load_templates
from .windows import Windows, plan_windows

__all__ = [
    "EncodedWindow", "HistoryText", "PromptEncoder", "PromptSettings", "TemplateSet", "Windows",
    "context_frame", "identity_of", "load_templates", "plan_windows",
]  # fmt: skip
