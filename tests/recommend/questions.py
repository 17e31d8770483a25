"""Questions and prompts from prepared events alone, as the tests use them."""

import polars as pl

from whereupon.histories import Histories
from whereupon.prompts import PromptEncoder
from whereupon.recommend.context import RequestContext, open_question
from whereupon.recommend.prompt import Prompt, prompt_of


def question(histories: Histories, user_id: str, context: RequestContext) -> pl.DataFrame:
    """`open_question` with the prepared events of a user. Raises DataError for an unknown user."""
    user = histories.user(user_id)
    start, end = histories.offset_U1[user : user + 2]
    return open_question(histories, histories.events[start:end], context)


def build_prompt(histories: Histories, encoder: PromptEncoder, user_id: str, context: RequestContext) -> Prompt:
    """The prompt from the prepared events of a user: the same windows and the same text as in training."""
    return prompt_of(encoder, question(histories, user_id, context))
