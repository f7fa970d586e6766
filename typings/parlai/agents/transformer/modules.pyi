from typing import Any

import torch
from torch import Tensor

class TransformerEncoder(torch.nn.Module):
    def __init__(self, opt: Any, vocabulary_size: int, *args: Any, **kwargs: Any) -> None: ...
    def forward_embedding(self, input: Tensor) -> tuple[Tensor, Tensor]: ...
    def forward_layers(self, tensor: Tensor, mask: Tensor) -> Tensor: ...

class TransformerGeneratorModel(torch.nn.Module):
    embeddings: torch.nn.Embedding
    pad_idx: int
    encoder: Any
    decoder: Any

    def __init__(self, opt: Any, dictionary: Any, **kwargs: Any) -> None: ...
