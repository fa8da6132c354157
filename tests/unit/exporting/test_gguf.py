"""GGUF is llama.cpp's to write: its converter is found, told what to do, and heard when it fails."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from rlhf.cli.exit_codes import run_command
from rlhf.errors import ConfigError, RunError
from rlhf.exporting.exported import Wanted, export
from rlhf.exporting.gguf import SCRIPT, VARIABLE, find_converter
from tests.unit.exporting.networks import small_llama

STAND_IN = """
import json, os, pathlib, sys
model, *options = sys.argv[1:]
told = dict(option.split('=', 1) for option in options)
files = sorted(p.name for p in pathlib.Path(model).iterdir())
told |= {"files": files, "offline": os.environ["HF_HUB_OFFLINE"], "python": sys.executable}
told["dtype"] = json.load(open(os.path.join(model, "config.json")))["dtype"]
pathlib.Path(told["--outfile"]).write_text(json.dumps(told))
"""


@pytest.fixture(autouse=True)
def _none_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.fixture
def converter(tmp_path: Path) -> Path:
    file = tmp_path / "llama.cpp" / SCRIPT
    file.parent.mkdir()
    file.write_text(STAND_IN)
    return file


# --- found -----------------------------------------------------------------------------------------------------------


def test_the_missing_tool_is_named(finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["export", str(finished_run), "--to", "gguf", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: --to gguf needs {SCRIPT} of llama.cpp, which is not here: git clone https://github")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_converter_is_an_option_or_a_variable_or_on_path(converter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_python = (sys.executable, str(converter))
    assert find_converter(converter).command == by_python
    assert find_converter(converter.parent).command == by_python
    converter.chmod(0o755)
    monkeypatch.setenv("PATH", str(converter.parent))
    assert find_converter(None).command == (str(converter),)
    monkeypatch.setenv(VARIABLE, str(converter.parent))
    assert find_converter(None).command == by_python


def test_a_converter_that_is_not_there_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--converter: no file"):
        find_converter(tmp_path / "typo.py")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(ConfigError, match=f"{VARIABLE}: no file {tmp_path / SCRIPT}"):
        find_converter(None)


# --- run -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "out_type"), [(None, "f32"), ("float16", "f16"), ("bfloat16", "bf16")])
def test_the_converter_is_told_what_to_write(
    finished_run: Path, tmp_path: Path, converter: Path, dtype: str | None, out_type: str
) -> None:
    out = tmp_path / "mine"
    export(str(finished_run), out, Wanted(to="gguf", dtype=dtype, converter=converter), lambda _: None)
    assert sorted(file.name for file in out.iterdir()) == ["README.md", f"mine-{out_type}.gguf"]
    told = json.loads((out / f"mine-{out_type}.gguf").read_text())
    assert told["--outtype"] == out_type
    assert told["--model-name"] == "mine"
    assert told["offline"] == "1"
    assert told["dtype"] == (dtype or "float32")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(told["files"])
    assert f"llama-cli -m mine-{out_type}.gguf" in (out / "README.md").read_text()


def test_weights_that_gguf_has_no_type_for_are_refused(run: Path, tmp_path: Path, converter: Path) -> None:
    file = run / "tuned" / "model" / "model.safetensors"
    save_file({name: tensor.double() for name, tensor in load_file(file).items()}, file)
    with pytest.raises(ConfigError, match=r"the weights are float64.*--dtype"):
        export(str(run), tmp_path / "out", Wanted(to="gguf", converter=converter), lambda _: None)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("raise NotImplementedError('no such tokenizer')", "ended with 1; it said:.*no such tokenizer"),
        ("print('all is well')", "wrote no file; it said:\nall is well"),
        ("import sys; sys.exit(3)", "ended with 3; it said:\nit printed nothing"),
    ],
)
def test_what_a_failing_converter_says_is_shown(
    finished_run: Path, tmp_path: Path, converter: Path, script: str, said: str
) -> None:
    converter.write_text(script)
    with pytest.raises(RunError, match=f"(?s){SCRIPT} {said}"):
        export(str(finished_run), tmp_path / "out", Wanted(to="gguf", converter=converter), lambda _: None)
    assert [file.name for file in tmp_path.iterdir()] == ["llama.cpp"]


# --- the real one ----------------------------------------------------------------------------------------------------

REAL = os.environ.get(VARIABLE)


@pytest.mark.skipif(not REAL, reason=f"needs llama.cpp's converter: set {VARIABLE}")
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_real_converter_writes_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    assert REAL
    real = Path(REAL)
    monkeypatch.syspath_prepend(str((real if real.is_dir() else real.parent) / "gguf-py"))
    gguf = pytest.importorskip("gguf")
    model = sentencepiece_llama(tmp_path / "model")
    out = tmp_path / "small"
    export(str(model), out, Wanted(to="gguf", dtype=dtype, converter=real), lambda _: None)
    (file,) = out.glob("*.gguf")
    reader = gguf.GGUFReader(file)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model)
    assert reader.fields["general.name"].contents() == "small"
    assert len(reader.fields["tokenizer.ggml.tokens"].contents()) == network.config.vocab_size
    stored = tensors["blk.1.ffn_down.weight"].data
    expected = network.model.layers[1].mlp.down_proj.weight.detach()
    import torch

    if dtype == "bfloat16":
        read = torch.from_numpy(stored.copy()).view(torch.bfloat16)
        assert torch.equal(read, expected.bfloat16())
    else:
        assert torch.equal(torch.from_numpy(stored.copy()), expected)


def sentencepiece_llama(folder: Path) -> Path:
    """A Llama with a vocabulary of the kind its family has: the converter knows no others."""
    sentencepiece = pytest.importorskip("sentencepiece")

    folder.mkdir()
    texts = folder.parent / "texts.txt"
    texts.write_text(
        "\n".join(f"the {a} sees a {b} by the {c}" for a in "catdog" for b in "sunmoon" for c in "seahill")
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(texts), model_prefix=str(folder / "tokenizer"), vocab_size=60, model_type="bpe", minloglevel=2,
        character_coverage=1.0, hard_vocab_limit=False,
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()
    size = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).vocab_size()
    small_llama(vocab_size=size, bos_token_id=1, eos_token_id=2, pad_token_id=0).save_pretrained(folder)
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
