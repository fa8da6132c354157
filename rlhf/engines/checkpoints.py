"""An engine's state on disk: safetensors and JSON, never pickle. What is frozen is not written: its folder still is.

engine.safetensors   weight.NAME, exp_avg.NAME, exp_avg_sq.NAME, step.NAME for every trained parameter; random states
engine.json          format, role and steps
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rlhf.errors import RunError

FORMAT = 1
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def write_state(path: Path, tensors: dict[str, Tensor], *, role: str, steps: int) -> None:
    """Write the two files into the folder `path`, made where absent."""
    path.mkdir(parents=True, exist_ok=True)
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path / "engine.safetensors")
    (path / "engine.json").write_text(json.dumps({"format": FORMAT, "role": role, "steps": steps}) + "\n")


def read_state(path: Path, *, role: str) -> tuple[dict[str, Tensor], int]:
    """Tensors and the number of steps. Raises `RunError` where the files are missing, broken or of another role."""
    try:
        header = json.loads((path / "engine.json").read_text())
        tensors = load_file(path / "engine.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise RunError(f"cannot read the saved {role} in {path}: {error}") from error
    if header["format"] != FORMAT or header["role"] != role:
        raise RunError(f"{path} holds format {header['format']} of a {header['role']}, not format {FORMAT} of a {role}")
    return tensors, int(header["steps"])


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """By name, each once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def model_tensors(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, Tensor]:
    """Trained weights with their moments, and the random states."""
    tensors = random_states()
    for name, parameter in trained_parameters(model).items():
        tensors[f"weight.{name}"] = parameter.detach()
        moments = optimizer.state.get(parameter, {}) if optimizer else {}
        tensors.update({f"{moment}.{name}": moments[moment] for moment in MOMENTS if moment in moments})
    return tensors


@torch.no_grad()
def restore_model(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, tensors: dict[str, Tensor], path: Path
) -> None:
    """Put what `model_tensors` gave back. Raises `RunError`, nothing changed, where the trained weights are others."""
    trained = trained_parameters(model)
    shapes = {name: tuple(parameter.shape) for name, parameter in trained.items()}
    saved = {key.removeprefix("weight."): tuple(t.shape) for key, t in tensors.items() if key.startswith("weight.")}
    if differing := sorted(name for name in shapes.keys() | saved.keys() if shapes.get(name) != saved.get(name)):
        name = differing[0]
        there, here = saved.get(name, "absent"), shapes.get(name, "absent")
        raise RunError(f"{path} is of another model: {name} is {there} there and {here} here")
    for name, parameter in trained.items():
        parameter.copy_(tensors[f"weight.{name}"])
        if optimizer is not None:
            moments = {m: tensors[f"{m}.{name}"] for m in MOMENTS if f"{m}.{name}" in tensors}
            optimizer.state[parameter] = {m: t if m == "step" else t.to(parameter.device) for m, t in moments.items()}
    set_random_states(tensors)


def random_states() -> dict[str, Tensor]:
    """Only adapter dropout draws from them."""
    states = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["random.cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(tensors: dict[str, Tensor]) -> None:
    """Back to what `random_states` saw."""
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
