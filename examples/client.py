"""Five titles from a running `whereupon serve`, by the ordinary OpenAI client.

    whereupon prompt show CONFIG --user U --ids | python examples/client.py [U]

The prompt comes on stdin as a JSON list of token ids. With `priors`, the rankers use the history of user U;
without U they know what is popular. OPENAI_BASE_URL says where the server is, OPENAI_API_KEY its
key. Takes a second; expect five lines of rank, probability, title and item id.
"""

import json
import os
import sys

from openai import OpenAI


def main() -> None:
    client = OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
    )
    name = client.models.list().data[0].id  # the catalogue is called like the model
    answer = client.completions.create(
        model=name,
        prompt=json.load(sys.stdin),
        n=5,
        user=sys.argv[1] if len(sys.argv) > 1 else "",
        extra_body={"vllm_xargs": {"catalogue": name}},
    )
    for rank, choice in enumerate(answer.choices, start=1):
        found = choice.model_dump()  # beside OpenAI's fields, whereupon adds some
        print(f"{rank}  {found['probability']:6.1%}  {found['text']}  ({found['item_id']})")


if __name__ == "__main__":
    main()
