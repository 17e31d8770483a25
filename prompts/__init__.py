"""Histories as text: Jinja templates, windows under a token budget, profiles. Knows nothing of models or training."""

from .context import context_frame
from .encoder import EncodedWindow, HistoryText, PromptEncoder, features_of, identity_of
from .features import FEATURES, Features
from .kinds import CONTEXT_KINDS, ContextKind, columns_of, context_changes
from .settings import PromptSettings
from .templates import TemplateSet, load_templates
from .text_prompt import encode_text
from .windows import Windows, plan_windows

__all__ = [
    "CONTEXT_KINDS", "FEATURES", "ContextKind", "EncodedWindow", "Features", "HistoryText", "PromptEncoder",
    "PromptSettings", "TemplateSet", "Windows", "columns_of", "context_changes", "context_frame", "encode_text",
    "features_of", "identity_of", "load_templates", "plan_windows",
]  # fmt: skip
