"""vLLM's offline `LLM.beam_search` under structured outputs, in a process of its own.

    python bench/serve_offline.py JOB.json FOUND.json

In vLLM 0.32 `BeamSearchParams` takes `structured_outputs` and the offline search honours them (the online one has no
such field): the grammar of the titles is compiled or looked up again for every beam at every step, the beam's tokens
are replayed in it, and of the 20 most probable tokens of the *unmasked* distribution those that it forbids are dropped.
Which ways of saying "one of these titles" give titles is tried first; of these the fastest is measured:

    backend    form      what vLLM 0.32 makes of it
    auto       choice    the default, refused: the search resolves no "auto"
    xgrammar   choice    refused: a choice is turned into a grammar where requests are validated, not here
    guidance   choice    taken, but beyond 2,000 titles llguidance's parser gives up and each text ends after a token
    xgrammar   grammar   taken: the same alternatives, written as EBNF by vLLM's own `choice_as_grammar`

The model ends a title by the end of the line, which is no end-of-sequence token. Under a `choice` only such a token may
end the text, so the search gets a tokenizer whose end-of-sequence token is the titles' terminator: scores are then
those of whole titles, with no step or noise of a token that the model never learnt to write.

At a beam width of ten, which is what one would ask for ten titles with, many of the ten beams end as no title. So the
width is doubled until every answer has ten titles: that is what the same answer costs there (`whole`).

Several prompts at once are given to one call, which is what concurrency means here; all wait for the last.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serve_load import Answer, K, Phase, Timed
from serve_processes import ENVIRONMENT, STOCK
from serve_questions import Question, Task

WIDTHS, AT_ONCE = (2 * K, 4 * K, 8 * K, 16 * K), 8
WAYS = (("auto", "choice"), ("xgrammar", "choice"), ("guidance", "choice"), ("xgrammar", "grammar"))

Found = dict[str, Any]


def measure(
    weights: str, dtype: str, task: Task, plan: dict[int, int], limit_s: float, log: Path
) -> tuple[list[Phase], Found]:
    """Phases at each concurrency of `plan` (to number of prompts) that fit into `limit_s`, and what was tried.

    Raises RuntimeError where the process fails.
    """
    job = {
        "weights": weights, "dtype": dtype, "limit_s": limit_s, "titles": task.titles, "item_ids": task.item_ids,
        "title_tokens": task.title_tokens, "plan": list(plan.items()),
        "questions": [asdict(question) for question in task.questions[: max(plan.values())]],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, log.open("wb") as output:
        paths = [Path(folder) / "asked.json", Path(folder) / "found.json"]
        paths[0].write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, __file__, *map(str, paths)]
        environment = {**os.environ, **ENVIRONMENT, **STOCK}
        if subprocess.run(command, stdout=output, stderr=output, env=environment).returncode:
            tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"The offline beam search failed; {log} ends:\n{tail}")
        found = json.loads(paths[1].read_text(encoding="utf-8"))
    phases = [
        Phase(one["concurrency"], one["wall_s"], [
            Timed(timed["row"], timed["latency_s"], Answer(**timed["answer"])) for timed in one["timed"]
        ])
        for one in found["phases"]
    ]  # fmt: skip
    return phases, {name: found[name] for name in ("ways", "not_measured", "whole")}


def main() -> None:
    """Try the ways, measure the fastest, write what was found."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    questions = [Question(**question) for question in job["questions"]]
    with tempfile.TemporaryDirectory() as folder:
        search = Search(job, Path(folder))
        ways = [search.tried(backend, form, questions[-1]) for backend, form in WAYS]
        found: Found = {"ways": ways, "phases": [], "not_measured": {}, "whole": []}
        if way := best_way(ways):
            ask = search.bound(way["backend"], way["form"])
            found |= phases_within(job["limit_s"], dict(job["plan"]), questions, ask, way["seconds"])

            def wider(width: int) -> list[Answer]:
                return search.bound(way["backend"], way["form"], width)(questions[:AT_ONCE])

            found["whole"] = until_whole(wider, job["limit_s"])
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


def best_way(ways: list[Found]) -> Found | None:
    """The fastest of those most of whose results are titles; None where there is none."""
    taken = [way for way in ways if way.get("num_titles", 0) > way.get("num_results", 0) / 2]
    return min(taken, key=lambda way: float(way["seconds"]), default=None)


def phases_within(
    limit_s: float, plan: dict[int, int], questions: list[Question],
    ask: Callable[[list[Question]], list[Answer]], seconds_each: float,
) -> Found:  # fmt: skip
    """The phases that are expected to end within `limit_s` of the first, each by the pace of the one before."""
    phases: list[Phase] = []
    not_measured: dict[str, str] = {}
    began = time.perf_counter()
    for concurrency, num in plan.items():
        expected_s = num * seconds_each
        if time.perf_counter() - began + expected_s > limit_s:
            not_measured[str(concurrency)] = f"{num} prompts would have taken some {expected_s / 60:.0f} minutes"
            continue
        phase = Phase(concurrency, 0.0, [])
        for start in range(0, num, concurrency):
            batch = questions[start : min(start + concurrency, num)]
            batch_began = time.perf_counter()
            answers = ask(batch)
            latency_s = time.perf_counter() - batch_began
            timed = [Timed(q.row, latency_s, answer) for q, answer in zip(batch, answers, strict=True)]
            phase = Phase(concurrency, phase.wall_s + latency_s, phase.timed + timed)
        seconds_each = phase.wall_s / num
        phases.append(phase)
    return {"phases": [asdict(phase) for phase in phases], "not_measured": not_measured}


def until_whole(ask: Callable[[int], list[Answer]], limit_s: float) -> list[Found]:
    """Time and completeness of answers at each width, until all of them have K titles or `limit_s` is over."""
    tried: list[Found] = []
    began = time.perf_counter()
    for width in WIDTHS:
        width_began = time.perf_counter()
        answers = ask(width)
        wall_s = time.perf_counter() - width_began
        num_titles = [len({item for item in answer.item_ids if item is not None}) for answer in answers]
        share = sum(num >= K for num in num_titles) / len(answers)
        tried.append({"width": width, "concurrency": len(answers), "wall_s": wall_s,
                      "requests_per_s": len(answers) / wall_s, "share_with_ten": share,
                      "titles_mean": sum(num_titles) / len(answers)})  # fmt: skip
        if share == 1 or time.perf_counter() - began + 2 * wall_s > limit_s:
            break
    return tried


class Search:
    """`LLM.beam_search` of width 10 over titles, everything but dtype and tokenizer as it comes."""

    def __init__(self, job: Found, folder: Path) -> None:
        from vllm import LLM

        (terminator,) = {tokens[-1] for tokens in job["title_tokens"]}
        tokenizer = _ending_at(terminator, Path(job["weights"]), folder)
        self.llm = LLM(model=job["weights"], tokenizer=str(tokenizer), dtype=job["dtype"],
                       max_logprobs=2 * max(WIDTHS))  # fmt: skip
        self.terminator, self.max_tokens = terminator, max(map(len, job["title_tokens"]))
        self.titles = [f" {title}" for title in job["titles"]]
        self.item_of = dict(zip(job["titles"], job["item_ids"], strict=True))

    def tried(self, backend: str, form: str, question: Question) -> Found:
        """Whether vLLM takes the titles so, and how long an answer then takes, the second time."""
        ask, way = self.bound(backend, form), {"backend": backend, "form": form}
        try:
            ask([question])
        except Exception as error:  # whatever it is, it is the finding
            return {**way, "refused": f"{type(error).__name__}: {error}".splitlines()[0]}
        began = time.perf_counter()
        (answer,) = ask([question])
        num_titles = sum(item is not None for item in answer.item_ids)
        return {**way, "seconds": time.perf_counter() - began, "num_results": len(answer.item_ids),
                "num_titles": num_titles}  # fmt: skip

    def bound(self, backend: str, form: str, width: int = K) -> Callable[[list[Question]], list[Answer]]:
        """Answers to some prompts at once, none of which is in the prefix cache when they are sent."""
        from vllm.sampling_params import BeamSearchParams, StructuredOutputsParams
        from vllm.v1.structured_output.utils import choice_as_grammar

        said: Any = {"choice": self.titles} if form == "choice" else {"grammar": choice_as_grammar(self.titles)}

        def ask(questions: list[Question]) -> list[Answer]:
            # As LLM(structured_outputs_config={"backend": ...}) has it; beam search reads it here, at each call.
            self.llm.llm_engine.vllm_config.structured_outputs_config.backend = backend
            self.llm.reset_prefix_cache()
            params = BeamSearchParams(
                beam_width=width, max_tokens=self.max_tokens, temperature=0.0, length_penalty=0.0,
                structured_outputs=StructuredOutputsParams(**said),
            )  # fmt: skip
            prompts: Any = [{"prompt_token_ids": question.tokens} for question in questions]
            outputs = self.llm.beam_search(prompts, params)
            return [
                self._answer(output, len(question.tokens)) for output, question in zip(outputs, questions, strict=True)
            ]

        return ask

    def _answer(self, output: Any, num_read: int) -> Answer:
        """The sequences that end as a title does, by their text: a title may be written in several tokens."""
        tokenizer, items = self.llm.get_tokenizer(), []
        for sequence in output.sequences:
            tokens = sequence.tokens[num_read:]
            whole = bool(tokens) and tokens[-1] == self.terminator
            items.append(self.item_of.get(tokenizer.decode(tokens[:-1]).strip()) if whole else None)
        return Answer(items, [sequence.cum_logprob for sequence in output.sequences])


def _ending_at(terminator: int, weights: Path, folder: Path) -> Path:
    """The tokenizer of `weights` with another end-of-sequence token, in `folder`."""
    for name in ("tokenizer.json", "config.json"):
        shutil.copy(weights / name, folder)
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    (token,) = (token for token, index in vocabulary.items() if index == terminator)
    settings = json.loads((weights / "tokenizer_config.json").read_text(encoding="utf-8"))
    text = json.dumps({**settings, "eos_token": token})
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
    return folder


if __name__ == "__main__":
    main()
