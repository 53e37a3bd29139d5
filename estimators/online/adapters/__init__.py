"""What connects the core to an engine: transformers' generation, vLLM's logits processors, streams over HTTP."""
