"""Few weights that change what an encoder says, beside an encoder that stays as it was.

adapter/
    adapter_config.json          peft's, or of a bottleneck its kind and width
    adapter_model.safetensors    its weights

LoRA (Hu et al., 2021), AdaLoRA (Zhang et al., 2023) and prefixes (Li and Liang, 2021) are peft's. A bottleneck is not
among what peft has: one after each layer, where Houlsby et al. (2019: Parameter-Efficient Transfer Learning for NLP)
have two inside it.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llmrec_spark.adapter_config import AdapterConfig
from llmrec_spark.errors import ModelError

FOLDER, CONFIG, WEIGHTS = "adapter", "adapter_config.json", "adapter_model.safetensors"
ADAPTER_FILES = (f"{FOLDER}/{CONFIG}", f"{FOLDER}/{WEIGHTS}")  # below the folder of an encoder
PREFIX = "PREFIX_TUNING"  # peft's name; the only kind that cannot become a part of the weights
ADALORA = "ADALORA"
ORTHOGONALITY = 0.5  # its weight in AdaLoRA's loss, peft's default


class Bottlenecks(nn.Module):
    """After each layer of an encoder, what a narrow layer makes of its output is added to it; at first nothing."""

    def __init__(self, encoder: Any, width: int) -> None:
        super().__init__()
        layers, size = _layers(encoder), encoder.config.hidden_size
        self.width = width
        self.down = nn.ModuleList(nn.Linear(size, width) for _ in layers)
        self.up = nn.ModuleList(nn.Linear(width, size) for _ in layers)
        for weight in self.up.parameters():
            nn.init.zeros_(weight)
        for number, layer in enumerate(layers):
            layer.register_forward_hook(lambda _module, _given, output, n=number: self._added(n, output))

    def _added(self, number: int, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output  # (B, L, D)
        hidden = hidden + self.up[number](nn.functional.gelu(self.down[number](hidden)))
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def _layers(encoder: Any) -> nn.ModuleList:
    """The layers of an encoder: its list of as many modules as its configuration says."""
    for module in encoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == encoder.config.num_hidden_layers:
            return module
    raise ModelError(
        f"encoder ({type(encoder).__name__}): has no list of {encoder.config.num_hidden_layers} layers, expected one "
        "for an adapter. Choose adapter.kind full."
    )


def new_adapter(encoder: Any, settings: AdapterConfig, *, steps: int) -> tuple[Any, nn.Module]:
    """An encoder that is to learn for `steps`, and the module whose weights with a gradient do; the others are frozen.

    `encoder` is changed. With kind full both are the encoder.
    """
    torch.manual_seed(settings.seed)
    if settings.kind == "full":
        return encoder, encoder
    for weight in encoder.parameters():
        weight.requires_grad_(False)
    if settings.kind == "bottleneck":
        return encoder, Bottlenecks(encoder, settings.rank)
    import peft  # seconds to import

    with _quietly():
        adapted = peft.get_peft_model(encoder, _peft_config(encoder, settings, steps))
    return adapted, adapted


def _peft_config(encoder: Any, settings: AdapterConfig, steps: int) -> Any:
    import peft

    task = peft.TaskType.FEATURE_EXTRACTION
    if settings.kind == "prefix":
        if "past_key_values" not in inspect.signature(encoder.forward).parameters:
            raise ModelError(f"encoder ({type(encoder).__name__}): reads no prefix. Choose another adapter.kind.")
        return peft.PrefixTuningConfig(task_type=task, num_virtual_tokens=settings.prefix_tokens)
    linear: dict[str, Any] = {"task_type": task, "target_modules": _linear(encoder), "lora_dropout": settings.dropout}
    if settings.kind == "lora":
        return peft.LoraConfig(r=settings.rank, lora_alpha=2 * settings.rank, **linear)
    ranks: dict[str, Any] = {"init_r": 2 * settings.rank, "target_r": settings.rank, "deltaT": 1}
    cuts: dict[str, Any] = {"tinit": steps // 10, "tfinal": steps // 3, "total_step": steps}  # first, steps after last
    return peft.AdaLoraConfig(lora_alpha=4 * settings.rank, **ranks, **cuts, **linear)


def _linear(encoder: Any) -> list[str]:
    """The names of the linear maps inside the layers; a pooler or a head, which nobody reads, is none of them."""
    from transformers.pytorch_utils import Conv1D

    inside = {id(module) for module in _layers(encoder).modules() if isinstance(module, (nn.Linear, Conv1D))}
    return [name for name, module in encoder.named_modules() if id(module) in inside]


def learning(module: nn.Module) -> dict[str, Tensor]:
    """The weights that learn, by name."""
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}


def after_step(adapter: Any, step: int) -> None:
    """What AdaLoRA does between the step's update, counted from 0, and the clearing of gradients: it moves ranks."""
    if getattr(adapter, "peft_type", None) == ADALORA:
        adapter.base_model.update_and_allocate(step)


def orthogonality(adapter: nn.Module) -> Tensor | float:
    """What AdaLoRA's loss has beside: how far its singular vectors are from orthogonal ones, ||P'P - I|| of each."""
    if getattr(adapter, "peft_type", None) != ADALORA:
        return 0.0
    distances = []
    for name, weight in adapter.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            product = weight @ weight.T if "lora_A" in name else weight.T @ weight
            distances.append(torch.norm(product - torch.eye(len(product), device=weight.device)))
    return ORTHOGONALITY * torch.stack(distances).mean()


def save_adapter(adapter: Any, folder: Path) -> None:
    """Writes an adapter of new_adapter, of any kind but full, into `folder`/adapter."""
    place = folder / FOLDER
    if isinstance(adapter, Bottlenecks):
        place.mkdir(parents=True)
        said = {"kind": "bottleneck", "width": adapter.width}
        (place / CONFIG).write_text(json.dumps(said, indent=1), encoding="utf-8")
        save_file({name: weight.contiguous() for name, weight in adapter.state_dict().items()}, place / WEIGHTS)
    else:
        adapter.save_pretrained(str(place), safe_serialization=True)
        (place / "README.md").unlink(missing_ok=True)
        said = json.loads((place / CONFIG).read_bytes())
        said |= dict.fromkeys(("base_model_name_or_path", "peft_version"))  # no matter of what it says
        said |= {name: sorted(value) for name, value in said.items() if isinstance(value, list)}  # they were sets
        (place / CONFIG).write_text(json.dumps(said, indent=1, sort_keys=True), encoding="utf-8")
    (place / WEIGHTS).chmod(0o644)  # safetensors lets only the owner read


def is_adapted(folder: Path) -> bool:
    """Whether an adapter lies beside the encoder in `folder`."""
    return (folder / FOLDER).is_dir()


def with_adapter(encoder: Any, folder: Path) -> Any:
    """The encoder with the adapter beside it in `folder`, if there is one; made part of the weights where it can be."""
    if not is_adapted(folder):
        return encoder
    place = folder / FOLDER
    lacks = [name for name in ADAPTER_FILES if not (folder / name).is_file()]
    if lacks:  # peft would look for a pickle, and on the hub
        raise ModelError(f"encoder {folder}: lacks {', '.join(lacks)}, expected both or no {FOLDER}/. Adapt it again.")
    said = json.loads((place / CONFIG).read_bytes())
    if said.get("kind") == "bottleneck":
        bottlenecks = Bottlenecks(encoder, int(said["width"]))
        bottlenecks.load_state_dict(load_file(place / WEIGHTS))
        encoder.add_module("bottlenecks", bottlenecks)  # so that they go where it goes; its hooks call them
        return encoder
    import peft

    with _quietly():
        adapted = peft.PeftModel.from_pretrained(encoder, str(place), torch_device="cpu")
        return adapted if said["peft_type"] == PREFIX else adapted.merge_and_unload()


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what peft warns of: names of transformers that will change, ranks that AdaLoRA made 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
