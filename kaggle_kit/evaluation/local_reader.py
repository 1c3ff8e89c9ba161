"""Answers of a local decoder with its language-model head, greedy.

reader = LocalReader(*load_language_model(entry), max_output=512)
for answer in reader(prompts): ...
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kaggle_kit.evaluation.zero_shot import Answer, Prompt
from kaggle_kit.models.reading import usable_positions

ROWS = 8  # prompts that are read together
TOO_LONG, CUT = "prompts too long for the model", "answers cut off"


@dataclass(frozen=True)
class LocalReader:
    """A model and its tokenizer. `max_output`: tokens of one answer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_output: int

    def __call__(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """Return one answer per prompt, in order; a prompt that leaves no room for an answer is not read."""
        rows = [self._tokens(prompt) for prompt in prompts]
        answers = [Answer(None, TOO_LONG)] * len(rows)
        room = (usable_positions(self.model) or 10**9) - self.max_output
        order = sorted((n for n, row in enumerate(rows) if len(row) <= room), key=lambda n: len(rows[n]))
        for start in range(0, len(order), ROWS):
            places = order[start : start + ROWS]
            for place, answer in zip(places, self._generate([rows[p] for p in places]), strict=True):
                answers[place] = answer
        return answers

    def _tokens(self, prompt: Prompt) -> list[int]:
        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(
                list(prompt.messages), tokenize=False, add_generation_prompt=True
            )
            return self.tokenizer(text, add_special_tokens=False)["input_ids"]
        text = "\n\n".join(message["content"] for message in prompt.messages) + "\n\nAnswer: "
        return self.tokenizer(text, verbose=False)["input_ids"]

    @torch.inference_mode()
    def _generate(self, rows: Sequence[Sequence[int]]) -> list[Answer]:
        longest = max(map(len, rows))
        padding = [longest - len(row) for row in rows]
        ids = [[0] * pad + list(row) for pad, row in zip(padding, rows, strict=True)]
        kept = [[0] * pad + [1] * len(row) for pad, row in zip(padding, rows, strict=True)]
        end = self.tokenizer.eos_token_id
        made = self.model.generate(
            input_ids=torch.tensor(ids, device=self.model.device),
            attention_mask=torch.tensor(kept, device=self.model.device),
            max_new_tokens=self.max_output,
            do_sample=False,
            use_cache=True,
            pad_token_id=end if end is not None else 0,
        )[:, longest:]
        cut = [end is not None and end not in row for row in made.tolist()]
        texts = self.tokenizer.batch_decode(made, skip_special_tokens=True)
        return [Answer(text, CUT if was else "") for text, was in zip(texts, cut, strict=True)]
