"""Compiling a model for inference, part by part (torch.compile)."""

from torch import nn

from realsrt.models.transformer import ConditionBlock, MainBlock


def compile_for_inference(model: nn.Module) -> int:
    """Compile in place what the time goes into; returns how many parts that are. Parameters keep their names.

    Of the transformers each block by itself: all blocks of a kind share one compilation, and what goes on between them
    (which positions are still open) stays ordinary code. The convolutional parts as wholes. Everything is compiled for
    the shapes it meets first, windows of one size; the number of windows, or of open positions, becomes free when it
    changes.
    """
    whole = [getattr(model, "control", None)]
    tokenizer = getattr(model, "tokenizer", None)
    whole += [getattr(tokenizer, "encoder", None), getattr(tokenizer, "decoder", None)]
    blocks = [module for module in model.modules() if isinstance(module, MainBlock | ConditionBlock)]
    parts = [part for part in (*whole, *blocks) if part is not None]
    for part in parts:
        part.compile()
    return len(parts)
