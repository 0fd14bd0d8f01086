"""Generate with ISO or SPD on all GPUs: torchrun --nproc-per-node 4 examples/generate.py ./llama"""

import argparse
import os

from transformers import AutoTokenizer

import isotune


def main() -> None:
    """Continue a few prompts and print them on rank 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="Hugging Face folder with weights and a tokenizer")
    parser.add_argument("--policy", help="policy.yaml or plan.yaml; serial without")
    parser.add_argument("--tokens", type=int, default=32, help="new tokens of each prompt")
    parser.add_argument("--temperature", type=float, help="draw tokens; the likeliest without")
    parser.add_argument("--prompt", action="append", help="may be given several times")
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(options.folder)
    prompts = options.prompt or ["The capital of France is", "Two all-reduces per block"]
    sampling = options.temperature and isotune.Sampling(temperature=options.temperature)
    model = isotune.load(options.folder, options.policy)
    ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    found = model.generate(
        ids, options.tokens, sampling=sampling or None, end=tokenizer.eos_token_id
    )
    if os.environ.get("RANK", "0") == "0":
        for prompt, tokens in zip(prompts, found, strict=True):
            print(prompt + tokenizer.decode(tokens, skip_special_tokens=True))


if __name__ == "__main__":
    main()
