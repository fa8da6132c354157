"""Which decoder a network is written with, found out by asking it."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from rlhf.engines.cached_decoding import CachedDecoder
from rlhf.engines.decoding import Decoder, SharedPromptDecoder
from rlhf.engines.probes import CANNOT, tolerance


def chosen_decoder(network: PreTrainedModel) -> Decoder:
    """The fast one where it says what the network itself says, else transformers' own."""
    own = network.config._attn_implementation
    if own == "sdpa":
        fast = SharedPromptDecoder(network)
        if _agrees(fast, network):
            return fast
        network.set_attn_implementation(own)
    return CachedDecoder(network)


@torch.inference_mode()
def _agrees(decoder: Decoder, network: PreTrainedModel) -> bool:
    """Asked of three prompts of several lengths, with two samples each, of which some end early."""
    vocab_size = network.config.get_text_config().vocab_size
    texts = torch.randint(vocab_size, (6, 9), generator=torch.Generator().manual_seed(0)).to(network.device)
    lengths = (4, 4, 2, 2, 5, 5)
    texts[1::2, :5] = torch.stack([texts[row, :5] for row in (0, 2, 4)])
    rows = torch.arange(6, device=network.device)
    try:
        said = [decoder.start([texts[row, : lengths[row]].tolist() for row in (0, 2, 4)], [2, 2, 2])]
        for step in range(3):
            if step == 2:
                rows = rows[[0, 3, 4]]
                decoder.keep(rows)
            said.append(decoder.step(torch.stack([texts[row, lengths[row] + step] for row in rows])))
        decoder.end()
    except CANNOT:
        return False
    for number, row in enumerate((0, 3, 4)):
        logits = network(input_ids=texts[row : row + 1, : lengths[row] + 3], use_cache=False).logits[0]
        own = logits[lengths[row] - 1 :]
        ours = torch.stack([*(step[row] for step in said[:3]), said[3][number]])
        if not torch.allclose(ours.float(), own.float(), atol=tolerance(network.dtype), rtol=tolerance(network.dtype)):
            return False
    return True
