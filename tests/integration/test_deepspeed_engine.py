"""ZeRO in any stage, on any number of processes, takes the steps the torch engine takes."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf.config import ModelConfig, OptimizerConfig, RoleSpec
from rlhf.engines.settings import DeepSpeedConfig, TorchConfig
from rlhf.errors import ConfigError, ResourceError
from tests.integration.deepspeed_worker import CASES, LENGTHS, _case, one_more, outputs, steps, weights, work
from tests.integration.uneven_ranks import STAGES, UNEVEN, uneven
from tests.unit.engines.families import make_batch, write_model
from tests.unit.engines.losses import Likelihood

pytestmark = [pytest.mark.deepspeed, pytest.mark.slow]


def torch_engine(case, model):
    from rlhf.engines.torch_engine import TorchEngine

    return TorchEngine(TorchConfig(), case.spec(model))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return write_model("llama-tied", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def expected(model):
    """Metrics, weights and outputs of the torch engine for each kind of case."""
    found = {}
    for case in CASES:
        if (case.role, str(case.lora)) not in found:
            engine = torch_engine(case, model)
            found[case.role, str(case.lora)] = (steps(engine), weights(engine), outputs(engine))
    return found


@pytest.fixture(scope="session")
def torch_checkpoint(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("torch-checkpoint")
    engine = torch_engine(CASES[0], model)
    steps(engine)
    engine.save(folder)
    return str(folder)


@pytest.fixture(scope="session")
def results(model, torch_checkpoint, tmp_path_factory):
    """The folder both groups of processes wrote to, each started once for all its cases."""
    out = tmp_path_factory.mktemp("results")
    for world_size in (1, 2):
        arguments = (world_size, free_port(), model, torch_checkpoint, str(out))
        torch.multiprocessing.spawn(work, arguments, nprocs=world_size)
    return out


def report(results, case, rank=0):
    return json.loads((results / case.name / f"report-{rank}.json").read_text())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_steps_are_those_of_the_torch_engine(results, expected, case):
    metrics, trained, seen = expected[case.role, str(case.lora)]
    for rank in range(case.world_size):
        for ours, theirs in zip(report(results, case, rank)["metrics"], metrics, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    ours = load_file(results / case.name / "weights.safetensors")
    assert ours.keys() == trained.keys()
    for name, theirs in trained.items():
        torch.testing.assert_close(ours[name], theirs, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    ours = load_file(results / case.name / "outputs.safetensors")
    for name, theirs in seen.items():
        torch.testing.assert_close(ours[name], theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_saving_and_loading_changes_no_bit(results, case):
    for rank in range(case.world_size):
        assert report(results, case, rank)["resume is exact"] == [True, True, True]


@pytest.mark.parametrize("case", [case for case in CASES if case.role == "policy"], ids=lambda case: case.name)
def test_fingerprints_are_those_of_the_whole_weights_in_every_process(results, case):
    assert all(report(results, case, rank)["fingerprints agree"] for rank in range(case.world_size))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exports_load_in_transformers(results, case):
    kind = AutoModelForSequenceClassification if case.role == "reward" else AutoModelForCausalLM
    network = kind.from_pretrained(results / case.name / "export").eval()
    trained = load_file(results / case.name / "weights.safetensors")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, trained[name]), name


def test_the_reference_of_adapters_is_the_model_before_training(results, model):
    case = next(case for case in CASES if case.lora)
    untouched = torch_engine(_case("", 1), model).forward(make_batch(LENGTHS, width=14)).logprobs
    seen = load_file(results / case.name / "outputs.safetensors")
    torch.testing.assert_close(seen["base"], untouched, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(seen["logprobs"], untouched, atol=1e-3)


def test_a_step_that_is_not_finite_leaves_no_trace_in_any_stage(results):
    for rank in range(2):
        seen = json.loads((results / f"once-{rank}.json").read_text())["skipped"]
        assert len(seen) == 12
        assert seen == {case: [True, True, True] for case in seen}  # skipped; weights kept; the next step as without it


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_nan_in_one_micro_batch_of_one_rank_skips_the_step_of_both(results, stage, what):
    seen = [json.loads((results / f"once-{rank}.json").read_text())["poisoned"][f"{stage} {what}"] for rank in range(2)]
    met = [found.pop("met") for found in seen]
    assert sorted(map(bool, met)) == [False, True], "one rank alone meets it"
    assert 0 < max(map(max, filter(None, met))) < len(LENGTHS) / 2, "in one of its micro-batches"
    assert seen[0] == seen[1]
    problem = "loss is nan" if what == "loss" else "gradient norm is nan though its loss is finite"
    ended = seen[0].pop("ended")
    assert ended.startswith(f"the policy's {problem} in optimizer step 2, 3 times in a row; no such step was taken.")
    assert seen[0] == {
        "skipped": [{"policy/skipped": 1.0}] * 2,
        "weights kept": True,
        "saved is finite": True,
        "steps": 1,
    }
    batches = sorted((results / "poisoned" / f"{stage} {what}" / "not_finite").iterdir())
    assert [path.name for path in batches] == [f"policy-step-2-{number}.safetensors" for number in (1, 2, 3)]
    assert torch.equal(load_file(batches[0])["tokens"], make_batch(LENGTHS).tokens)  # the whole batch, written once


@pytest.mark.parametrize("stage", STAGES)
def test_a_rank_with_nothing_to_learn_takes_the_same_steps(results, model, stage):
    """Every process meets the others in every collective, whatever its rows hold."""
    from rlhf.engines.torch_engine import TorchEngine

    spec = RoleSpec(role="policy", model=ModelConfig(path=model), optimizer=OptimizerConfig(lr=1e-2, eps=1e-3))
    alone = TorchEngine(TorchConfig(), spec)
    expected = [alone.train_step(uneven(learns), Likelihood()) for learns in UNEVEN.values()]
    goes_on = alone.train_step(uneven(UNEVEN["all"]), Likelihood())
    for rank in range(2):
        found = json.loads((results / f"once-{rank}.json").read_text())["idle"]
        for ours, theirs in zip(found[str(stage)], expected, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
        assert found[f"{stage} refused"] == "the batch has nothing to train on: Likelihood counts 0.0"
        assert found[f"{stage} goes on"] == pytest.approx(goes_on, rel=1e-4, abs=1e-6)


def test_what_the_torch_engine_saved_continues_in_any_stage(results, model, torch_checkpoint):
    engine = torch_engine(CASES[0], model)
    engine.load(Path(torch_checkpoint))
    one_more(engine)
    loss = one_more(engine)["policy/loss"]
    losses = json.loads((results / "once-1.json").read_text())["resumed"]
    assert losses == pytest.approx([loss] * 3, rel=1e-4)


def test_what_zero_saved_continues_in_the_torch_engine(results, model, expected):
    case = next(case for case in CASES if case.name == "two, stage 3")
    engine = torch_engine(case, model)
    engine.load(results / case.name / "saved")
    straight = torch_engine(case, model)
    steps(straight)
    assert one_more(engine) == pytest.approx(one_more(straight), rel=1e-4)


@pytest.mark.parametrize("role", ["reference", "reward"])
def test_a_frozen_role_says_the_same_spread_over_processes(results, model, role):
    from rlhf.engines.torch_engine import TorchEngine

    alone = TorchEngine(TorchConfig(), RoleSpec(role=role, model=ModelConfig(path=model)))
    wanted = next(iter(outputs(alone, make_batch(LENGTHS)).values())).flatten()
    for rank in range(2):
        found = json.loads((results / f"once-{rank}.json").read_text())["frozen"]
        for stage in (2, 3):
            torch.testing.assert_close(torch.tensor(found[f"{role} {stage}"]), wanted, atol=1e-5, rtol=1e-5)


def test_bfloat16_trains_in_every_stage(results):
    losses = json.loads((results / "once-0.json").read_text())["bfloat16"]
    assert losses["0"][-1] < 0.8 * losses["0"][0]
    for stage in ("2", "3"):
        assert losses[stage] == pytest.approx(losses["0"], rel=0.03)


def test_options_that_do_not_go_together_are_refused(model):
    from rlhf.engines.deepspeed_engine import DeepSpeedEngine

    with pytest.raises(ConfigError, match="offload_parameters needs zero_stage 3; zero_stage is 2"):
        DeepSpeedEngine(DeepSpeedConfig(offload_parameters=True), CASES[0].spec(model))
    with pytest.raises(ConfigError, match="offload_optimizer needs zero_stage 1, 2 or 3"):
        DeepSpeedEngine(DeepSpeedConfig(zero_stage=0, offload_optimizer=True), CASES[0].spec(model))


def test_a_machine_without_a_compiler_is_told_so(model, monkeypatch):
    from rlhf.engines.deepspeed_engine import DeepSpeedEngine

    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ResourceError, match="no compiler 'no-such-compiler': install g"):
        DeepSpeedEngine(DeepSpeedConfig(), CASES[0].spec(model))


def test_a_group_without_an_address_is_refused(model, monkeypatch):
    from rlhf.engines.deepspeed_engine import DeepSpeedEngine

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ConfigError, match="WORLD_SIZE is 2 but MASTER_ADDR and MASTER_PORT are not set"):
        DeepSpeedEngine(DeepSpeedConfig(), CASES[0].spec(model))
