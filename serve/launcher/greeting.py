"""What `whereupon serve` prints once it answers: where, and lines that can be run as they are."""

from __future__ import annotations

import json
import shlex
from textwrap import dedent

import numpy as np
import polars as pl

from ...histories import Histories
from ...prompts import PromptSettings, context_frame, load_templates

LINES = 3  # of a history, in the example of a prompt


def busiest_user(histories: Histories) -> int:
    """`user_idx` of the user with the most events: an example that shows something."""
    return int(np.diff(histories.offset_U1).argmax())


def example_prompt(histories: Histories, settings: PromptSettings) -> str:
    """The last events of the busiest user, as prompts tell them, up to the title of the last one."""
    user = busiest_user(histories)
    start, end = histories.offset_U1[user : user + 2].tolist()
    events = histories.events[max(start, end - LINES) : end]
    templates = load_templates(settings.template)
    texts, index = templates.render("context.j2", context_frame(events, histories.location))
    preamble, _ = templates.render("preamble.j2", pl.DataFrame({"_row": [0]}))
    titles = histories.items["title"].gather(events["item_idx"]).to_list()
    told = [f"{texts[i]} {title}" for i, title in zip(index, titles, strict=True)]
    return "\n".join([*preamble[0].rstrip().splitlines(), *told[:-1], texts[index[-1]]])


def greeting(url: str, name: str, user_id: str, prompt: str, key_variable: str | None) -> str:
    """The server's address, a ready `curl` and a ready Python snippet; `key_variable` holds the API key, if any."""
    body = shlex.quote(json.dumps({"user_id": user_id, "k": 5}, ensure_ascii=False))
    header = f' -H "Authorization: Bearer ${key_variable}"' if key_variable else ""
    key = f'os.environ["{key_variable}"]' if key_variable else '"none"'
    snippet = f"""\
        {"import os" if key_variable else ""}
        from openai import OpenAI

        client = OpenAI(base_url={json.dumps(url + "/v1")}, api_key={key})
        answer = client.completions.create(
            model={json.dumps(name, ensure_ascii=False)},
            prompt={json.dumps(prompt, ensure_ascii=False)},
            n=5,
            extra_body={{"vllm_xargs": {{"catalogue": {json.dumps(name, ensure_ascii=False)}}}}},
        )
        for choice in answer.choices:
            print(f"{{choice.probability:.3f}} {{choice.text}}")"""
    return "\n".join(
        [
            f"{name} is served at {url}",
            "",
            f"curl {url}/v1/recommendations{header} -H 'Content-Type: application/json' -d {body}",
            "",
            dedent(snippet).strip("\n"),
            "",
            "Ctrl-C stops.",
        ]
    )
