"""The confidence that :class:`estimators.Confidence` reads off any server's replies, against the model's own.

    vllm serve FOLDER --port 8001 --max-logprobs 20 &
    python tests/benchmarks/served_confidence.py FOLDER RECORDS --url http://127.0.0.1:8001/v1

FOLDER is of ``candor export``, RECORDS of a probe of its checkpoint: the questions are asked again, greedily, by the
completions API with 20 likeliest tokens, and each reply is read twice: as the server sent it, and by a forward pass of
the model over the same text in float32.
"""

from __future__ import annotations

import argparse
import json

import openai
import pandas as pd

from estimators import Confidence
from rl.checkpoint import load_policy


def main() -> None:
    """Ask, read twice, and print what agreed as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("records")
    parser.add_argument("--url", required=True)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--max-tokens", type=int, default=16)
    options = parser.parse_args()
    client = openai.OpenAI(base_url=options.url, api_key="none", max_retries=0)
    name = client.models.list().data[0].id
    confidence = Confidence.load(options.folder)
    model, tokenizer = load_policy(options.folder)
    model.eval()
    records = pd.read_parquet(options.records).drop_duplicates("question_id").head(options.questions)
    pairs, same_text = [], 0
    for prompt, written in zip(records["prompt"], records["completion"], strict=True):
        reply = client.completions.create(
            model=name, prompt=prompt, max_tokens=options.max_tokens, temperature=0.0, logprobs=20
        )
        text = reply.choices[0].text
        same_text += text == written
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        pairs.append(
            (confidence.of_response(reply), confidence.of_model(model, tokenizer, tokenizer(prompt)["input_ids"], ids))
        )
    both = [pair for pair in pairs if {each["source"] for each in pair} == {"measured"}]
    found = {
        "questions": len(pairs),
        "texts that are the probe's": same_text,
        "measured off the server and off the model": len(both),
        "of the same source": sum(one["source"] == other["source"] for one, other in pairs),
        "largest difference": max((abs(one["confidence"] - other["confidence"]) for one, other in both), default=None),
        "of the same decision": sum(one["decision"] == other["decision"] for one, other in pairs),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
